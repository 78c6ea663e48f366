import copy

import pytest
import torch
from tiny_training import TINY, tiny_model

from audioflamingo.model.attention import Packing
from audioflamingo.model.decoder import CausalContext, rotary_tables
from audioflamingo.train import lean
from audioflamingo.train.attention import TrainingContext, attend_rounded
from audioflamingo.train.collate import PackedBatch
from audioflamingo.train.lean import make_lean
from audioflamingo.train.lora import LoraConfig, add_lora
from audioflamingo.train.loss import AnswerLoss, recompute_activations
from audioflamingo.train.pointwise import pointwise


def pack(lengths=(23, 40)):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(TINY.audio_token_id - 5, (sum(lengths),), generator=generator)
    ids[3:28] = TINY.audio_token_id
    places = torch.arange(30, sum(lengths) - 1)
    return PackedBatch(ids, lengths, places, ids[places + 1], torch.randn(1, 128, 102, generator=generator), [100])


def model_with(config):
    """A base with adapters of random values, so that all their gradients are of some size."""
    model = tiny_model()
    add_lora(model, config, seed=3) if config else model.requires_grad_(False)
    model.projector.requires_grad_(True)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_b"):
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
            if name.endswith(("q_proj.base.bias", "v_proj.bias")):
                parameter.fill_(0.1)
    return model.double()


def gradients(model, seed=0):
    loss = AnswerLoss(model).train()
    torch.manual_seed(seed)
    total = loss(pack())
    total.backward()
    return total.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


CONFIGS = [
    LoraConfig(rank=4, alpha=6.0, dropout=0.0),
    LoraConfig(rank=2, alpha=4.0, dropout=0.0, targets=("q_proj", "v_proj", "up_proj")),
    LoraConfig(rank=3, alpha=2.0, dropout=0.0, targets=("down_proj",)),
    None,
]


@pytest.mark.parametrize("config", CONFIGS, ids=["all", "some", "down", "none"])
@pytest.mark.parametrize("chunk", [4_096, 17])
def test_lean_layers_give_what_the_plain_ones_give(config, chunk, monkeypatch):
    monkeypatch.setattr(lean, "CHUNK_ROWS", chunk)
    plain = model_with(config)
    ours = copy.deepcopy(plain)
    make_lean(ours.decoder)
    assert ours.state_dict().keys() == plain.state_dict().keys()
    expected, found = gradients(plain), gradients(ours)
    torch.testing.assert_close(found[0], expected[0])
    assert found[1].keys() == expected[1].keys()
    assert len(found[1]) >= 4
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, msg=name)
        assert gradient.abs().max() > 0


def test_the_gradient_is_that_of_the_masked_function():
    """With dropout there is no plain twin; same seed, same mask: differences of the output must give the gradient."""
    model = model_with(LoraConfig(rank=2, alpha=4.0, dropout=0.3))
    make_lean(model.decoder)
    layer = model.decoder.layers[0].train()
    generator = torch.Generator().manual_seed(2)
    x, wanted = torch.randn(2, 40, 32, dtype=torch.float64, generator=generator)
    packing = Packing.of((15, 25), torch.device("cpu"))
    tables = rotary_tables(packing.positions, 16, 1e4, torch.float64)

    def value(x):
        torch.manual_seed(0)
        return (layer(x, *tables, CausalContext(packing)) * wanted).sum()

    x.requires_grad_(True)
    value(x).backward()
    places = [
        ("self_attn.q_proj.lora_a", (1, 1)), ("self_attn.o_proj.lora_b", (3, 0)), ("mlp.up_proj.lora_b", (5, 1)),
        ("mlp.gate_proj.lora_a", (0, 7)), ("mlp.down_proj.lora_a", (1, 9)), ("mlp.down_proj.lora_b", (2, 1)),
    ]  # fmt: skip
    checked = [(layer.get_parameter(name), place) for name, place in places]
    for tensor, place in [*checked, (x, (20, 3))]:
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                tensor[place] += step
                ends.append(value(x))
                tensor[place] -= step
        torch.testing.assert_close((ends[0] - ends[1]) / 2e-5, tensor.grad[place], rtol=1e-5, atol=1e-7)
        assert tensor.grad[place].abs() > 1e-4


def test_masks_drop_as_often_as_they_should():
    torch.manual_seed(0)
    mask = lean._Mask.draw(0.3, training=True)
    rows = [mask.next(torch.empty(500, 40), mask.generator(torch.device("cpu"))) for _ in range(2)]
    assert torch.equal(rows[0], rows[1])
    assert set(rows[0].unique().tolist()) == {0.0, 1.0}
    assert rows[0].mean().item() == pytest.approx(0.7, abs=0.015)
    other = lean._Mask.draw(0.3, training=True)
    assert not torch.equal(rows[0], other.next(rows[0], other.generator(torch.device("cpu"))))
    assert lean._Mask.draw(0.3, training=False) is None


def test_recomputed_lean_layers_draw_the_same_masks():
    config = LoraConfig(rank=2, alpha=4.0, dropout=0.3)
    kept, again = model_with(config), model_with(config)
    for model in (kept, again):
        make_lean(model.decoder)
    recompute_activations(again.decoder.layers)
    one, two = gradients(kept), gradients(again)
    assert torch.equal(one[0], two[0])
    assert all(torch.equal(gradient, two[1][name]) for name, gradient in one[1].items())


def test_what_is_kept_for_the_backward_pass_is_little():
    """In units of N x D: everything that autograd holds of one layer's feed-forward."""
    sizes = []
    for is_lean in (False, True):
        model = model_with(LoraConfig(rank=2, alpha=4.0, dropout=0.05))
        if is_lean:
            make_lean(model.decoder)
        mlp = model.decoder.layers[0].mlp.train()
        seen = {}

        def note(tensor, seen=seen):
            if tensor.shape[0] == 50:
                seen[tensor.untyped_storage().data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            mlp(torch.randn(50, 32, dtype=torch.float64, requires_grad=True))
        sizes.append(sum(seen.values()) / (50 * 32))
    assert sizes[1] < 1 + 2 * 2 + 1  # input, gate, up (twice as wide as D here), and the narrow ones
    assert sizes[1] < 0.5 * sizes[0]


@pytest.mark.slow  # it starts a compiler
def test_compiled_pointwise_forms_give_the_same():
    model = model_with(LoraConfig(rank=2, alpha=4.0, dropout=0.05))
    make_lean(model.decoder)
    plain = gradients(model)
    model.zero_grad()
    pointwise.compile()
    try:
        compiled = gradients(model)
    finally:
        pointwise.plain()
    torch.testing.assert_close(compiled[0], plain[0])
    for name, gradient in plain[1].items():
        torch.testing.assert_close(compiled[1][name], gradient, msg=name)


def test_attention_at_a_rounded_length_is_attention():
    packing = Packing.of((700,), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(700, h, 16, dtype=torch.float64, generator=generator, requires_grad=True) for h in (4, 2, 2)]
    expected = CausalContext(packing).attend(0, *inputs)
    found = attend_rounded(*inputs)
    torch.testing.assert_close(found, expected)
    wanted = torch.autograd.grad(expected.square().sum(), inputs)
    came = torch.autograd.grad(found.square().sum(), inputs)
    for ours, theirs in zip(came, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.gpu
def test_attention_of_a_long_sequence_on_a_gpu_is_that_of_the_plain_kernels():
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    generator = torch.Generator("cuda").manual_seed(0)
    inputs = [
        torch.randn(5_000, h, 128, generator=generator, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        for h in (8, 2, 2)
    ]
    packing = Packing.of((5_000,), inputs[0].device)
    results = []
    for context in (TrainingContext(packing), CausalContext(packing)):
        out = context.attend(0, *inputs)
        results.append([out, *torch.autograd.grad(out.float().square().sum(), inputs)])
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).float().norm() < 0.02 * theirs.float().norm()


def test_a_short_base_gives_fp32_gradients_near_the_exact_ones():
    exact = model_with(LoraConfig(rank=4, alpha=6.0, dropout=0.0))
    short = copy.deepcopy(exact).bfloat16()
    for model in (exact, short):
        make_lean(model.decoder)
    for name, parameter in short.named_parameters():
        if "lora_" in name:
            parameter.data = exact.get_parameter(name).detach().float()
    _, wanted = gradients(exact)
    _, found = gradients(short)
    adapters = [name for name in wanted if "lora_" in name]
    assert all(found[name].dtype == torch.float32 for name in adapters)
    for name in adapters:
        assert (found[name] - wanted[name]).norm() < 0.1 * wanted[name].norm(), name

"""Our decoder against transformers' Qwen2 on the same weights, and every attention kernel against the formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode

from audioflamingo.errors import OptionError
from audioflamingo.model.attention import Packing, attend, attention_kernel, has_flash_attn, scaled_dot_product
from audioflamingo.model.decoder import CausalContext, RMSNorm, rotary_tables

LENGTHS = st.lists(st.integers(1, 70), min_size=1, max_size=5)


def random_heads(total, num_heads, num_kv_heads, head_dim, seed, dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(total, heads, head_dim) for heads in (num_heads, num_kv_heads, num_kv_heads)]
    return [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]


@torch.no_grad()
@pytest.mark.parametrize("kernel", ["auto", "sdpa", "eager"])
@pytest.mark.parametrize("num_tokens", [1, 2, 17, 900])
def test_text_logits_equal_the_reference(flamingo, reference_logits, make_ids, num_tokens, kernel):
    ids = make_ids(0, num_text_tokens=num_tokens)
    with attention_kernel(kernel):
        logits = flamingo(ids, [num_tokens])
    torch.testing.assert_close(logits, reference_logits(ids), atol=1e-4, rtol=0)


@torch.no_grad()
@settings(max_examples=15)
@given(lengths=LENGTHS)
def test_packed_rows_equal_one_at_a_time(flamingo, make_ids, lengths):
    rows = [make_ids(0, seed, length) for seed, length in enumerate(lengths)]
    packed = flamingo(torch.cat(rows), lengths).split(lengths)
    for row, logits in zip(rows, packed, strict=True):
        torch.testing.assert_close(logits, flamingo(row, [len(row)]), atol=1e-5, rtol=0)


@settings(max_examples=25)
@given(lengths=LENGTHS, causal=st.booleans(), groups=st.sampled_from([1, 2, 7]), seed=st.integers(0, 99))
def test_sdpa_equals_the_formula(lengths, causal, groups, seed):
    packing = Packing.of(lengths, torch.device("cpu"))
    query, key, value = random_heads(packing.total, 2 * groups, 2, 16, seed)
    with attention_kernel("eager"):
        expected = attend(query, key, value, packing, causal=causal)
    with attention_kernel("sdpa"):
        found = attend(query, key, value, packing, causal=causal)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_formula_keeps_the_precision_of_fp64():
    packing = Packing.of([40], torch.device("cpu"))
    heads = random_heads(40, 4, 2, 16, 0, torch.float64)
    with attention_kernel("eager"):
        expected = attend(*heads, packing, causal=True)
    torch.testing.assert_close(attend(*heads, packing, causal=True), expected, atol=1e-14, rtol=0)


def test_no_token_sees_what_follows_or_its_neighbours(flamingo, make_ids):
    first, second = make_ids(0, 1, 20), make_ids(0, 2, 30)
    changed = first.clone()
    changed[-1] = (changed[-1] + 1) % 100
    with torch.no_grad():
        before = flamingo(torch.cat([first, second]), [20, 30])
        after = flamingo(torch.cat([changed, second]), [20, 30])
    torch.testing.assert_close(before[:19], after[:19], atol=0, rtol=0)
    torch.testing.assert_close(before[20:], after[20:], atol=0, rtol=0)
    assert (before[19] - after[19]).abs().max() > 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("num_heads", "num_kv_heads", "head_dim"), [(20, 20, 64), (28, 4, 128)])
@pytest.mark.parametrize("kernel", ["packed", "varlen", "flash_attn", "sdpa"])
def test_gpu_kernels_equal_the_formula(kernel, num_heads, num_kv_heads, head_dim, causal, dtype):
    if kernel == "flash_attn" and not has_flash_attn():
        pytest.skip("needs the flash-attn package")
    packing = Packing.of([300, 1, 77, 1500], torch.device("cuda"))
    heads = random_heads(packing.total, num_heads, num_kv_heads, head_dim, 0, dtype, "cuda")
    with attention_kernel(kernel):
        found = attend(*heads, packing, causal=causal)
    with attention_kernel("eager"):
        expected = attend(*(x.float() for x in heads), packing, causal=causal)
    tolerance = 2e-2 if dtype == torch.bfloat16 else 3e-3
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=tolerance)


def test_an_unknown_kernel_is_refused():
    with pytest.raises(OptionError, match="allowed: auto, sdpa, packed, varlen"), attention_kernel("fast"):
        pass


def test_a_forced_kernel_ends_with_its_block_even_after_an_error():
    packing = Packing.of([4], torch.device("cpu"))
    heads = random_heads(4, 2, 2, 16, 0)
    with pytest.raises(NotImplementedError), attention_kernel("varlen"):
        attend(*heads, packing, causal=True)
    assert attend(*heads, packing, causal=True).shape == (4, 2, 16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_norm_rounds_where_the_reference_rounds(dtype):
    from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

    generator = torch.Generator().manual_seed(0)
    ours, theirs = RMSNorm(48, 1e-6).to(dtype).eval(), Qwen2RMSNorm(48, 1e-6).to(dtype)
    weight, x = torch.randn(48, generator=generator), torch.randn(50, 48, generator=generator) * 30
    for norm in (ours, theirs):
        norm.weight.data.copy_(weight)
    tolerance = 1e-5 if dtype == torch.float32 else 0
    torch.testing.assert_close(ours(x.to(dtype)), theirs(x.to(dtype)), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_norm_of_training_differs_by_one_rounding_only(dtype):
    generator = torch.Generator().manual_seed(0)
    norm = RMSNorm(48, 1e-6).to(dtype)
    norm.weight.data.copy_(torch.randn(48, generator=generator))
    x = (torch.randn(50, 48, generator=generator) * 30).to(dtype).requires_grad_()
    wide = x.detach().double()
    exact = wide * (wide.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * norm.weight.double()
    for training in (True, False):
        found = norm.train(training)(x)
        torch.testing.assert_close(found.double(), exact, atol=1e-6, rtol=2 * torch.finfo(dtype).eps)
    norm.train()(x).sum().backward()
    assert x.grad.isfinite().all()
    assert norm.weight.grad.isfinite().all()


class _CudnnSwitch(TorchFunctionMode):
    """Notes, at every call of torch's attention, whether cuDNN's kernel may be chosen."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.nn.functional.scaled_dot_product_attention:
            self.seen.append(torch.backends.cuda.cudnn_sdp_enabled())
        return func(*args, **(kwargs or {}))


def test_cudnn_is_never_chosen_on_a_gpu_and_the_programs_setting_stays():
    """With tensors that have shapes and a device but no memory, so that no GPU is needed."""
    assert torch.backends.cuda.cudnn_sdp_enabled()
    with FakeTensorMode(), _CudnnSwitch() as switch:
        for device in ("cuda", "cpu"):
            query, key = (torch.empty(1, heads, 5, 16, device=device) for heads in (4, 2))
            assert scaled_dot_product(query, key, key, causal=True).shape == query.shape
    assert switch.seen == [False, True]
    assert torch.backends.cuda.cudnn_sdp_enabled()


@torch.no_grad()
def test_compiles_without_a_graph_break(flamingo, make_ids):
    torch.compiler.reset()
    packing = Packing.of([12, 8], torch.device("cpu"))
    embeddings = flamingo.merge(make_ids(0, num_text_tokens=20), None)
    inputs = embeddings, packing.positions, CausalContext(packing)
    compiled = torch.compile(flamingo.hidden_states, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*inputs), flamingo.hidden_states(*inputs), atol=0, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotary_tables_equal_the_reference_to_the_bit(reference, tiny_config, dtype):
    positions = torch.cat([torch.arange(2000), torch.tensor([15_039, 32_767])])
    decoder = tiny_config.decoder
    ours = rotary_tables(positions, decoder.head_dim, decoder.rope_theta, dtype)
    theirs = reference.model.language_model.rotary_emb(torch.zeros(1, dtype=dtype), positions[None])
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine[:, 0], other[0], atol=0, rtol=0)

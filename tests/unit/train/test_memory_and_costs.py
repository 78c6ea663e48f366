import dataclasses

import pytest
import torch
from test_lean import pack
from tiny_training import TINY, tiny_model
from torch.utils.flop_counter import FlopCounterMode

from audioflamingo.config import DecoderConfig, ModelConfig
from audioflamingo.errors import OptionError
from audioflamingo.model.attention import Packing, attention_kernel
from audioflamingo.model.decoder import CausalContext, Decoder, rotary_tables
from audioflamingo.train.costs import StepCost, matmul_rate
from audioflamingo.train.lean import make_lean
from audioflamingo.train.lora import LoraConfig, add_lora
from audioflamingo.train.memory import check_machine, device_memory, estimate, layer_bytes, num_trained
from audioflamingo.train.parts import prepare, trained
from audioflamingo.train.stages import lora, nano, stage_1, stage_3, stage_3_5, stage_4

FULL = ModelConfig()
RELEASED_TOKENS = 15_040
WIDE = DecoderConfig(
    vocab_size=64, width=64, num_layers=1, num_heads=4, num_kv_heads=2, head_dim=16, ffn_width=256, max_positions=900
)


def kept_bytes(is_lean, num_tokens=512):
    """What autograd holds of one decoder layer, parameters apart."""
    model = tiny_model()
    model.decoder = Decoder(WIDE)
    if is_lean:
        add_lora(model, LoraConfig(rank=2, alpha=2.0, dropout=0.1))
        make_lean(model.decoder)
    layer = model.decoder.layers[0].train()
    parameters = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    packing = Packing.of((num_tokens,), torch.device("cpu"))
    tables = rotary_tables(packing.positions, WIDE.head_dim, 1e4, torch.float32)
    tables_at = {table.untyped_storage().data_ptr() for table in tables}
    seen = {}

    def note(tensor):
        place = tensor.untyped_storage().data_ptr()
        if place not in parameters | tables_at:
            seen[place] = (tensor.untyped_storage().nbytes(), tensor)  # held, so that no place is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        layer(torch.randn(num_tokens, WIDE.width, requires_grad=True), *tables, CausalContext(packing))
    return sum(size for size, _ in seen.values())


@pytest.mark.parametrize("is_lean", [True, False])
def test_the_estimate_of_a_layer_is_what_autograd_holds(is_lean):
    estimated = layer_bytes(WIDE, 512, 4, is_lean=is_lean)
    assert kept_bytes(is_lean) == pytest.approx(estimated, rel=0.12)


def test_numbers_that_change_are_counted_as_they_are():
    for stage in (nano(stage_1()), nano(stage_3()), nano(stage_3_5())):
        loss = prepare(tiny_model(), stage)
        count = sum(parameter.numel() for parameter in trained(loss).values())
        fixed = TINY.encoder.max_positions * TINY.encoder.width if "encoder" in stage.trains else 0
        assert num_trained(TINY, stage) - fixed == count


def test_ten_minutes_fit_where_they_should():
    count = num_trained(FULL, stage_3_5())
    assert count == 161_480_704
    four_bits = dataclasses.replace(stage_3_5(), quantize="int4")
    assert estimate(FULL, four_bits, count, num_tokens=RELEASED_TOKENS, num_kept=0).total < 20e9
    whole = estimate(FULL, stage_3_5(), count, num_tokens=RELEASED_TOKENS, device_bytes=80_000_000_000)
    assert 20 < whole.num_kept <= 28
    assert whole.total < 80e9
    assert estimate(FULL, stage_3_5(), count, num_tokens=RELEASED_TOKENS).num_kept == 0
    assert "it may not fit" in whole.described(60_000_000_000)
    assert "80.0 GB" in whole.described(80_000_000_000)


def test_sixteen_thousand_tokens_of_everything_fit_eight_cards_and_less_with_split_sequences():
    count = num_trained(FULL, stage_4())
    several = estimate(FULL, stage_4(), count, num_tokens=16_000, num_shards=8, num_kept=0)
    one = estimate(FULL, stage_4(), count, num_tokens=16_000, num_shards=8, num_kept=0, accumulates=False)
    assert one.total < 27e9 < several.total < 31e9
    assert several.total - one.total == pytest.approx(4 * count / 8)  # gradients of the packs before
    split = estimate(FULL, stage_4(), count, num_tokens=16_000 // 8, num_shards=8, num_splits=8, num_kept=0)
    assert split.listening == several.listening  # all windows are heard everywhere
    assert split.activations - split.listening < 0.5 * (several.activations - several.listening)


def test_adapters_over_shards_take_less_with_every_process_and_only_the_base_is_divided():
    count = num_trained(FULL, stage_3_5())
    sizes = (1, 2, 4, 8)
    found = [estimate(FULL, stage_3_5(), count, num_tokens=RELEASED_TOKENS, num_shards=n, num_kept=28) for n in sizes]
    totals = [memory.total for memory in found]
    assert totals == sorted(totals, reverse=True)
    assert [memory.weights for memory in found] == [found[0].weights // n for n in sizes]
    assert len({memory.training for memory in found}) == 1
    projector = estimate(FULL, stage_1(), num_trained(FULL, stage_1()), num_tokens=1_000, num_shards=2, num_kept=0)
    assert projector.weights - found[1].weights == num_trained(FULL, stage_1())  # 2 bytes more each, halved


@pytest.mark.parametrize("name", ["lora", "stage_1"])
def test_operations_are_those_that_torch_counts(name):
    """Its counter knows no fused attention on CPUs, so the formula's own products do it here."""
    stage = {"lora": nano(lora()), "stage_1": nano(stage_1())}[name]
    some = dataclasses.replace(pack((95,)), num_mel_frames=[100])
    model = tiny_model()
    loss = prepare(model, stage)
    count = num_trained(TINY, stage) if stage.lora else 0
    with attention_kernel("eager"), FlopCounterMode(display=False) as counter:
        loss(some).backward()
    decoder, num_tokens = TINY.decoder, 95
    hidden_pairs = num_tokens * (num_tokens - 1) // 2  # which eager attention multiplies and masks
    extra = 3 * 4 * hidden_pairs * decoder.num_heads * decoder.head_dim * decoder.num_layers
    extra += 2 * some.num_targets * decoder.vocab_size * decoder.width  # logits, computed again in the backward pass
    expected = StepCost(TINY, stage, count).of(some) + extra
    # Not in the formula: the first of two layers needs no gradient of its input, and adapters are half of it here.
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.12)


def test_mfu_is_a_share_of_the_measured_rate():
    rate = matmul_rate(torch.device("cpu"), torch.float32)
    assert 1e8 < rate < 1e14
    cost = StepCost(TINY, nano(stage_1()), flops_per_s=1e9)
    assert cost.mfu(500_000_000, 2.0) == 0.25
    assert StepCost(TINY, nano(stage_1())).mfu(1, 1.0) is None
    assert device_memory(torch.device("cpu")) is None


def test_a_run_that_the_machine_cannot_hold_is_refused(monkeypatch):
    memory = estimate(FULL, lora("paper"), num_trained(FULL, lora("paper")))
    monkeypatch.setattr("audioflamingo.train.memory.machine_memory", lambda: 8_000_000_000)
    check_machine(memory, torch.device("cuda"))  # which says so itself
    with pytest.raises(OptionError, match=r"this machine has 8\.0 GB; lower --micro-s or --rank"):
        check_machine(memory, torch.device("cpu"))

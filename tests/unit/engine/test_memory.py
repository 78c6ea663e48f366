"""Memory that runs out is told in one line; what else goes wrong stays what it is."""

import sys
from pathlib import Path

import pytest
import torch

from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.engine.engine import Engine
from audioflamingo.engine.memory import MemoryExhaustedError, memory_errors_told
from audioflamingo.engine.scheduler import Limits
from audioflamingo.errors import FlamingoError
from audioflamingo.model.attention import attention_kernel
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.types import Prompt, Sampling

sys.path.append(str(Path(__file__).parents[1]))
from small_tokenizer import small_tokenizer

CPU = torch.device("cpu")
MORE_THAN_ANY_MACHINE = 1 << 60


def exhaust_the_cpu():
    torch.empty(MORE_THAN_ANY_MACHINE, dtype=torch.uint8)


def exhaust_python():
    bytearray(MORE_THAN_ANY_MACHINE)


def exhaust_a_gpu():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has ...")


@pytest.mark.parametrize("exhaust", [exhaust_the_cpu, exhaust_python, exhaust_a_gpu])
def test_it_says_what_to_lower(exhaust):
    with pytest.raises(FlamingoError) as caught, memory_errors_told("reading 9 tokens", CPU):
        exhaust()
    assert str(caught.value).startswith("cpu ran out of memory reading 9 tokens; give fewer or shorter sounds")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), KeyError("x")])
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, memory_errors_told("reading", CPU):
        raise error
    assert caught.value is error


def test_an_engine_that_ran_out_still_answers():
    """The prompt's keys and values take more than a process can address: 32 MB for a token."""
    tokenizer = small_tokenizer()
    config = ModelConfig(
        encoder=EncoderConfig(width=8, num_layers=1, num_heads=2, ffn_width=8),
        decoder=DecoderConfig(
            vocab_size=tokenizer.vocab_size,
            width=4, num_layers=1, num_heads=2, num_kv_heads=2, head_dim=1 << 20, ffn_width=4,
            max_positions=10_000_000,
        ),
        audio_token_id=tokenizer.sound,
    )  # fmt: skip
    engine = Engine(Flamingo(config).double().eval(), tokenizer, Limits(max_cache_tokens=10_000_000))
    long, short = Prompt((5,) * 4_800_000), Prompt((5, 6))
    sampling = Sampling(max_new_tokens=3)
    deltas = list(engine.generate([short, long, short], [sampling] * 3, errors="return"))
    ends = {delta.index: delta for delta in deltas if delta.finish_reason}
    assert isinstance(ends[1].error, MemoryExhaustedError)
    assert "for a KV cache of 150,00" in str(ends[1].error)
    assert ends[0].finish_reason == ends[2].finish_reason != "error"
    assert 1 <= len(list(engine.generate([short], [sampling]))) <= 3


def test_of_several_prompts_those_that_fit_are_read():
    """Attention by its plain formula needs the square of a chunk's length: here more than a process can address."""
    tokenizer = small_tokenizer()
    config = ModelConfig(
        encoder=EncoderConfig(width=8, num_layers=1, num_heads=2, ffn_width=8),
        decoder=DecoderConfig(
            vocab_size=tokenizer.vocab_size,
            width=4, num_layers=1, num_heads=16, num_kv_heads=2, head_dim=2, ffn_width=4,
            max_positions=4_000_000,
        ),
        audio_token_id=tokenizer.sound,
    )  # fmt: skip
    limits = Limits(max_cache_tokens=1_200_000, prefill_tokens=1_200_000)
    engine = Engine(Flamingo(config).double().eval(), tokenizer, limits)
    chosen = [Prompt((5, 6)), Prompt((5,) * 1_100_000), Prompt((7, 8, 9))]
    with attention_kernel("eager"):
        deltas = list(engine.generate(chosen, [Sampling(max_new_tokens=3)] * 3, errors="return"))
    ends = {delta.index: delta for delta in deltas if delta.finish_reason}
    assert "reading 1,100,000 tokens of 1 prompts" in str(ends[1].error)
    assert ends[0].finish_reason == ends[2].finish_reason != "error"
    assert engine.counts.num_held_blocks == 0

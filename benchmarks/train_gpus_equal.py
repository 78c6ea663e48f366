"""Whether several processes give the loss and the gradients of one: a small model in fp32, divided in every way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from train_gpus_run import GivenPacks, Packs, alone, example, trainer

from audioflamingo.bench.random_weights import assembled, random_state
from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.train.distributed import Processes, whole
from audioflamingo.train.lora import LoraConfig
from audioflamingo.train.stages import Stage, stage_3, stage_3_5
from audioflamingo.train.updates import Updates

LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
SMALL = ModelConfig(
    EncoderConfig(width=128, num_layers=2, num_heads=4, ffn_width=256),
    DecoderConfig(vocab_size=2_048, width=256, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=64, ffn_width=512),
    audio_token_id=2_000,
)
FULL = replace(stage_3(), precision="float32")
LORA = replace(stage_3_5(), precision="float32", lora=LoraConfig(rank=8, dropout=0.0))
WAYS: dict[str, tuple[bool, bool]] = {
    "copies": (False, False), "shards": (True, False), "sequence": (False, True), "both": (True, True)
}  # fmt: skip
"""Whether the model lies in shards, and whether sequences are divided."""


class Kept(Updates):
    """Updates that remember the gradients of the last step, each put together."""

    last: dict[str, Tensor]

    def step(self, gradients: Mapping[str, Tensor], rate: float) -> float:
        """See `Updates`."""
        self.last = {name: whole(gradient).clone() for name, gradient in gradients.items()}
        return super().step(gradients, rate)


def equality(processes: Processes) -> dict[str, Any]:
    """Relative differences from one process that hears all packs; `is_equal` where all are within the tolerances."""
    packs = [
        (rank, [example(SMALL, (rank, k), 3.0 + 2 * k, 21 + 8 * k) for k in range(2)]) for rank in range(processes.size)
    ]
    found: dict[str, Any] = {}
    with exact_convolutions():
        for kind, stage in (("full", FULL), ("lora", LORA)):
            expected = outcome(stage, alone(processes), packs)
            for way, (shards, splits) in WAYS.items():
                if splits and processes.size == 1:
                    continue
                several = replace(processes, shards=shards, splits=splits)
                mine = packs if splits else [packs[processes.rank]]
                found[f"{kind}_{way}"] = differences(expected, outcome(stage, several, mine))
    is_equal = all(one["loss"] <= LOSS_TOLERANCE and one["gradients"] <= GRADIENT_TOLERANCE for one in found.values())
    return found | {"is_equal": is_equal, "tolerances": [LOSS_TOLERANCE, GRADIENT_TOLERANCE]}


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """No convolution of cuDNN's that rounds its inputs to ten bits: not every shape takes the same kernel."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def outcome(stage: Stage, processes: Processes, packs: Packs) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of one step."""
    model = assembled(SMALL, random_state(SMALL, processes.device, torch.float32))
    run, _ = trainer(model, stage, processes, GivenPacks(packs, 1), kind=Kept)
    losses: list[float] = []
    run.run(lambda progress: losses.append(progress.loss))
    assert isinstance(run.updates, Kept)
    return losses[0], run.updates.last


def differences(expected: tuple[float, dict[str, Tensor]], found: tuple[float, dict[str, Tensor]]) -> dict[str, float]:
    """Of the loss, of all gradients as one vector, and of the worst parameter, each relative to its size."""
    wanted, came = expected[1], found[1]
    assert wanted.keys() == came.keys()
    apart = {name: float((came[name] - one).norm()) for name, one in wanted.items()}
    sizes = {name: float(one.norm()) for name, one in wanted.items()}
    total = sum(one**2 for one in sizes.values()) ** 0.5
    return {
        "loss": abs(found[0] - expected[0]) / abs(expected[0]),
        "gradients": sum(one**2 for one in apart.values()) ** 0.5 / total,
        "worst_parameter": max(apart[name] / size for name, size in sizes.items() if size > 1e-6 * total),
    }

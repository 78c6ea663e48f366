"""The trainer of `benchmarks/train_gpus.py`: set up as `train.run` does, on examples that are made up."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from audioflamingo.audio import num_audio_tokens, split_windows
from audioflamingo.config import ModelConfig
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.train.costs import StepCost
from audioflamingo.train.data import Example
from audioflamingo.train.distributed import Processes, shard
from audioflamingo.train.memory import Memory, device_memory, estimate, num_trained
from audioflamingo.train.parts import prepare, trained
from audioflamingo.train.stages import Stage
from audioflamingo.train.trainer import Trainer
from audioflamingo.train.updates import Updates
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, Span

NUM_ANSWER_TOKENS = 100
Packs = list[tuple[int, list[Example]]]


class GivenPacks:
    """What `Trainer` asks of a feed, where every step hears the same."""

    def __init__(self, packs: Packs, num_steps: int) -> None:
        self.packs, self.schedule = packs, SimpleNamespace(num_steps=num_steps)
        self.bad_rows: list[object] = []

    def step(self, number: int) -> Packs:
        """The packs, whatever the step."""
        return self.packs


def example(config: ModelConfig, seed: tuple[int, ...], duration_s: float, num_text: int) -> Example:
    """Noise of a length between two halves of random words, and an answer of random words that is learnt."""
    generator = np.random.default_rng(seed)
    sound = 0.1 * generator.standard_normal(round(duration_s * SAMPLE_RATE_HZ), dtype=np.float32)
    count = sum(num_audio_tokens(len(window)) for window in split_windows(sound))
    words = generator.integers(0, config.audio_token_id, num_text + NUM_ANSWER_TOKENS).tolist()
    half = num_text // 2
    ids = (*words[:half], *[config.audio_token_id] * count, *words[half:])
    is_target = (False,) * (len(ids) - NUM_ANSWER_TOKENS) + (True,) * NUM_ANSWER_TOKENS
    return Example(str(seed), ids, is_target, (Span(half, count, 0),), (Audio(sound),))


def alone(processes: Processes) -> Processes:
    """This process, as if there were no other."""
    return Processes(processes.device)


def trainer(
    model: Flamingo,
    stage: Stage,
    processes: Processes,
    feed: GivenPacks,
    flops_per_s: float | None = None,
    kind: type[Updates] = Updates,
) -> tuple[Trainer, Memory]:
    """A trainer of a model, which is changed in place, and what memory it was thought to need."""
    config, count = model.config, num_trained(model.config, stage)
    longest = max(sum(len(one.ids) for one in pack) for _, pack in feed.packs)
    memory = estimate(
        config,
        stage,
        count,
        num_tokens=longest // (processes.size if processes.splits else 1),
        num_shards=processes.size if processes.shards else 1,
        num_splits=processes.size if processes.splits else 1,
        accumulates=len(feed.packs) > 1,
        device_bytes=processes.least(device_memory(processes.device)),
    )
    torch.manual_seed(stage.seed)
    loss = prepare(model, stage, processes=processes, num_kept=memory.num_kept)
    if processes.shards:
        shard(loss, model, stage.precision, processes)
    made = Trainer(
        loss=loss, stage=stage, updates=kind(trained(loss), stage), feed=feed,  # type: ignore[arg-type]
        processes=processes, saving=None, identity="", filler_id=0,
        cost=StepCost(config, stage, count if stage.lora else 0, flops_per_s),
    )  # fmt: skip
    return made, memory

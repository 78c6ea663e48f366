"""What is measured: a model in memory with its engine, and on wish transformers' class with the very same weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from audioflamingo.bench.floors import ModelCost
from audioflamingo.bench.random_weights import (
    INIT_STD,
    RANDOM_MODELS,
    SEED,
    Named,
    assembled,
    filled,
    random_state,
    random_tensors,
)
from audioflamingo.bench.reference import assembled_reference
from audioflamingo.config import ModelConfig
from audioflamingo.engine.engine import Engine
from audioflamingo.engine.scheduler import CacheKind, Limits
from audioflamingo.model.costs import parameters
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.quantize import Scheme
from audioflamingo.model.weights import load_config, load_flamingo, resolve
from audioflamingo.model.weights.places import Order
from audioflamingo.tokenizer import Tokenizer

MAX_CACHE_TOKENS = 131_072  # room for the largest batch of the rows, and for two sounds of ten minutes
MAX_SEQUENCES = 128


@dataclass
class Subject:
    """A model to be measured.

    Attributes:
        name: as it was asked for.
        model: ours.
        cost: what its passes cost.
        quantize: how the decoder's weights are kept, or None as they are.
        folder: where the checkpoint lies; None for random weights.
        reference: transformers' class, or None.
        kv_cache: of the engines.
    """

    name: str
    model: Flamingo
    cost: ModelCost
    quantize: Scheme | None = None
    folder: Path | None = None
    reference: Any = None
    kv_cache: CacheKind = "plain"
    _engine: Engine | None = field(default=None, repr=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def config(self) -> ModelConfig:
        """The model's sizes."""
        return self.model.config

    @property
    def engine(self) -> Engine:
        """One engine for all rows but that of memory; its answers have no end but their number of tokens."""
        if self._engine is None:
            self._engine = self.new_engine(MAX_SEQUENCES, MAX_CACHE_TOKENS)
        return self._engine

    def new_engine(self, max_sequences: int, max_cache_tokens: int) -> Engine:
        """An engine that holds no more than this at once."""
        limits = replace(
            Limits.usual(self.device.type),
            max_sequences=max_sequences,
            max_cache_tokens=max_cache_tokens,
            kv_cache=self.kv_cache,
        )
        return Engine(self.model, endless_tokenizer(), limits)

    def drop_engine(self) -> None:
        """Give its cache back; the next use makes a new one."""
        self._engine = None


def make_subject(
    name: str,
    device: torch.device,
    dtype: torch.dtype,
    *,
    quantize: Scheme | None = None,
    kv_cache: CacheKind = "plain",
    with_reference: bool = False,
) -> Subject:
    """Load a model, or make one with random weights; unquantised, both classes share the memory of the weights.

    Args:
        name: "random-8b", "random-nano", "random-tiny", or what `load_model` takes.
        device: where to.
        dtype: of the weights; of activations, where weights are quantised.
        quantize: how our decoder's weights are stored; the reference keeps its own.
        kv_cache: of our engines.
        with_reference: whether transformers' class is made too.

    Raises:
        OptionError: transformers is not installed.
        CheckpointError: there is no such model.
    """
    folder = None if name in RANDOM_MODELS else resolve(name)
    if quantize is None or with_reference:
        plain = _plain(name, folder, device, dtype)
        state, config = plain.state_dict(), plain.config
        model = plain if quantize is None else _quantised(folder, config, state.items(), Order(quantize, device, dtype))
        reference = assembled_reference(config, state) if with_reference else None
    else:
        config = RANDOM_MODELS[name] if folder is None else load_config(folder)
        tensors = random_tensors(config, device, torch.bfloat16)
        model, reference = _quantised(folder, config, tensors, Order(quantize, device, dtype)), None
    cost = replace(ModelCost.of(model, "fp8" if quantize == "fp8" else "weights"), kv_cache=kv_cache)
    return Subject(name, model, cost, quantize, folder, reference, kv_cache)


def _plain(name: str, folder: Path | None, device: torch.device, dtype: torch.dtype) -> Flamingo:
    if folder is not None:
        return load_flamingo(folder, device=device, dtype=dtype).requires_grad_(False)
    return assembled(RANDOM_MODELS[name], random_state(RANDOM_MODELS[name], device, dtype))


def _quantised(folder: Path | None, config: ModelConfig, tensors: Named, order: Order) -> Flamingo:
    if folder is not None:
        loaded = load_flamingo(folder, device=order.device, dtype=order.dtype, quantize=order.quantize)
        return loaded.requires_grad_(False)
    return filled(config, tensors, order, torch.bfloat16)


def endless_tokenizer() -> Tokenizer:
    """The embedded model's tokenizer, to which no token ends an answer: random weights would end at random."""
    tokenizer = Tokenizer.from_folder(resolve("nano"))
    tokenizer.eos_ids = ()  # type: ignore[assignment]
    return tokenizer


def model_card(subject: Subject) -> dict[str, Any]:
    """What was measured, as plain values."""
    is_random = subject.folder is None
    return {
        "name": subject.name,
        "weights": f"random, seed {SEED}, normal * {INIT_STD}" if is_random else "checkpoint",
        "dtype": str(subject.model.dtype).removeprefix("torch."),
        "quantize": subject.quantize,
        "kv_cache": subject.kv_cache,
        "num_parameters": parameters(subject.config).total,
        "bytes": subject.cost.total_bytes,
    }

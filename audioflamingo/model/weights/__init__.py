"""Checkpoints: where they are, their tensors' names in every spelling, reading and writing them."""

from audioflamingo.model.weights.companions import write_companions
from audioflamingo.model.weights.locate import resolve
from audioflamingo.model.weights.read import load_config, load_flamingo, rewrite
from audioflamingo.model.weights.transfer import Progress
from audioflamingo.model.weights.write import save_flamingo

__all__ = ["Progress", "load_config", "load_flamingo", "resolve", "rewrite", "save_flamingo", "write_companions"]

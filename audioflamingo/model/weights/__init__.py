"""Checkpoints: where they are, their tensors' names in every spelling, reading and writing them."""

from audioflamingo.model.weights.companions import write_companions
from audioflamingo.model.weights.locate import resolve
from audioflamingo.model.weights.read import load_config, load_flamingo
from audioflamingo.model.weights.write import save_flamingo

__all__ = ["load_config", "load_flamingo", "resolve", "save_flamingo", "write_companions"]

"""A user's own data: NVIDIA's JSON and JSONL, mixtures of several files, and conversations as training examples.

Data goes one way: `mixtures` names files, `nvidia_json` reads their rows, `examples` writes a row as the model reads
it, `corpus` checks all rows before anything is trained, `schedule` decides what is heard when.
"""

from audioflamingo.train.data.corpus import Corpus, Sample, load_corpus
from audioflamingo.train.data.examples import Example, ExampleMaker
from audioflamingo.train.data.mixtures import Component, parse_mixture, read_registry
from audioflamingo.train.data.nvidia_json import read_rows
from audioflamingo.train.data.rows import BadRow, Row, TrainingDataError
from audioflamingo.train.data.schedule import Schedule

__all__ = [
    "BadRow",
    "Component",
    "Corpus",
    "Example",
    "ExampleMaker",
    "Row",
    "Sample",
    "Schedule",
    "TrainingDataError",
    "load_corpus",
    "parse_mixture",
    "read_registry",
    "read_rows",
]

"""What a checkpoint of ours carries so that `trust_remote_code=True` finds this package, and nothing but imports it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MODULE = "audioflamingo_loader"
MODEL_MAP = {"AutoModelForCausalLM": f"{MODULE}.AudioFlamingo3ForConditionalGeneration"}
PROCESSOR_MAP = {"AutoProcessor": f"{MODULE}.AudioFlamingo3Processor"}

SOURCE = '''\
"""Loads this checkpoint with the audioflamingo package, which has to be installed."""

from audioflamingo.integrations.transformers import AudioFlamingo3ForConditionalGeneration, AudioFlamingo3Processor

__all__ = ["AudioFlamingo3ForConditionalGeneration", "AudioFlamingo3Processor"]
'''


def write(folder: str | os.PathLike[str]) -> None:
    """Put the loader into a folder, which is made if need be."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    (path / f"{MODULE}.py").write_text(SOURCE, encoding="utf-8")


@contextmanager
def announced(config: Any) -> Iterator[None]:
    """Within the block, a configuration names the loader, so that the config.json written there does."""
    before = getattr(config, "auto_map", None)
    config.auto_map = dict(MODEL_MAP)
    try:
        yield
    finally:
        if before is None:
            del config.auto_map
        else:
            config.auto_map = before

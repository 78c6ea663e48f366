"""Models without weights: for counting, for checking names and shapes, and to be filled from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from audioflamingo.config import ModelConfig
from audioflamingo.model.flamingo import Flamingo


class NoInitialisation(TorchFunctionMode):
    """Within the block, new modules keep whatever their memory holds.

    Random numbers for weights that a checkpoint is about to replace cost time; and on the meta device torch imports
    its whole compiler to draw normal ones, which takes longer than loading a small model.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Torch's hook around every function."""
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def skeleton(config: ModelConfig) -> Flamingo:
    """A model of this shape on the meta device: names, shapes and dtypes, but no memory."""
    with NoInitialisation(), torch.device("meta"):
        return Flamingo(config)


def num_parameters(config: ModelConfig) -> int:
    """Parameters of a model of this shape, the encoder's fixed positions included."""
    return sum(parameter.numel() for parameter in skeleton(config).parameters())

"""All of a checkpoint or nothing: what transformers does not find, it fills with random numbers and a warning."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from audioflamingo.errors import CheckpointError
from audioflamingo.model.weights import resolve
from audioflamingo.model.weights.locate import RELEASES

MAX_SHOWN = 6


def located(name: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """What transformers finds a checkpoint by: this package's short names are turned into a folder or a hub id."""
    if str(name) == "nano" and not os.path.isdir(name):
        return resolve("nano")
    return name if os.path.isdir(name) else RELEASES.get(str(name), name)


def load_all(
    load: Callable[..., Any], name: str | os.PathLike[str], args: Sequence[Any], options: Mapping[str, Any]
) -> Any:
    """Call transformers' `from_pretrained` and refuse a model of which any part was not in the checkpoint.

    Args:
        load: `from_pretrained`.
        name: the checkpoint.
        args: further arguments.
        options: its keywords; `ignore_mismatched_sizes=True` allows tensors of another size to start afresh.

    Raises:
        CheckpointError: tensors are missing or misshapen.
    """
    wants_report = options.get("output_loading_info", False)
    model, report = load(name, *args, **{**options, "output_loading_info": True})
    lost = sorted(report["missing_keys"])
    if not options.get("ignore_mismatched_sizes"):
        lost += sorted(str(entry[0]) for entry in report["mismatched_keys"])
    if lost:
        more = f" and {len(lost) - MAX_SHOWN} more" if len(lost) > MAX_SHOWN else ""
        raise CheckpointError(
            f"{name} lacks {len(lost)} of the model's tensors, or has them in another shape: "
            f"{', '.join(lost[:MAX_SHOWN])}{more}; use the complete checkpoint"
        )
    return (model, report) if wants_report else model


def forget_names(model: Any) -> None:
    """Let a part of a checkpoint be saved under its own names, not under those that it had in the whole."""
    if hasattr(model, "_weight_conversions"):
        del model._weight_conversions

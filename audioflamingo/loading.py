"""What `load_model` decides before and after it reads the weights: where, in what, and whether all is of one piece."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from audioflamingo.config import ModelConfig
from audioflamingo.engine.scheduler import CacheKind, Limits
from audioflamingo.errors import CheckpointError, OptionError
from audioflamingo.model.fingerprint import fingerprint
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.lora import Adapter, merged
from audioflamingo.model.quantize import SCHEMES, scheme_in_use
from audioflamingo.model.skeleton import num_parameters
from audioflamingo.model.weights import rewrite
from audioflamingo.tokenizer import Tokenizer

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}

SMALL_PARAMETERS = 1_000_000_000  # below it, fp32 fits any machine and is the faster on a CPU


def work_in(model: Flamingo, adapter: Adapter, folder: Path) -> None:
    """Add an adapter to the weights; quantised ones are read again, because their codes have no room for it."""
    model.fingerprint = fingerprint(model)
    if scheme_in_use(model) is None:
        model.load_state_dict(merged(model, adapter), assign=True)
    else:
        rewrite(folder, model, adapter)


def check_scheme(scheme: str | None) -> None:
    """That a way to quantise is known; None is none.

    Raises:
        OptionError: another one.
    """
    if scheme is not None and scheme not in SCHEMES:
        raise OptionError(f"quantize {scheme!r} is not one of {', '.join(SCHEMES)}; leave it out for full precision")


def limits_of(kv_cache: str, device: torch.device) -> Limits:
    """What an engine on a device holds at once, its cache being of the given kind.

    Raises:
        OptionError: there is no such kind.
    """
    return replace(Limits.usual(device.type), kv_cache=cast("CacheKind", kv_cache))


def device_of(device: str | torch.device | None) -> torch.device:
    """The device by its name, by default the GPU if there is one.

    Raises:
        OptionError: it is not there.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"device {str(device)!r} is not available; allowed here: {', '.join(available)}") from error
    return chosen


def dtype_of(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """The dtype by its name, or None.

    Raises:
        OptionError: a model is not computed in it.
    """
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if dtype is not None and chosen not in DTYPES.values():
        raise OptionError(
            f"dtype {str(dtype)!r} is not one of {', '.join(DTYPES)}; quantize takes {', '.join(SCHEMES)}"
        )
    return chosen


def usual_dtype(config: ModelConfig, device: torch.device) -> torch.dtype | None:
    """What a model is computed in where nothing else is asked for; None is the checkpoint's own dtype."""
    is_small = device.type == "cpu" and num_parameters(config) < SMALL_PARAMETERS
    return torch.float32 if is_small else None


def check_vocabulary(tokenizer: Tokenizer, config: ModelConfig) -> None:
    """That a tokenizer and a model are of one checkpoint.

    Raises:
        CheckpointError: they are not.
    """
    if tokenizer.sound != config.audio_token_id:
        raise CheckpointError(
            f"<sound> is {tokenizer.sound} in the tokenizer but {config.audio_token_id} in config.json; "
            "the two are of different checkpoints"
        )
    if tokenizer.vocab_size > config.decoder.vocab_size:
        raise CheckpointError(
            f"the tokenizer has {tokenizer.vocab_size} tokens but config.json only {config.decoder.vocab_size}; "
            "the two are of different checkpoints"
        )

"""A voice on disk: `voice.json` (shapes, names, exceptions of pronunciation) and `voice.safetensors`.

With "int8" every matrix is stored as bytes with one fp32 scale a row; everything else is fp32 there and is small.
Loading never runs code from the files, and a tensor that is missing, unknown or of another shape is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from audioflamingo.config import DecoderConfig
from audioflamingo.errors import CheckpointError
from audioflamingo.speech.codec import CodecConfig
from audioflamingo.speech.model import SpeechConfig
from audioflamingo.speech.pronounce import Pronouncer
from audioflamingo.speech.synthesis import OwnVoice

CONFIG_FILE, WEIGHTS_FILE = "voice.json", "voice.safetensors"
FORMAT = "audioflamingo-voice-1"
SCALE_SUFFIX = ".scale"
MAX_INT8 = 127
MIN_QUANTISED = 1 << 12  # smaller tensors are not worth the rounding

Precision = Literal["int8", "bf16", "fp32"]


def save_voice(voice: OwnVoice, folder: Path, precision: Precision = "int8") -> None:
    """Write a voice."""
    folder.mkdir(parents=True, exist_ok=True)
    stored: dict[str, Tensor] = {}
    for name, tensor in voice.state_dict().items():
        stored |= _packed(name, tensor.detach().float().cpu(), precision)
    save_file(stored, folder / WEIGHTS_FILE)
    values = {
        "format": FORMAT,
        "config": asdict(voice.config),
        "pronouncer": asdict(voice.pronouncer.layers.config),
        "voices": list(voice.voice_names),
        "polished": list(voice.polished),
        "exceptions": {word: " ".join(phones) for word, phones in sorted(voice.pronouncer.exceptions.items())},
    }
    (folder / CONFIG_FILE).write_text(json.dumps(values, indent=1) + "\n")


def replace_pronouncer(folder: Path, pronouncer: Pronouncer) -> None:
    """Write a pronouncer of the same shapes, with its exceptions, into a saved int8 voice; the rest stays as it is."""
    stored = load_file(folder / WEIGHTS_FILE)
    for name, tensor in pronouncer.state_dict().items():
        stored |= _packed(f"pronouncer.{name}", tensor.detach().float().cpu(), "int8")
    save_file(stored, folder / WEIGHTS_FILE)
    values = json.loads((folder / CONFIG_FILE).read_text())
    values["exceptions"] = {word: " ".join(phones) for word, phones in sorted(pronouncer.exceptions.items())}
    (folder / CONFIG_FILE).write_text(json.dumps(values, indent=1) + "\n")


def as_stored(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they come back from an int8 voice."""
    packed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        packed |= _packed(name, tensor.detach().float().cpu(), "int8")
    return _unpacked(packed)


def load_voice(folder: Path) -> OwnVoice:
    """Read a voice, in fp32 on the CPU.

    Raises:
        CheckpointError: files are missing, damaged, or not of this form.
    """
    try:
        values = json.loads((folder / CONFIG_FILE).read_text())
        stored = load_file(folder / WEIGHTS_FILE)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder} holds no readable voice: {error}") from error
    try:
        voice = _voice(values)
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError, RuntimeError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} is not of the form {FORMAT!r}: {error!r}") from error
    weights = _unpacked(stored)
    expected = {name: tensor.shape for name, tensor in voice.state_dict().items()}
    found = {name: tensor.shape for name, tensor in weights.items()}
    if expected != found:
        wrong = sorted(name for name in expected | found if expected.get(name) != found.get(name))
        raise CheckpointError(f"{folder / WEIGHTS_FILE} does not fit its configuration: {', '.join(wrong[:5])}")
    voice.load_state_dict(weights)
    return voice.eval().requires_grad_(False)


def _voice(values: Mapping[str, Any]) -> OwnVoice:
    if values["format"] != FORMAT:
        raise ValueError(f"format is {values['format']!r}")
    config = dict(values["config"])
    config["text"], config["frames"] = DecoderConfig(**config["text"]), DecoderConfig(**config["frames"])
    codec = dict(config["codec"])
    config["codec"] = CodecConfig(**(codec | {"levels": tuple(codec["levels"])}))
    pronouncer = Pronouncer(DecoderConfig(**values["pronouncer"]), values["exceptions"])
    voice = OwnVoice(SpeechConfig(**config), tuple(values["voices"]), pronouncer=pronouncer)
    voice.polished = tuple(values.get("polished", ()))
    return voice


def _packed(name: str, tensor: Tensor, precision: Precision) -> dict[str, Tensor]:
    if precision == "int8" and tensor.ndim > 1 and tensor.numel() >= MIN_QUANTISED:
        rows = tensor.flatten(1)
        scale = rows.abs().amax(1).clamp(min=1e-12) / MAX_INT8
        quantised = (rows / scale[:, None]).round().to(torch.int8).view(tensor.shape)
        return {name: quantised, name + SCALE_SUFFIX: scale}
    return {name: tensor.bfloat16() if precision == "bf16" else tensor.contiguous()}


def _unpacked(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weights = {name: tensor for name, tensor in stored.items() if name + SCALE_SUFFIX not in stored}
    scales = {name: weights.pop(name) for name in list(weights) if name.removesuffix(SCALE_SUFFIX) in stored
              and name.endswith(SCALE_SUFFIX)}  # fmt: skip
    for name, scale in scales.items():
        base = name.removesuffix(SCALE_SUFFIX)
        tensor = stored[base]
        if scale.shape != tensor.shape[:1]:
            raise CheckpointError(f"{name} has the shape {tuple(scale.shape)}, expected {tuple(tensor.shape[:1])}")
        weights[base] = tensor.float() * scale.view(-1, *[1] * (tensor.ndim - 1))
    return {name: tensor.float() for name, tensor in weights.items()}

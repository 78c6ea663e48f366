"""The project's targets: one H200 for the full size, two CPU cores for the embedded model."""

from __future__ import annotations

from audioflamingo.config import NANO, ModelConfig

Goals = dict[str, dict[str | None, float]]  # by row, then by quantization

FULL_SIZE_GPU: Goals = {
    "encoder_long": {None: 75},
    "encoder_shortest": {None: 30},
    "encoder_short": {None: 80},
    "first_token_clip": {None: 20},
    "first_token_long": {None: 420, "fp8": 300},
    "second_question": {None: 12},
    "decode_one": {None: 3.6, "fp8": 2.0, "int8": 2.0, "int4": 1.4},
    "decode_many": {None: 5},
    "batch_clips": {None: 1_100},
    "batch_short": {None: 1_200},
    "peak_memory": {None: 18, "int4": 7.5},
    "load": {None: 1.5},
    "log_mel": {None: 3},
}
EMBEDDED_CPU: Goals = {"cold_ask": {None: 4}, "warm_first_token": {None: 150}, "warm_rate": {None: 150}}
FULL_SIZE_CPU: Goals = {"peak_memory": {"int4": 8}}


def goal_of(key: str, config: ModelConfig, device: str, quantize: str | None) -> float | None:
    """The target of a row; None where the project has set none."""
    if config == ModelConfig() and device == "cuda":
        return FULL_SIZE_GPU.get(key, {}).get(quantize)
    if config == ModelConfig():
        return FULL_SIZE_CPU.get(key, {}).get(quantize)
    if config == NANO and device == "cpu":
        return EMBEDDED_CPU.get(key, {}).get(quantize)
    return None

"""The small files beside the weights, by which transformers finds out how to prepare sounds, read text and stop.

Their form is that of transformers 5's own `AudioFlamingo3Processor.save_pretrained`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from audioflamingo.audio.mel import STFT_SAMPLES
from audioflamingo.config import HOP_SAMPLES, MAX_NEW_TOKENS, MAX_WINDOWS, MEL_FRAMES_PER_WINDOW, WINDOW_S, ModelConfig
from audioflamingo.errors import CheckpointError
from audioflamingo.prompt import TRANSCRIBE_PROMPT
from audioflamingo.tokenizer import SOUND, Tokenizer
from audioflamingo.types import SAMPLE_RATE_HZ

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
)


GENERATION_CONFIG = "generation_config.json"
KEPT = ("transcription",)  # see `longform.lengths`


def write_companions(folder: str | Path, config: ModelConfig, tokenizer_folder: str | Path) -> None:
    """Write generation_config.json and processor_config.json, and copy the tokenizer and its chat template.

    Args:
        folder: where config.json and the weights are, or will be.
        config: of the model that is stored there.
        tokenizer_folder: where the tokenizer's files are; may be the same folder.

    Raises:
        CheckpointError: there is no usable tokenizer, or it is another model's.
    """
    folder, source = Path(folder), Path(tokenizer_folder)
    tokenizer = Tokenizer.from_folder(source)
    if tokenizer.sound != config.audio_token_id or tokenizer.vocab_size > config.decoder.vocab_size:
        raise CheckpointError(
            f"the tokenizer in {source} has {tokenizer.vocab_size} tokens with {SOUND} at {tokenizer.sound}, the model "
            f"{config.decoder.vocab_size} with {SOUND} at {config.audio_token_id}; the two are of different checkpoints"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder.exists() and source.exists() and folder.samefile(source)):
        for name in TOKENIZER_FILES:
            (folder / name).unlink(missing_ok=True)  # of another tokenizer, whose files this one may lack
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
    kept = _kept(source / GENERATION_CONFIG)  # before it is written over, where the two folders are one
    _write(folder / GENERATION_CONFIG, generation_config(tokenizer) | kept)
    _write(folder / "processor_config.json", processor_config(config))


def _kept(path: Path) -> dict[str, Any]:
    """What a model's generation_config.json says of its transcripts, which holds for what is trained from it."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be used: {error}; remove it or download it again") from error
    return {key: values[key] for key in KEPT if isinstance(values, dict) and key in values}


def generation_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """Greedy, as the released model answers: without any setting of sampling, transformers takes the likeliest."""
    return {
        "eos_token_id": list(tokenizer.eos_ids),
        "max_new_tokens": MAX_NEW_TOKENS,
        "pad_token_id": tokenizer.pad,
    }


def processor_config(config: ModelConfig) -> dict[str, Any]:
    """Settings of transformers' processor and of the feature extractor within it."""
    return {
        "audio_token": SOUND,
        "default_transcription_prompt": TRANSCRIBE_PROMPT,
        "feature_extractor": {
            "chunk_length": WINDOW_S,
            "dither": 0.0,
            "feature_extractor_type": "WhisperFeatureExtractor",
            "feature_size": config.encoder.num_mel_bins,
            "hop_length": HOP_SAMPLES,
            "n_fft": STFT_SAMPLES,
            "n_samples": WINDOW_S * SAMPLE_RATE_HZ,
            "nb_max_frames": MEL_FRAMES_PER_WINDOW,
            "padding_side": "right",
            "padding_value": 0.0,
            "return_attention_mask": True,
            "sampling_rate": SAMPLE_RATE_HZ,
        },
        "max_audio_len": MAX_WINDOWS * WINDOW_S,
        "processor_class": "AudioFlamingo3Processor",
    }


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

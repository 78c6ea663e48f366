"""Options of one call of the processor, checked; none is ever dropped without a word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from audioflamingo.config import MAX_PROMPT_TOKENS
from audioflamingo.errors import OptionError
from audioflamingo.integrations.transformers.labels import LabelScope
from audioflamingo.types import SAMPLE_RATE_HZ

LongAudio = Literal["error", "truncate"]
GROUPS = ("common_kwargs", "text_kwargs", "audio_kwargs")
TOKENIZER_OPTIONS = {
    "padding", "padding_side", "truncation", "max_length", "pad_to_multiple_of", "add_special_tokens",
    "return_attention_mask", "return_offsets_mapping", "return_token_type_ids", "return_length", "verbose",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a caller may choose for one call.

    Attributes:
        sampling_rate: rate of arrays in Hz; they are resampled to 16,000 if it is another. Files state their own.
        as_chat: whether texts are plain messages of the user; None decides for each text.
        label_scope: "assistant" takes the loss on the assistant's words and their end alone; "reference" on all text,
            as transformers does.
        long_audio: "error" refuses sounds over the limit; "truncate" keeps their beginning and logs it, as transformers
            does.
        max_prompt_tokens: most tokens of a text with its sounds.
        device: where features are computed and returned.
        return_mm_token_type_ids: whether to add (B, T) kinds of tokens, 0 text and 3 audio.
        tokenizer_options: what the tokenizer is called with.
    """

    sampling_rate: int = SAMPLE_RATE_HZ
    as_chat: bool | None = None
    label_scope: LabelScope = "assistant"
    long_audio: LongAudio = "error"
    max_prompt_tokens: int = MAX_PROMPT_TOKENS
    device: Any = "cpu"
    return_mm_token_type_ids: bool = False
    tokenizer_options: Mapping[str, Any] = field(default_factory=dict)


_OWN = {one.name for one in fields(Settings)} - {"tokenizer_options"}
CALL_OPTIONS = _OWN | TOKENIZER_OPTIONS | {*GROUPS, "output_labels", "return_tensors"}


def settings_of(options: Mapping[str, Any]) -> Settings:
    """Sort flat and grouped options.

    Raises:
        OptionError: an unknown name or a value that is not allowed; all complaints at once.
    """
    flat: dict[str, Any] = {}
    for group in GROUPS:
        flat |= _without_features_padding(group, options.get(group) or {})
    flat |= {name: value for name, value in options.items() if name not in (*GROUPS, "output_labels")}
    tensors = flat.pop("return_tensors", "pt")
    complaints = [f"unknown option {name!r}" for name in flat if name not in _OWN | TOKENIZER_OPTIONS]
    if tensors not in ("pt", None):
        complaints.append(f"return_tensors is {tensors!r}, allowed: 'pt'")
    for name, literal in (("label_scope", LabelScope), ("long_audio", LongAudio)):
        if name in flat and flat[name] not in get_args(literal):
            complaints.append(f"{name} is {flat[name]!r}, allowed: {', '.join(map(repr, get_args(literal)))}")
    if flat.get("padding", True) in (False, "do_not_pad"):
        complaints.append("padding is off, allowed: True, 'longest' or 'max_length', as the rows of a tensor are equal")
    if flat.get("sampling_rate", SAMPLE_RATE_HZ) is None:
        del flat["sampling_rate"]
    if complaints:
        raise OptionError("; ".join(complaints))
    tokenizer = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
    tokenizer |= {name: value for name, value in flat.items() if name in TOKENIZER_OPTIONS}
    own = {name: value for name, value in flat.items() if name in _OWN}
    return Settings(tokenizer_options=tokenizer, **own)


def _without_features_padding(group: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Windows always have 3000 frames and a mask: these two of transformers' audio options have nothing to decide."""
    decided = ("padding", "return_attention_mask") if group == "audio_kwargs" else ()
    return {name: value for name, value in options.items() if name not in decided}

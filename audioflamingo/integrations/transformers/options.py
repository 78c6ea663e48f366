"""Options of one call of the processor, checked; none is ever dropped without a word."""

from __future__ import annotations

import difflib
import numbers
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
OTHER_SENSES = {"images", "videos"}
MAY_BE_NONE = {"sampling_rate", "as_chat", *OTHER_SENSES}
"""Options that None leaves out; transformers' pipelines pass every kind of input, None for those that there are not."""


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
    flat = {name: value for name, value in flat.items() if value is not None or name not in MAY_BE_NONE}
    tensors = flat.pop("return_tensors", "pt")
    complaints = [_unknown(name) for name in flat if name not in _OWN | TOKENIZER_OPTIONS]
    complaints += _value_complaints(flat)
    if tensors not in ("pt", None):
        complaints.append(f"return_tensors is {tensors!r}, allowed: 'pt'")
    for name, literal in (("label_scope", LabelScope), ("long_audio", LongAudio)):
        if name in flat and flat[name] not in get_args(literal):
            complaints.append(f"{name} is {flat[name]!r}, allowed: {', '.join(map(repr, get_args(literal)))}")
    if flat.get("padding", True) in (False, "do_not_pad"):
        complaints.append("padding is off, allowed: True, 'longest' or 'max_length', as the rows of a tensor are equal")
    if complaints:
        raise OptionError("; ".join(complaints))
    # `verbose` off: the tokenizer warns of texts over a limit of its own, though these are checked here.
    tokenizer = {"padding": True, "padding_side": "left", "return_tensors": "pt", "verbose": False}
    tokenizer |= {name: value for name, value in flat.items() if name in TOKENIZER_OPTIONS}
    own = {name: value for name, value in flat.items() if name in _OWN}
    return Settings(tokenizer_options=tokenizer, **own)


def _unknown(name: str) -> str:
    if name in OTHER_SENSES:
        return f"{name} came, but this model takes text and sound alone"
    near = difflib.get_close_matches(name, CALL_OPTIONS | {"text", "audio"}, n=1, cutoff=0.75)
    return f"unknown option {name!r}" + (f" (is {near[0]!r} meant?)" if near else "")


def _value_complaints(options: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values of options that are numbers or flags."""
    complaints = []
    for name in ("sampling_rate", "max_prompt_tokens"):
        value = options.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            complaints.append(f"{name} is {value!r}, allowed: a whole number")
        elif name == "max_prompt_tokens" and value < 1:
            complaints.append(f"{name} is {value!r}, allowed: 1 or more")
    flags = [name for name in ("as_chat", "return_mm_token_type_ids") if not isinstance(options.get(name, True), bool)]
    return complaints + [f"{name} is {options[name]!r}, allowed: True or False" for name in flags]


def _without_features_padding(group: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Windows always have 3000 frames and a mask: these two of transformers' audio options have nothing to decide."""
    decided = ("padding", "return_attention_mask") if group == "audio_kwargs" else ()
    return {name: value for name, value in options.items() if name not in decided}

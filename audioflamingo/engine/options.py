"""Every option of a request, and what is allowed. Defaults come from the checkpoint where it states them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

from audioflamingo.config import MAX_NEW_TOKENS, MAX_PROMPT_TOKENS, MAX_WINDOWS, WINDOW_S
from audioflamingo.engine.sampling import check_sampling
from audioflamingo.engine.schema import as_schema
from audioflamingo.errors import CheckpointError, OptionError
from audioflamingo.prompt import Budget, PromptStyle
from audioflamingo.types import Beams, LongAudio, Sampling

GENERATION_CONFIG = "generation_config.json"
PROCESSOR_CONFIG = "processor_config.json"
MAX_CONFIG_BYTES = 1 << 20
MAX_AUDIO_S = 3_600
MAX_CHOICES = 4_096
MAX_BEAMS = 32
MAX_LENGTH_PENALTY = 5.0
REFERENCE_TOP_K = 50  # what transformers samples from where a checkpoint asks for sampling and does not say


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a caller may choose for one answer.

    Attributes:
        max_new_tokens: most tokens of an answer.
        temperature: 0 is greedy; above it, logits are divided by it.
        top_k: sample from the k likeliest tokens; 0 keeps all.
        top_p: sample from the smallest set of tokens whose probability reaches p; 1 keeps all.
        repetition_penalty: above 1 makes tokens seen before less likely; 1 is off.
        seed: of the random choice; the same seed gives the same answer.
        stop: the answer ends before the first of these strings; one string or several.
        long_audio: what happens to a sound of more than `max_windows` windows: "error", "truncate" or "split".
        max_windows: windows of 30 s that one sound may have.
        max_prompt_tokens: most tokens of a prompt, sounds included.
        style: how `<sound>` stands in a message, "hf" or "nvidia"; None leaves it to the checkpoint.
        think: reason before the answer; the reasoning comes apart from it, as `thoughts`.
        max_thought_tokens: most tokens of reasoning; None is half of `max_new_tokens`.
        schema: what the answer's JSON must keep to: a JSON schema as a dict or text, or a pydantic class.
        choices: texts of which the answer is exactly one; none given leaves it free.
        num_beams: beginnings of an answer that are followed side by side, so that the likeliest whole answer is found
            more often than by the likeliest token each time; 1 is off. The answer comes whole, at its end.
        length_penalty: with beams, whole answers are compared by their log-probability over their length to this power:
            above 0 longer ones are favoured, below it shorter ones.
    """

    max_new_tokens: int = MAX_NEW_TOKENS
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    long_audio: LongAudio = "error"
    max_windows: int = MAX_WINDOWS
    max_prompt_tokens: int = MAX_PROMPT_TOKENS
    style: PromptStyle | None = None
    think: bool = False
    max_thought_tokens: int | None = None
    schema: str | None = None
    choices: tuple[str, ...] = ()
    num_beams: int = 1
    length_penalty: float = 1.0

    @property
    def constraint(self) -> str | tuple[str, ...] | None:
        """What the answer must keep to: a schema's text, or choices, or nothing."""
        return self.schema or self.choices or None

    @property
    def beams(self) -> Beams | None:
        """How the answer is searched for; None where the engine writes it token by token."""
        return Beams(self.num_beams, self.length_penalty) if self.num_beams > 1 else None

    @property
    def thought_budget(self) -> int:
        """Most tokens of reasoning."""
        return self.max_thought_tokens or max(1, self.max_new_tokens // 2)

    @property
    def sampling(self) -> Sampling:
        """The part that the engine sees."""
        own = {field.name for field in fields(self)}
        return Sampling(**{field.name: getattr(self, field.name) for field in fields(Sampling) if field.name in own})

    def budget(self, max_positions: int) -> Budget:
        """The part that limits the prompt, for a decoder of so many positions.

        Raises:
            OptionError: the answer alone would take them all.
        """
        return Budget(self.max_prompt_tokens, self.max_new_tokens, max_positions)

    def updated(self, *several: Mapping[str, Any]) -> Options:
        """These options with some of them replaced; of several mappings a later one goes before an earlier one.

        Raises:
            OptionError: an unknown name, a wrong type or a value out of range; all complaints at once.
        """
        given = {name: value for one in several for name, value in _mapping(one).items()}
        allowed = [field.name for field in fields(self)]
        unknown = [name for name in given if name not in allowed]
        if unknown:
            raise OptionError(f"unknown option {', '.join(unknown)}; allowed: {', '.join(allowed)}")
        options = replace(self, **{name: _checked(name, value) for name, value in given.items()})
        check_sampling(options.sampling)
        _check_ranges(options)
        _check_choices(options)
        _check_beams(options)
        return options


def _mapping(options: Any) -> Mapping[str, Any]:
    if not isinstance(options, Mapping):
        raise OptionError(f"options are a {type(options).__name__}, allowed: a mapping of names to values")
    return options


def _checked(name: str, value: Any) -> Any:
    """The value in the type of its option."""
    if name in ("stop", "choices"):
        texts = (value,) if isinstance(value, str) and name == "stop" else value
        is_right, kind = isinstance(texts, list | tuple) and all(isinstance(one, str) for one in texts), "strings"
        value = tuple(texts) if is_right else texts
    elif name == "think":
        is_right, kind = isinstance(value, bool), "True or False"
    elif name == "max_thought_tokens" and value is None:
        is_right, kind = True, "a whole number or None"
    elif name == "schema":
        value = as_schema(value)
        is_right, kind = True, "a JSON schema"
    elif name == "style":
        is_right, kind = value is None or value in get_args(PromptStyle), _one_of(PromptStyle) + " or None"
    elif name == "long_audio":
        is_right, kind = value in get_args(LongAudio), _one_of(LongAudio)
    elif name in ("temperature", "top_p", "repetition_penalty", "length_penalty"):
        is_right, kind = isinstance(value, int | float) and not isinstance(value, bool), "a number"
    else:
        is_right, kind = isinstance(value, int) and not isinstance(value, bool), "a whole number"
    if not is_right:
        raise OptionError(f"{name} is {value!r}, allowed: {kind}")
    return value


def _one_of(literal: Any) -> str:
    return "one of " + ", ".join(map(repr, get_args(literal)))


def _check_choices(options: Options) -> None:
    choices = options.choices
    if len(set(choices)) < len(choices) or not all(choices) or len(choices) > MAX_CHOICES:
        raise OptionError(
            f"choices are {len(choices)} texts, allowed: up to {MAX_CHOICES:,}, none of them empty or there twice"
        )
    if choices and options.schema:
        raise OptionError("schema and choices both say what the answer must be, allowed: one of them")


def _check_beams(options: Options) -> None:
    num, power = options.num_beams, options.length_penalty
    if not 1 <= num <= MAX_BEAMS:
        raise OptionError(f"num_beams is {num}, allowed: 1 (off) to {MAX_BEAMS}")
    if not -MAX_LENGTH_PENALTY <= power <= MAX_LENGTH_PENALTY:
        raise OptionError(
            f"length_penalty is {power}, allowed: {-MAX_LENGTH_PENALTY:g} to {MAX_LENGTH_PENALTY:g}, 1 is usual"
        )
    if num == 1 and power != 1:
        raise OptionError(f"length_penalty is {power}, but num_beams is 1; it compares what beams find: give both")
    if num == 1:
        return
    if options.temperature > 0:
        raise OptionError(
            f"num_beams is {num} and temperature {options.temperature:g}; beams follow what is likeliest: give "
            "temperature 0 with them"
        )
    others = [name for name in ("think", "schema", "choices", "stop") if getattr(options, name)]
    if others:
        raise OptionError(f"num_beams is {num} and {', '.join(others)} came too, which beams do without; leave one out")


def _check_ranges(options: Options) -> None:
    for name in ("max_windows", "max_prompt_tokens"):
        if getattr(options, name) < 1:
            raise OptionError(f"{name} is {getattr(options, name)}, allowed: at least 1")
    if options.think and options.thought_budget >= options.max_new_tokens > 1:
        raise OptionError(
            f"max_thought_tokens is {options.thought_budget} of max_new_tokens {options.max_new_tokens}, allowed: "
            "fewer, so that an answer fits behind the thoughts"
        )
    if options.max_thought_tokens is not None and options.max_thought_tokens < 1:
        raise OptionError(f"max_thought_tokens is {options.max_thought_tokens}, allowed: at least 1")


def checkpoint_options(folder: Path, max_positions: int) -> Options:
    """Default options of a checkpoint, from its generation_config.json where it has one.

    A decoder of few positions keeps half of them for the prompt.

    Raises:
        CheckpointError: the file cannot be read or holds values that are not allowed.
    """
    own = _longest_sound(folder, max_positions)
    path = folder / GENERATION_CONFIG
    if not path.is_file():
        return _fitting(own, max_positions)
    try:
        values = read_settings(path)
        if not isinstance(values, dict):
            raise ValueError("it holds no JSON object")
        return _fitting(own.updated(_stated(values)), max_positions)
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be used: {error}; remove it or download it again") from error


def read_settings(path: Path) -> Any:
    """What a small JSON file of a checkpoint holds.

    Raises:
        OSError, ValueError, RecursionError: it cannot be read, is too large or no JSON.
    """
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ValueError(f"it has more than {MAX_CONFIG_BYTES} bytes")
    return json.loads(path.read_text(encoding="utf-8"))


def _longest_sound(folder: Path, max_positions: int) -> Options:
    """Options with the longest sound that the checkpoint's processor takes, where that is more than ten minutes."""
    path = folder / PROCESSOR_CONFIG
    if not path.is_file():
        return Options()
    try:
        values = read_settings(path)
        longest_s = values.get("max_audio_len", MAX_WINDOWS * WINDOW_S) if isinstance(values, dict) else None
        if not isinstance(longest_s, int | float) or isinstance(longest_s, bool) or not 0 < longest_s <= MAX_AUDIO_S:
            raise ValueError(f"max_audio_len is {longest_s!r}, allowed: up to {MAX_AUDIO_S} s")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be used: {error}; remove it or download it again") from error
    num_windows = max(1, int(longest_s // WINDOW_S))
    if num_windows <= MAX_WINDOWS:
        return Options(max_windows=num_windows)
    return Options(max_windows=num_windows, max_prompt_tokens=max(MAX_PROMPT_TOKENS, max_positions))


def _fitting(options: Options, max_positions: int) -> Options:
    return replace(options, max_new_tokens=max(1, min(options.max_new_tokens, max_positions // 2)))


def _stated(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a generation_config.json sets, in our terms."""
    stated: dict[str, Any] = {}
    if values.get("repetition_penalty") is not None:
        stated["repetition_penalty"] = values["repetition_penalty"]
    if isinstance(values.get("max_new_tokens"), int):  # the model card's figure holds where the file allows more
        stated["max_new_tokens"] = min(values["max_new_tokens"], MAX_NEW_TOKENS)
    if values.get("do_sample"):
        reference = {"temperature": 1.0, "top_k": REFERENCE_TOP_K, "top_p": 1.0}
        stated |= {name: default if values.get(name) is None else values[name] for name, default in reference.items()}
    return stated

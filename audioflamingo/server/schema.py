"""What `/v1/chat/completions` takes, in our own terms; each refusal names the field and the remedy. No framework."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from audioflamingo.server.errors import refused
from audioflamingo.server.fields import Fields, kind_of
from audioflamingo.server.limits import ServerLimits

AudioForm = Literal["wav", "pcm16"]
SOUND_FORMATS = ("wav", "mp3", "flac", "ogg", "opus", "m4a", "mp4", "aac", "webm", "aiff")
MAX_MESSAGES = 4_096
HARMLESS = (
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "parallel_tool_calls",
)  # fmt: skip
EFFORTS = {"none": 0.0, "minimal": 0.125, "low": 0.25, "medium": 0.5, "high": 0.75}
"""The share of an answer's tokens that thoughts may take at most."""


@dataclass(frozen=True)
class SoundRef:
    """A sound as it came: base64 of a file's bytes, or an address; `path` names the field in errors."""

    path: str
    base64: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class Turn:
    """One message: its texts and sounds in order."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[str | SoundRef, ...]


@dataclass(frozen=True)
class SpeechWish:
    """How an answer is to be spoken."""

    voice: str | None
    form: AudioForm


@dataclass(frozen=True)
class ChatRequest:
    """A request for an answer.

    Attributes:
        turns: the conversation.
        options: what was chosen of `Options`, by its names; `think` and what belongs to it are not among them.
        think: False, True, or the most tokens of thoughts; of a reasoning effort, the share of the answer's tokens.
        stream: whether the answer is sent as it comes.
        include_usage: whether a streamed answer ends with what it cost.
        speech: how it is to be spoken; None where only text was asked for.
        fields: names of all that came.
    """

    turns: tuple[Turn, ...]
    options: dict[str, Any] = field(default_factory=dict)
    think: bool | int | float = False
    stream: bool = False
    include_usage: bool = False
    speech: SpeechWish | None = None
    fields: frozenset[str] = frozenset()


def parse_chat(values: dict[str, Any], model: str, limits: ServerLimits) -> ChatRequest:
    """A chat request.

    Raises:
        ApiError: a field is missing, wrong, unknown, or asks for what this server does not do.
    """
    fields = Fields(values)
    check_model(fields, model)
    turns = _turns(fields.needed("messages", "give a list of messages"), limits)
    stream = fields.flag("stream")
    include_usage = _include_usage(fields, stream)
    options = _options(fields)
    speech = _speech(fields, stream)
    think = _think(fields)
    if speech is not None and "schema" in options:
        raise refused(
            "response_format asks for JSON, which is not read aloud; leave out modalities audio", "response_format"
        )
    _refuse_unsupported(fields)
    fields.ignore(HARMLESS)
    fields.finish()
    return ChatRequest(turns, options, think, stream, include_usage, speech, fields.names)


def check_model(fields: Fields, *served: str) -> None:
    """Refuse another model than ours; none is ours, too.

    Raises:
        ApiError: 404, as OpenAI has it.
    """
    name = fields.text("model", served[0])
    if name not in served:
        error = refused(f"there is no model {name!r} here; allowed: {', '.join(served)}", "model", "model_not_found")
        error.status = 404
        raise error


def _turns(messages: Any, limits: ServerLimits) -> tuple[Turn, ...]:
    if not isinstance(messages, list) or not messages:
        raise refused("messages is no list of at least one message; send [{'role': 'user', ...}]", "messages")
    if len(messages) > MAX_MESSAGES:
        raise refused(f"messages are {len(messages):,}; at most {MAX_MESSAGES:,} are allowed", "messages")
    turns = tuple(_turn(message, f"messages[{number}]") for number, message in enumerate(messages))
    num_sounds = sum(isinstance(part, SoundRef) for turn in turns for part in turn.parts)
    if num_sounds > limits.max_sounds:
        raise refused(
            f"messages hold {num_sounds:,} sounds; this server takes {limits.max_sounds:,} a request", "messages"
        )
    return turns


def _turn(message: Any, path: str) -> Turn:
    if not isinstance(message, dict):
        raise refused(f"{path} is {kind_of(message)}; send an object with role and content", path)
    fields = Fields(message, path)
    role = fields.needed("role", "send system, user or assistant")
    if role not in ("system", "developer", "user", "assistant"):
        fields.wrong("role", role, "system, developer, user, assistant; this model calls no tools")
    for name in ("tool_calls", "function_call", "annotations", "refusal"):
        fields.only(name, lambda value: not value, "this model calls no tools and refuses nothing; leave it out")
    fields.only("audio", lambda _: False, "answers are not kept here; send the transcript as content")
    fields.ignore(["reasoning_content"])  # an answer that is sent back holds it; thoughts are not remembered
    content = fields.needed("content", "send a string or a list of parts")
    fields.finish()
    if isinstance(content, str):
        parts: tuple[str | SoundRef, ...] = (content,)
    elif isinstance(content, list):
        parts = tuple(_part(part, f"{path}.content[{number}]") for number, part in enumerate(content))
    else:
        raise refused(f"{path}.content is {kind_of(content)}; send a string or a list of parts", f"{path}.content")
    if role != "user" and any(isinstance(part, SoundRef) for part in parts):
        raise refused(f"{path} is of the {role} and holds a sound; sounds stand in the user's messages", path)
    return Turn("system" if role == "developer" else role, parts)


def _part(part: Any, path: str) -> str | SoundRef:
    if not isinstance(part, dict):
        raise refused(f"{path} is {kind_of(part)}; send an object with a type", path)
    fields = Fields(part, path)
    kind = fields.text("type", allowed=("text", "input_audio", "audio_url"))
    if kind is None:
        fields.needed("type", "send text, input_audio or audio_url")
    found: str | SoundRef
    if kind == "text":
        text = fields.needed("text", "send the text")
        if not isinstance(text, str):
            fields.wrong("text", text, "a string")
        found = str(text)
    else:
        inner = fields.object(str(kind))
        if inner is None:
            fields.needed(str(kind), "send it as an object")
        found = _sound(inner, str(kind), path) if inner is not None else ""
    fields.finish()
    return found


def _sound(fields: Fields, kind: str, path: str) -> SoundRef:
    name = "data" if kind == "input_audio" else "url"
    value = fields.needed(name, "send base64 of a sound file" if name == "data" else "send an address")
    if not isinstance(value, str):
        fields.wrong(name, value, "a string")
    if kind == "input_audio":
        fields.needed("format", f"send one of {', '.join(SOUND_FORMATS)}")
        fields.text("format", allowed=SOUND_FORMATS)
    fields.finish()
    where = f"{path}.{kind}.{name}"
    return SoundRef(where, base64=value) if kind == "input_audio" else SoundRef(where, url=value)


def _include_usage(fields: Fields, stream: bool) -> bool:
    options = fields.object("stream_options")
    if options is None:
        return False
    if not stream:
        raise refused("stream_options came without stream; set stream to true", "stream_options")
    include_usage = options.flag("include_usage")
    options.only("include_obfuscation", lambda value: value is False, "nothing is padded here; leave it out")
    options.finish()
    return include_usage


def _options(fields: Fields) -> dict[str, Any]:
    """What was chosen of our `Options`."""
    given: dict[str, Any] = {
        "max_new_tokens": _max_tokens(fields),
        "temperature": fields.number("temperature", 0, 2),
        "top_p": fields.number("top_p", 0, 1),
        "top_k": fields.whole("top_k", 0),
        "repetition_penalty": fields.number("repetition_penalty", 0.01, 10),
        "seed": fields.whole("seed", 0),
        "stop": _stop(fields),
        "schema": _schema(fields),
    }
    options = {name: value for name, value in given.items() if value is not None}
    if "schema" in options and "stop" in options:
        raise refused("stop could end the JSON of response_format before it is complete; leave one of them out", "stop")
    return options


def _max_tokens(fields: Fields) -> int | None:
    found = [fields.whole(name, 1) for name in ("max_completion_tokens", "max_tokens")]
    given = {one for one in found if one is not None}
    if len(given) > 1:
        raise refused("max_tokens and max_completion_tokens differ; leave one of them out", "max_tokens")
    return given.pop() if given else None


def _stop(fields: Fields) -> tuple[str, ...] | None:
    stop = fields.take("stop")
    texts = [stop] if isinstance(stop, str) else stop
    if texts is None or texts == []:
        return None
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts) or len(texts) > 16:
        fields.wrong("stop", stop, "a string or a list of up to 16 strings, none of them empty")
    return tuple(texts)


def _schema(fields: Fields) -> str | None:
    chosen = fields.object("response_format")
    if chosen is None:
        return None
    kind = chosen.text("type", allowed=("text", "json_object", "json_schema"))
    if kind is None:
        chosen.needed("type", "send text, json_object or json_schema")
    schema = None
    if kind == "json_object":
        schema = '{"type": "object"}'
    if kind == "json_schema":
        named = chosen.object("json_schema")
        if named is None:
            chosen.needed("json_schema", "send {'name': ..., 'schema': {...}}")
        else:
            value = named.needed("schema", "send a JSON schema as an object")
            if not isinstance(value, dict):
                named.wrong("schema", value, "a JSON schema as an object")
            schema = json.dumps(value)
            named.flag("strict")  # always kept to, whatever it says
            named.ignore(["name", "description"])
            named.finish()
    chosen.finish()
    return schema


def _speech(fields: Fields, stream: bool) -> SpeechWish | None:
    modalities = fields.take("modalities")
    wish = fields.object("audio")
    if modalities is None or modalities == ["text"]:
        if wish is not None:
            raise refused("audio came without modalities; send modalities: ['text', 'audio']", "modalities")
        return None
    if not isinstance(modalities, list) or sorted(map(str, modalities)) != ["audio", "text"]:
        fields.wrong("modalities", modalities, "['text'] or ['text', 'audio']")
    if wish is None:
        raise refused("audio is missing; send audio: {'voice': 'default', 'format': 'wav'}", "audio", "missing_field")
    form: AudioForm = "wav" if wish.text("format", "wav", allowed=("wav", "pcm16")) == "wav" else "pcm16"
    if stream and form != "pcm16":
        raise refused("a streamed answer is spoken as pcm16; set audio.format to it", "audio.format")
    found = SpeechWish(wish.text("voice"), form)
    wish.finish()
    return found


def _think(fields: Fields) -> bool | int | float:
    effort = fields.text("reasoning_effort", allowed=EFFORTS)
    think = fields.take("think")
    if think is not None and effort is not None:
        raise refused("think and reasoning_effort both say how much to think; leave one of them out", "think")
    if effort is not None:
        return EFFORTS[effort]
    if think is None or isinstance(think, bool):
        return bool(think)
    return fields.whole("think", 1) or False


def _refuse_unsupported(fields: Fields) -> None:
    """What OpenAI's endpoint has and this one has not: the values that ask for nothing pass."""
    one = "one answer a request is given; send several requests, which run together"
    fields.only("n", lambda value: type(value) is int and value == 1, one)
    fields.only("logprobs", lambda value: value is False, "probabilities are not told; leave it out")
    for name in ("top_logprobs", "frequency_penalty", "presence_penalty"):
        fields.only(name, lambda value: value == 0, "it is not supported; leave it out (repetition_penalty is there)")
    fields.only("num_beams", lambda value: value == 1, "answers are written token by token here; leave it out")
    for name in ("tools", "functions", "logit_bias"):
        fields.only(name, lambda value: not value, "it is not supported by this model; leave it out")
    for name in ("tool_choice", "function_call"):
        fields.only(name, lambda value: value in ("none", "auto"), "this model calls no tools; leave it out")
    for name in _NOT_HERE:
        fields.only(name, lambda _: False, "it is not supported; leave it out")


_NOT_HERE: Iterable[str] = ("prediction", "web_search_options", "verbosity", "moderation")

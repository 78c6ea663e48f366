"""What a program uses: load a model, ask it about sounds, transcribe, caption, chat, stream, and batch.

>>> model = audioflamingo.load_model("nano")
>>> model.ask("dog.wav", "What do you hear?").text
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast, overload

import torch
from torch import Tensor

from audioflamingo.audio import Source
from audioflamingo.audio import load as load_audio
from audioflamingo.config import WINDOW_S, ModelConfig
from audioflamingo.engine.engine import Engine
from audioflamingo.engine.options import Options, checkpoint_options
from audioflamingo.engine.request import Request, collect, flatten, in_order, prepare
from audioflamingo.engine.runner import audible_windows, encode_windows
from audioflamingo.errors import CheckpointError, FlamingoError, OptionError
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.skeleton import NoInitialisation, num_parameters, skeleton
from audioflamingo.model.weights import load_config, load_flamingo, resolve
from audioflamingo.model.weights.read import DTYPES as DTYPES_BY_HEADER
from audioflamingo.model.weights.read import inventory, is_nvidia, match
from audioflamingo.prompt import (
    CAPTION_PROMPT,
    TRANSCRIBE_PROMPT,
    ChatTemplate,
    as_messages,
    load_template,
    strip_transcription,
)
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.types import Audio, Delta, Message, Reply

__all__ = ["AudioFlamingo", "Chat", "Stream", "load_audio", "load_model"]

SMALL_PARAMETERS = 1_000_000_000  # below it, fp32 fits any machine and is the faster on a CPU
DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}

Conversation = str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]]
Sources = Source | list[Source] | tuple[Source, ...] | None


def load_model(
    name: str | Path = "nano",
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> AudioFlamingo:
    """Load a model.

    Args:
        name: "nano" for the embedded model, the short name of a released checkpoint, a folder, or a hub id.
        device: as torch names it; by default the GPU if there is one, else the CPU.
        dtype: "float32", "bfloat16" or "float16"; by default the checkpoint's own, and fp32 for small models on a CPU.

    Raises:
        CheckpointError: there is no such model, or it is broken.
        OptionError: device or dtype is not available.
    """
    chosen_device, chosen_dtype = _device(device), _dtype(dtype)
    folder = resolve(name)
    config = load_config(folder)
    if chosen_dtype is None and chosen_device.type == "cpu" and num_parameters(config) < SMALL_PARAMETERS:
        chosen_dtype = torch.float32
    text_folder = _text_folder(folder)
    tokenizer = Tokenizer.from_folder(text_folder)
    _check_vocabulary(tokenizer, config)
    with NoInitialisation():
        model = load_flamingo(folder, device=chosen_device, dtype=chosen_dtype)
    return AudioFlamingo(
        name=str(name),
        model=model.requires_grad_(False),
        tokenizer=tokenizer,
        template=load_template(text_folder),
        defaults=checkpoint_options(text_folder, config.decoder.max_positions),
    )


class AudioFlamingo:
    """A loaded model. Every answer takes the options of `Options` as keywords; an unknown one is an error."""

    def __init__(
        self, *, name: str, model: Flamingo, tokenizer: Tokenizer, template: ChatTemplate, defaults: Options
    ) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.template = template
        self.defaults = defaults
        self.engine = Engine(model, tokenizer)

    def ask(self, audio: Sources, question: str, *, sample_rate_hz: int | None = None, **options: Any) -> Reply:
        """Answer a question about sounds.

        Args:
            audio: a path, bytes, an open file, an array, an `Audio`, a list of these, or None for a plain question.
            question: what to ask; `<sound>` and `<sound-k>` in it place the sounds, which else come first.
            sample_rate_hz: rate of arrays.
            options: see `Options`.

        Raises:
            FlamingoError: a sound, the prompt or an option is not usable.
        """
        message = Message("user", (*_load_all(audio, sample_rate_hz), question))
        reply: Reply = self._answer([(message,)], options)[0]
        return reply

    def transcribe(self, audio: Source, *, sample_rate_hz: int | None = None, **options: Any) -> Reply:
        """The words that are spoken, without the model's introduction to them. See `ask`."""
        message = Message("user", (load_audio(audio, sample_rate_hz=sample_rate_hz), TRANSCRIBE_PROMPT))
        reply: Reply = self._answer([(message,)], options, strip_transcription)[0]
        return reply

    def caption(self, audio: Source, *, sample_rate_hz: int | None = None, **options: Any) -> Reply:
        """A description of all that is heard. See `ask`."""
        return self.ask(audio, CAPTION_PROMPT, sample_rate_hz=sample_rate_hz, **options)

    def stream(self, conversation: Conversation, **options: Any) -> Stream:
        """Answer the last message of a conversation, piece by piece.

        Args:
            conversation: messages, or dicts with `role` and `content`; a sound is an `Audio`, a `Path`, or
                `{"type": "audio", "audio": source, "sample_rate_hz": rate of an array}`, whose source is anything that
                `load_audio` takes. Files named here are opened: check what a stranger sent with `as_messages` first.
            options: see `Options`.

        Raises:
            FlamingoError: before any work, if a sound, the conversation or an option is not usable.
        """
        requests = [self._prepare(conversation, self.defaults.updated(options))]
        prompts, samplings, places = flatten(requests)
        deltas = in_order(requests, places, self.engine.generate(prompts, samplings))
        return Stream(deltas, requests[0].notes)

    @overload
    def generate(
        self, conversations: Sequence[Conversation], *, errors: Literal["raise"] = "raise", **options: Any
    ) -> list[Reply]: ...

    @overload
    def generate(
        self, conversations: Sequence[Conversation], *, errors: Literal["return"], **options: Any
    ) -> list[Reply | FlamingoError]: ...

    def generate(
        self, conversations: Sequence[Conversation], *, errors: Literal["raise", "return"] = "raise", **options: Any
    ) -> list[Reply] | list[Reply | FlamingoError]:
        """Answer many conversations as one batch; each answer is the one that it would get alone.

        Args:
            conversations: each in a form that `stream` takes.
            errors: "raise" the first error before any work; or "return" it in the place of its answer, so that one bad
                conversation does not lose the others.
            options: see `Options`; the same for all.
        """
        if errors not in ("raise", "return"):
            raise OptionError(f"errors is {errors!r}, allowed: 'raise' or 'return'")
        return self._answer(conversations, options, keep_errors=errors == "return")

    def chat(self, system: str | None = None, **options: Any) -> Chat:
        """A conversation that remembers what was said and heard, with options for all its answers."""
        self.defaults.updated(options)  # a wrong option is known now, not at the first question
        return Chat(self, system, options)

    def encode(self, audio: Source, *, project: bool = False, sample_rate_hz: int | None = None) -> Tensor:
        """What the model hears: (A, D) features at 25 Hz in the model's dtype, on its device.

        Args:
            audio: one sound of any length, encoded in windows of 30 s.
            project: whether to go through the projector, to the decoder's width.
            sample_rate_hz: rate of an array.
        """
        windows = audible_windows(load_audio(audio, sample_rate_hz=sample_rate_hz).samples)
        with torch.no_grad():
            return torch.cat(encode_windows(self.model, windows, self.engine.limits.encoder_windows, project=project))

    @property
    def info(self) -> dict[str, Any]:
        """Name, size, precision, device, limits and default options."""
        return {
            "name": self.name,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": str(self.model.device),
            **describe(self.model.config, self.defaults),
        }

    def _prepare(self, conversation: Conversation, options: Options) -> Request:
        messages = as_messages(_with_loaded_sounds(conversation))
        return prepare(messages, options, self.tokenizer, self.template, self.model.config.decoder.max_positions)

    def _answer(
        self,
        conversations: Sequence[Conversation],
        options: Mapping[str, Any],
        tidy: Callable[[str], str] = str,
        keep_errors: bool = False,
    ) -> list[Any]:
        chosen = self.defaults.updated(options)
        answers: list[Reply | FlamingoError | None] = []
        requests: list[Request] = []
        for conversation in conversations:
            try:
                requests.append(self._prepare(conversation, chosen))
                answers.append(None)
            except FlamingoError as error:
                if not keep_errors:
                    raise
                answers.append(error)
        prompts, samplings, places = flatten(requests)
        replies = iter(collect(requests, places, self.engine.generate(prompts, samplings), tidy))
        return [next(replies) if answer is None else answer for answer in answers]


class Stream(Iterator[Delta]):
    """An answer as it comes. Closing it stops the work; it is closed at the end of a `with` block.

    Attributes:
        notes: what was done to the sounds that their author should know of, such as a truncation.
    """

    def __init__(self, deltas: Iterator[Delta], notes: tuple[str, ...]) -> None:
        self._deltas = deltas
        self.notes = notes

    def __next__(self) -> Delta:
        return next(self._deltas)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the work and free its memory."""
        close = getattr(self._deltas, "close", None)
        if close is not None:
            close()


class Chat:
    """A conversation with memory: every question and answer, and every sound, stay for the turns that follow.

    Attributes:
        messages: what was said so far.
    """

    def __init__(self, model: AudioFlamingo, system: str | None, options: Mapping[str, Any]) -> None:
        self.messages: tuple[Message, ...] = () if system is None else (Message("system", (system,)),)
        self._model = model
        self._options = dict(options)

    def ask(self, question: str, audio: Sources = None, *, sample_rate_hz: int | None = None, **options: Any) -> Reply:
        """Say the next turn, with new sounds or none, and get the whole answer; see `AudioFlamingo.ask`.

        A question that fails leaves the conversation as it was.
        """
        messages = self._with_question(question, audio, sample_rate_hz)
        reply: Reply = self._model.generate([messages], **self._options | options)[0]
        self.messages = (*messages, Message("assistant", (reply.text,)))
        return reply

    def stream(
        self, question: str, audio: Sources = None, *, sample_rate_hz: int | None = None, **options: Any
    ) -> Stream:
        """Like `ask`, piece by piece. What was said until the stream ends or is closed becomes part of the memory."""
        messages = self._with_question(question, audio, sample_rate_hz)
        stream = self._model.stream(messages, **self._options | options)
        return Stream(self._remembered(messages, stream), stream.notes)

    def _with_question(self, question: str, audio: Sources, sample_rate_hz: int | None) -> tuple[Message, ...]:
        return (*self.messages, Message("user", (*_load_all(audio, sample_rate_hz), question)))

    def _remembered(self, messages: tuple[Message, ...], stream: Stream) -> Iterator[Delta]:
        text = ""
        try:
            with stream:
                for delta in stream:
                    text += delta.text
                    yield delta
        finally:
            if text:
                self.messages = (*messages, Message("assistant", (text,)))


def inspect_model(name: str | Path) -> dict[str, Any]:
    """What `AudioFlamingo.info` tells, read from the checkpoint's headers: its tensors are checked but not loaded.

    Raises:
        CheckpointError: there is no such model, or it is broken.
    """
    folder = resolve(name)
    config = load_config(folder)
    shapes = {key: tuple(tensor.shape) for key, tensor in skeleton(config).state_dict().items()}
    stored = match(folder, inventory(folder), shapes).values()
    defaults = checkpoint_options(_text_folder(folder), config.decoder.max_positions)
    dtypes = sorted({str(DTYPES_BY_HEADER[tensor.dtype]).removeprefix("torch.") for tensor in stored})
    return {"name": str(name), "folder": str(folder), "dtype": ", ".join(dtypes), **describe(config, defaults)}


def describe(config: ModelConfig, defaults: Options) -> dict[str, Any]:
    """Size, limits and default options of a model of this shape, as plain values."""
    return {
        "num_parameters": num_parameters(config),
        "max_positions": config.decoder.max_positions,
        "max_audio_s": defaults.max_windows * WINDOW_S,
        "shape": config.summary(),
        "options": asdict(defaults),
    }


def _load_all(audio: Sources, sample_rate_hz: int | None) -> list[Audio]:
    if audio is None:
        return []
    sources = cast("Iterable[Source]", audio if isinstance(audio, list | tuple) else (audio,))
    return [load_audio(source, sample_rate_hz=sample_rate_hz) for source in sources]


def _with_loaded_sounds(conversation: Any) -> Any:
    """The same conversation with an `Audio` wherever a sound's source stood; what else is wrong stays for others."""
    if isinstance(conversation, Message):
        return Message(conversation.role, tuple(map(_loaded, conversation.content)))
    if isinstance(conversation, Mapping):
        content: Any = conversation.get("content")
        is_list = isinstance(content, list | tuple)
        return {**conversation, "content": [*map(_loaded, content)] if is_list else _loaded(content)}
    if isinstance(conversation, Sequence) and not isinstance(conversation, str):
        return [_with_loaded_sounds(one) if isinstance(one, Message | Mapping) else one for one in conversation]
    return conversation


def _loaded(item: Any) -> Any:
    if isinstance(item, Path):
        return load_audio(item)
    if isinstance(item, Mapping) and item.get("type", "audio") == "audio" and "audio" in item:
        return load_audio(item["audio"], sample_rate_hz=item.get("sample_rate_hz"), name=item.get("name"))
    return item


def _text_folder(folder: Path) -> Path:
    """Where the tokenizer, the template and the defaults of a checkpoint are."""
    return folder / "llm" if is_nvidia(folder) else folder


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"device {str(device)!r} is not available; allowed here: {', '.join(available)}") from error
    return chosen


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if dtype is not None and chosen not in DTYPES.values():
        raise OptionError(f"dtype {str(dtype)!r} is not one of {', '.join(DTYPES)}")
    return chosen


def _check_vocabulary(tokenizer: Tokenizer, config: ModelConfig) -> None:
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

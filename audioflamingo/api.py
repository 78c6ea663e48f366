"""What a program uses: load a model, ask it about sounds, transcribe, caption, chat, stream, and batch.

>>> model = audioflamingo.load_model("nano")
>>> model.ask("dog.wav", "What do you hear?").text
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast, overload

import torch
from torch import Tensor

from audioflamingo.audio import Source
from audioflamingo.audio import load as load_audio
from audioflamingo.conversation import Chat, PromptSize, Stream, with_examples
from audioflamingo.conversation.examples import Example
from audioflamingo.conversation.prepared import Prepared
from audioflamingo.conversation.sounds import Sources, question_about, with_loaded_sounds
from audioflamingo.engine.beams import generated
from audioflamingo.engine.embeddings import encode_windows
from audioflamingo.engine.engine import Engine
from audioflamingo.engine.options import Options, checkpoint_options
from audioflamingo.engine.request import Request, check_batch, collect, flatten, in_order, prepare
from audioflamingo.engine.scheduler import CacheKind, Limits
from audioflamingo.engine.sounds import audible_windows
from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.facts import Detail, FactsModel
from audioflamingo.facts.questions import CAPTIONS
from audioflamingo.inspection import describe, inspect_model, text_folder
from audioflamingo.loading import check_scheme, check_vocabulary, device_of, dtype_of, limits_of, usual_dtype, work_in
from audioflamingo.longform import Lengths, Spoken, lengths_of, spoken_at_once, spoken_in_pieces
from audioflamingo.model.costs import held_bytes
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.quantize import Scheme, scheme_in_use
from audioflamingo.model.skeleton import NoInitialisation
from audioflamingo.model.weights import Progress, load_config, load_flamingo, resolve
from audioflamingo.prompt import TRANSCRIBE_PROMPT, ChatTemplate, as_messages, load_template
from audioflamingo.scoring import ScoringModel
from audioflamingo.structured import Structured, parse_answer
from audioflamingo.think import adapter_folder, with_think_suffix
from audioflamingo.think.adapter import read_adapter
from audioflamingo.think.thinking import Thinking, answer_room
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.types import Delta, Message, Reply

__all__ = ["AudioFlamingo", "Chat", "Stream", "inspect_model", "load_audio", "load_model"]

UNLIMITED = 1 << 40  # tokens; for counting what does not fit

Conversation = str | Message | Mapping[str, Any] | Sequence[Message | Mapping[str, Any]]


def load_model(  # noqa: PLR0913 - all but the name are keywords
    name: str | Path = "nano",
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    quantize: Scheme | None = None,
    kv_cache: CacheKind = "plain",
    thinking: str | Path | None = None,
    adapter: str | Path | None = None,
    any_base: bool = False,
    progress: Progress | None = None,
) -> AudioFlamingo:
    """Load a model.

    Args:
        name: "nano" for the embedded model, the short name of a released checkpoint, a folder, or a hub id.
        device: as torch names it; by default the GPU if there is one, else the CPU.
        dtype: "float32", "bfloat16" or "float16"; by default the checkpoint's own, and fp32 for small models on a CPU.
        quantize: "int8", "int4" or "fp8" to store the decoder's weights in fewer bits, each as it is read, so that the
            whole model never takes the memory of its checkpoint; docs/quantization.md has what it costs.
        kv_cache: "int8" keeps what was read of prompts and answers in half of 16 bits' memory; docs/quantization.md.
        thinking: folder of a thinking adapter; by default the checkpoint's own, if it has one. It is read when first
            used.
        adapter: folder of an adapter, such as `flamingo train lora` writes, that is worked into the weights for all
            answers.
        any_base: use adapters even where they say that they were trained on other weights than this model's, which is
            an error otherwise.
        progress: called with the bytes that are loaded and those of all, as they come.

    Raises:
        CheckpointError: there is no such model or adapter, or it is broken, or the two do not fit.
        OptionError: device, dtype, quantize or kv_cache is not available.
    """
    chosen_device, chosen_dtype = device_of(device), dtype_of(dtype)
    check_scheme(quantize)
    limits = limits_of(kv_cache, chosen_device)
    folder = resolve(name)
    config = load_config(folder)
    if chosen_dtype is None:
        chosen_dtype = usual_dtype(config, chosen_device)
    texts = text_folder(folder)
    tokenizer = Tokenizer.from_folder(texts)
    check_vocabulary(tokenizer, config)
    tokenizer.sound_boundaries = config.sound_boundaries
    with NoInitialisation():
        model = load_flamingo(folder, device=chosen_device, dtype=chosen_dtype, quantize=quantize, progress=progress)
    if adapter is not None:
        work_in(model, read_adapter(adapter, model, name=str(name), any_base=any_base), folder)
    loaded = AudioFlamingo(
        name=str(name),
        model=model.requires_grad_(False),
        tokenizer=tokenizer,
        template=load_template(texts),
        defaults=checkpoint_options(texts, config.decoder.max_positions),
        thinking=adapter_folder(folder) if thinking is None else Path(thinking),
        limits=limits,
        any_base=any_base,
    )
    loaded.lengths = lengths_of(texts)
    return loaded


class AudioFlamingo(FactsModel, ScoringModel):
    """A loaded model. Every answer takes the options of `Options` as keywords; an unknown one is an error."""

    def __init__(
        self,
        *,
        name: str,
        model: Flamingo,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        defaults: Options,
        thinking: Path | None = None,
        limits: Limits | None = None,
        any_base: bool = False,
    ) -> None:
        self.name = name
        self.lengths = Lengths()  # how it wants a sound cut for its transcript
        self.model = model
        self.tokenizer = tokenizer
        self.template = template
        self.defaults = defaults
        self.engine = Engine(model, tokenizer, limits)
        self.thinking = Thinking(model, tokenizer, thinking, name=name, any_base=any_base)
        self.structured = Structured(tokenizer, model.config.decoder.vocab_size)

    def ask(
        self,
        audio: Sources,
        question: str,
        *,
        sample_rate_hz: int | None = None,
        examples: Iterable[Example] = (),
        **options: Any,
    ) -> Reply:
        """Answer a question about sounds.

        Args:
            audio: a path, bytes, an open file, an array, an `Audio`, a list of these, or None for a plain question.
            question: what to ask; `<sound>` and `<sound-k>` in it place the sounds, which else come first.
            sample_rate_hz: rate of arrays.
            examples: (sound, answer) pairs that show what is wanted; the question is asked of each of them first.
            options: see `Options`.

        Raises:
            FlamingoError: a sound, the prompt or an option is not usable.
        """
        message = question_about(audio, question, sample_rate_hz)
        return self.answer((*with_examples(question, examples), message), **options)

    def answer(self, conversation: Conversation, **options: Any) -> Reply:
        """The whole answer to a conversation's last message; see `stream`."""
        return cast("Reply", self._answer([conversation], options)[0])

    def extract(self, audio: Sources, question: str, schema: Any, **options: Any) -> Any:
        """Answer as an object: an instance of `schema` if it is a pydantic class, else what its JSON holds.

        Raises:
            SchemaError: the answer ended before the schema was met.
        """
        return parse_answer(self.ask(audio, question, schema=schema, **options).text, schema)

    def transcribe(self, audio: Source, *, sample_rate_hz: int | None = None, **options: Any) -> Spoken:
        """The words that are spoken, without the model's introduction; none, and a note, where nobody speaks.

        `transcript` of the answer has times. What is longer than the model's `lengths.at_once_s` is heard in pieces.
        """
        sound = load_audio(audio, sample_rate_hz=sample_rate_hz)
        if sound.duration_s > self.lengths.at_once_s:
            return spoken_in_pieces(self, sound, **{"max_windows": self.defaults.max_windows} | options)
        return spoken_at_once(self.answer([Message("user", (sound, TRANSCRIBE_PROMPT))], **options), sound)

    def caption(
        self, audio: Source, *, detail: Detail = "long", sample_rate_hz: int | None = None, **options: Any
    ) -> Reply:
        """A description of all that is heard, in one sentence ("short") or in detail. See `ask`."""
        if detail not in CAPTIONS:
            raise OptionError(f"detail is {detail!r}, allowed: {', '.join(map(repr, CAPTIONS))}")
        return self.ask(audio, CAPTIONS[detail], sample_rate_hz=sample_rate_hz, **options)

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
        ready = self.prepare(conversation, **options)
        deltas = ready.shown(generated(self.engine, ready.prompts, ready.samplings, [ready.beams] * len(ready.prompts)))
        return Stream(self.structured.checked(deltas, ready.constraint) if ready.constraint else deltas, ready.notes)

    def prepare(self, conversation: Conversation, **options: Any) -> Prepared:
        """What `stream` gives to the engine, for a program that drives the engine by itself; nothing is computed."""
        chosen = self.defaults.updated(options)
        requests = [self._prepare(conversation, chosen)]
        prompts, samplings, places = flatten(requests)
        samplings = self.thinking.own_limits(samplings)

        def shown(deltas: Generator[Delta, None, None]) -> Iterator[Delta]:
            return in_order(requests, places, self.thinking.apart(deltas, [chosen] * len(prompts), samplings))

        return Prepared(tuple(prompts), tuple(samplings), requests[0].notes, chosen.constraint, shown, chosen.beams)

    @overload
    def generate(
        self,
        conversations: Sequence[Conversation],
        *,
        errors: Literal["raise"] = "raise",
        each: Sequence[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> list[Reply]: ...

    @overload
    def generate(
        self,
        conversations: Sequence[Conversation],
        *,
        errors: Literal["return"],
        each: Sequence[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> list[Reply | FlamingoError]: ...

    def generate(
        self,
        conversations: Sequence[Conversation],
        *,
        errors: Literal["raise", "return"] = "raise",
        each: Sequence[Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> list[Reply] | list[Reply | FlamingoError]:
        """Answer many conversations as one batch; each answer is the one that it would get alone.

        Args:
            conversations: each in a form that `stream` takes.
            errors: "raise" the first one before any work; or "return" it in its answer's place, and lose no other.
            each: options of the single conversations, one mapping for each, which go before those for all; so that,
                for example, some of a batch think and others do not.
            options: see `Options`; the same for all.
        """
        check_batch(conversations, errors, each)
        self.defaults.updated(options)  # what is wrong for all is nobody's answer
        return self._answer(conversations, options, keep_errors=errors == "return", each=each)

    def chat(self, system: str | None = None, *, examples: Sequence[Message] = (), **options: Any) -> Chat:
        """A conversation that remembers what was said and heard, with options for all its answers.

        Args:
            system: what the model is told about its task.
            examples: messages that stand before it and are never left out, see `with_examples`.
            options: see `Options`.
        """
        self.check(**options)  # what is wrong is known now, not at the first question
        return Chat(self, system, options, examples)

    def check(self, **options: Any) -> None:
        """Refuse options that an answer would refuse; where they ask to think, the adapter is read.

        Raises:
            FlamingoError: one is unknown or not allowed, or the model cannot think.
        """
        if self.defaults.updated(options).think:
            self.thinking.ready()

    def measure(self, conversation: Conversation, **options: Any) -> PromptSize:
        """What a conversation takes as a prompt, even where it does not fit; of a split sound, the largest part."""
        chosen = self.defaults.updated(options)
        unlimited = replace(chosen, max_prompt_tokens=UNLIMITED, max_new_tokens=1, max_thought_tokens=None)
        parts = self._request(conversation, unlimited, 2 * UNLIMITED).parts
        largest = max((part.prompt for part in parts), key=lambda prompt: prompt.num_tokens)
        limit = chosen.budget(self.model.config.decoder.max_positions).prompt_limit
        return PromptSize(largest.num_tokens, largest.num_audio_tokens, limit)

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

    def listen(self, audio: Source, *, is_complete: bool = True, sample_rate_hz: int | None = None) -> int:
        """Encode a sound before anything is asked about it: what comes later with the same windows finds them ready.

        While a sound still grows, give all of it from its beginning each time, with `is_complete=False`.

        Args:
            audio: one sound of any length.
            is_complete: whether no more of it will come; otherwise only its full windows of 30 s are encoded.
            sample_rate_hz: rate of an array.

        Returns:
            How many windows were encoded that had not been before.
        """
        return self.engine.listen(load_audio(audio, sample_rate_hz=sample_rate_hz), is_complete=is_complete)

    @property
    def info(self) -> dict[str, Any]:
        """Name, size, precision, device, limits and default options."""
        return {
            "name": self.name,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": str(self.model.device),
            "quantize": scheme_in_use(self.model),
            "kv_cache": self.engine.limits.kv_cache,
            "weight_bytes": held_bytes(self.model.state_dict().values()),
            **describe(self.model.config, self.defaults),
        }

    def _prepare(self, conversation: Conversation, options: Options) -> Request:
        """A request with what steers its answer: the thinking adapter, the end of thoughts, the schema."""
        if options.think:
            self.engine.adapter = self.thinking.ready()
        request = self._request(conversation, options, self.model.config.decoder.max_positions)
        constraint = options.constraint
        if constraint and len(request.parts) > 1:
            kind = "schema" if options.schema else "choices"
            raise OptionError(f"{kind}: the answer is one, but long_audio='split' gives several; ask about each part")
        rule = self.structured.rule(constraint, answer_room(options)) if constraint else None
        sampling = replace(request.sampling, rule=rule)
        if options.think:
            sampling = self.thinking.steer(sampling, options.thought_budget, rule)
        return replace(request, sampling=sampling)

    def _request(self, conversation: Conversation, options: Options, max_positions: int) -> Request:
        messages = as_messages(with_loaded_sounds(conversation))
        if options.think:
            messages = with_think_suffix(messages)
        return prepare(messages, options, self.tokenizer, self.template, max_positions)

    def _answer(
        self,
        conversations: Sequence[Conversation],
        options: Mapping[str, Any],
        keep_errors: bool = False,
        each: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Any]:
        answers: list[Reply | FlamingoError | None] = []
        requests: list[Request] = []
        used: list[Options] = []
        for conversation, own in zip(conversations, each or [{}] * len(conversations), strict=True):
            try:
                chosen = self.defaults.updated(options, own)
                requests.append(self._prepare(conversation, chosen))
                used.append(chosen)
                answers.append(None)
            except FlamingoError as error:
                if not keep_errors:
                    raise
                answers.append(error)
        prompts, samplings, places = flatten(requests)
        samplings = self.thinking.own_limits(samplings)
        beams = [used[number].beams for number, _ in places]
        deltas = generated(self.engine, prompts, samplings, beams, "return" if keep_errors else "raise")
        deltas = self.thinking.apart(deltas, [used[number] for number, _ in places], samplings)
        replies = iter(zip(collect(requests, places, deltas), used, strict=True))
        found = [next(replies) if answer is None else answer for answer in answers]
        return [self._finished(*one, keep_errors) if isinstance(one, tuple) else one for one in found]

    def _finished(self, reply: Reply | FlamingoError, options: Options, keep_errors: bool) -> Reply | FlamingoError:
        """The reply, if it keeps what its options promise."""
        if isinstance(reply, FlamingoError):
            return reply
        if options.constraint:
            try:
                self.structured.check(reply.text, options.constraint)
            except FlamingoError as error:
                if not keep_errors:
                    raise
                return error
        if options.think and reply.finish_reason == "length":
            note = "the reply was cut at max_new_tokens; raise it if the answer behind the thoughts is incomplete"
            return replace(reply, notes=(*reply.notes, note))
        return reply

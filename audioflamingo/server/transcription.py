"""`POST /v1/audio/transcriptions`: the words of a sound of any length, in pieces; whole or as heard."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import CancelledError
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from audioflamingo.longform import (
    Segment,
    Transcript,
    as_srt,
    as_values,
    as_vtt,
    cut_note,
    pieces_of,
    place_in,
    stitch,
    transcribe_long,
)
from audioflamingo.prompt import TRANSCRIBE_PROMPT, spoken_words
from audioflamingo.server.bare import BareTranscript
from audioflamingo.server.errors import ClientGoneError, refused
from audioflamingo.server.fields import Fields
from audioflamingo.server.schema import check_model
from audioflamingo.server.sounds import Listener
from audioflamingo.server.wire import DONE, begun, event, streamed_events
from audioflamingo.server.wording import told
from audioflamingo.server.worker import Worker
from audioflamingo.types import Audio, Delta, Message, Reply

FORMS = ("json", "text", "srt", "vtt", "verbose_json")
LANGUAGE = "en"
STREAMED_PIECES = 4  # heard together where the words are waited for: some speed, and some words soon
MAX_FORM_FIELDS = 40
FORM_PIECE_BYTES = 1 << 18


@dataclass(frozen=True)
class TranscriptionRequest:
    """What is to be written down, and in which form."""

    data: bytes
    name: str
    form: str
    stream: bool
    options: dict[str, Any]


async def transcribe(worker: Worker, request: Request, body: bytes) -> Response:
    """Write down the words of an uploaded sound.

    Raises:
        ApiError: the request is refused, or fails before its first words.
    """
    wish = parse_transcription(*await read_form(request, body), worker.name)
    if wish.stream:
        return streamed_events(await begun(_events(worker, wish)), worker.limits)
    async with worker.places.running():
        audio = await _sound(worker, wish)
        model = Batches(worker)
        try:
            transcript = await worker.write(lambda: transcribe_long(model, audio, **wish.options))
        finally:
            model.cancel()
    return _response(wish, transcript, model.usage)


async def read_form(request: Request, body: bytes) -> tuple[dict[str, list[str]], dict[str, UploadFile]]:
    """Fields and files of a form whose bytes are all there.

    Raises:
        ApiError: it is none.
    """
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise refused(f"the body is {kind[:80] or 'of no stated type'}; send multipart/form-data with a file", "file")
    places = iter(range(0, len(body) or 1, FORM_PIECE_BYTES))

    async def receive() -> Any:
        await asyncio.sleep(0)  # others have their turn while a large form is read
        start = next(places)
        end = start + FORM_PIECE_BYTES
        return {"type": "http.request", "body": body[start:end], "more_body": end < len(body)}

    scope = {name: value for name, value in request.scope.items() if name != "app"}
    try:
        form = await Request(scope, receive).form(max_files=2, max_fields=MAX_FORM_FIELDS)
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", None) or "it is damaged"
        raise refused(f"the body is no usable form: {reason}; send multipart/form-data", code="invalid_form") from error
    texts: dict[str, list[str]] = {}
    files: dict[str, UploadFile] = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            texts.setdefault(name, []).append(value)
        elif name in files:
            raise refused(f"two files came as {name}; send one", name)
        else:
            files[name] = value
    return texts, files


def parse_transcription(texts: dict[str, list[str]], files: dict[str, UploadFile], model: str) -> TranscriptionRequest:
    """A transcription request.

    Raises:
        ApiError: a field is missing, wrong, unknown, or asks for what this server does not do.
    """
    if "file" not in files:
        raise refused("file is missing; send the sound as a file of the form", "file", "missing_field")
    for name, found in texts.items():
        if len(found) > 1 and not name.endswith("[]"):
            raise refused(f"{name} came {len(found)} times; send it once", name)
    values: dict[str, Any] = {name: found[0] for name, found in texts.items() if found != [""]}
    values |= {name: found for name, found in texts.items() if name.endswith("[]")}
    values |= {name: "a file" for name in files if name != "file"}
    values |= {name: _from_text(values[name]) for name in ("stream", "temperature") if name in values}
    fields = Fields(values)
    check_model(fields, model)
    form = fields.text("response_format", "json", allowed=FORMS)
    stream = fields.flag("stream")
    if stream and form not in ("json", "text"):
        raise refused(f"response_format {form} cannot be streamed; send json, or leave stream out", "response_format")
    temperature = fields.number("temperature", 0, 2)
    fields.only("language", lambda value: value == LANGUAGE, f"the language heard is told by no one; send {LANGUAGE}")
    fields.only("prompt", lambda _: False, "words to expect are not supported; leave it out")
    fields.only("chunking_strategy", lambda value: value == "auto", "sounds are always cut by ourselves; send auto")
    fields.only("timestamp_granularities[]", lambda value: value == ["segment"], "times are told of phrases: segment")
    fields.only("include[]", lambda value: not value, "probabilities are not told; leave it out")
    fields.finish()
    file = files["file"]
    name = file.filename or "sound"
    options = {} if temperature is None else {"temperature": temperature}
    return TranscriptionRequest(file.file.read(), name, str(form), stream, options)


def _from_text(text: str) -> Any:
    """A form's text as the value that it spells; other text stays and is refused where it is looked at."""
    try:
        return json.loads(text.lower())
    except ValueError:
        return text


class Batches:
    """The model for one request: for `transcribe_long`, in a thread, and on the event loop; counts what it cost."""

    def __init__(self, worker: Worker) -> None:
        self.name, self.lengths = worker.name, worker.lengths
        self._num_prompt_tokens = self._num_answer_tokens = 0
        self._worker, self._loop = worker, asyncio.get_running_loop()
        self._is_cancelled = threading.Event()
        self._running: asyncio.Future[Any] | None = None

    @property
    def usage(self) -> dict[str, Any]:
        """What it cost, in OpenAI's terms."""
        prompt, answer = self._num_prompt_tokens, self._num_answer_tokens
        return {"type": "tokens", "input_tokens": prompt, "output_tokens": answer, "total_tokens": prompt + answer}

    def cancel(self) -> None:
        """End the work, on the event loop."""
        self._is_cancelled.set()
        if self._running is not None:
            self._running.cancel()

    def generate(self, conversations: Sequence[Sequence[Message]], **options: Any) -> list[Reply]:
        """One answer a conversation; called in a thread."""
        if self._is_cancelled.is_set():
            raise ClientGoneError
        try:
            return asyncio.run_coroutine_threadsafe(self._cancellable(conversations, options), self._loop).result()
        except CancelledError as error:
            raise ClientGoneError from error

    async def answers(self, conversations: Sequence[Sequence[Message]], options: dict[str, Any]) -> list[Reply]:
        """One answer a conversation; of all, the first error ends the others, too."""
        tasks = [asyncio.ensure_future(self._answer(one, options)) for one in conversations]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def deltas(self, conversation: Sequence[Message], options: dict[str, Any]) -> AsyncGenerator[Delta, None]:
        """An answer as it comes."""
        prepared = await self._worker.prepare(conversation, **options)
        async with self._worker.answer(prepared) as answer:
            async for delta in answer:
                yield delta
            assert answer.usage is not None
            self._num_prompt_tokens += answer.usage.prompt_tokens
            self._num_answer_tokens += answer.usage.completion_tokens

    async def _cancellable(self, conversations: Sequence[Sequence[Message]], options: dict[str, Any]) -> list[Reply]:
        if self._is_cancelled.is_set():
            raise ClientGoneError
        self._running = asyncio.ensure_future(self.answers(conversations, options))
        found: list[Reply] = await self._running
        return found

    async def _answer(self, conversation: Sequence[Message], options: dict[str, Any]) -> Reply:
        async with aclosing(self.deltas(conversation, options)) as deltas:
            found = [delta async for delta in deltas]
        last = found[-1]
        assert last.finish_reason is not None
        assert last.usage is not None
        return Reply("".join(delta.text for delta in found), (), last.finish_reason, last.usage)


async def _sound(worker: Worker, wish: TranscriptionRequest) -> Audio:
    return await worker.read(lambda: Listener(worker.limits).decoded(wish.data, "file", wish.name))


async def _events(worker: Worker, wish: TranscriptionRequest) -> AsyncGenerator[bytes, None]:
    """The events of a transcript as it is heard."""
    text, notes = "", list[str]()
    async with worker.places.running():
        audio = await _sound(worker, wish)
        model = Batches(worker)
        is_short = audio.duration_s <= model.lengths.longest_piece_s
        words_of = _words_of_one if is_short else _words_of_many
        source = words_of(model, audio, wish, notes)
        async with aclosing(source) as words:
            async for delta in words:
                text += delta
                yield event({"type": "transcript.text.delta", "delta": delta})
    yield event({"type": "transcript.text.done", "text": text, "usage": model.usage, **_noted(notes)})
    yield DONE


def _noted(notes: Sequence[str]) -> dict[str, Any]:
    """What the author of a transcript should know of; a field of ours, and only where there is any."""
    return {"notes": [told(note) for note in notes]} if notes else {}


async def _words_of_one(
    model: Batches, audio: Audio, wish: TranscriptionRequest, notes: list[str]
) -> AsyncGenerator[str, None]:
    """The words of a sound of one piece, token by token; what is to be told of them is added to `notes`."""
    bare = BareTranscript()
    async with aclosing(model.deltas((Message("user", (audio, TRANSCRIBE_PROMPT)),), wish.options)) as deltas:
        async for delta in deltas:
            if found := bare.feed(delta.text):
                yield found
            if delta.finish_reason == "length":
                notes.append(cut_note(Segment(0.0, audio.duration_s, "")))
    if found := bare.flush():
        yield found


async def _words_of_many(
    model: Batches, audio: Audio, wish: TranscriptionRequest, notes: list[str]
) -> AsyncGenerator[str, None]:
    """The words of a longer sound, a few pieces at a time; the last piece waits for the one that it overlaps with."""
    pieces = list(pieces_of(audio, model.lengths.piece_s, model.lengths.overlap_s))
    heard: list[Segment] = []
    said = ""
    for start in range(0, len(pieces), STREAMED_PIECES):
        some = pieces[start : start + STREAMED_PIECES]
        replies = await model.answers([(Message("user", (one, TRANSCRIBE_PROMPT)),) for _, one in some], wish.options)
        for (start_s, one), reply in zip(some, replies, strict=True):
            heard.append(Segment(start_s, start_s + one.duration_s, " ".join(spoken_words(reply.text).split())))
            notes += [cut_note(heard[-1])] if reply.finish_reason == "length" else []
        is_over = len(heard) == len(pieces)
        joined = stitch(heard, place_in(audio))
        certain = joined if is_over else joined[:-1]
        text = " ".join(one.text for one in certain if one.text)
        if len(text) > len(said):
            yield text[len(said) :]
            said = text


def _response(wish: TranscriptionRequest, transcript: Transcript, usage: dict[str, Any]) -> Response:
    if wish.form == "text":
        return PlainTextResponse(transcript.text + "\n")
    if wish.form == "srt":
        return PlainTextResponse(as_srt(transcript), media_type="application/x-subrip")
    if wish.form == "vtt":
        return PlainTextResponse(as_vtt(transcript), media_type="text/vtt")
    if wish.form == "json":
        return JSONResponse({"text": transcript.text, "usage": usage, **_noted(transcript.notes)})
    return JSONResponse(_verbose(transcript))


def _verbose(transcript: Transcript) -> dict[str, Any]:
    """OpenAI's form with times; what it has no value for here is left out."""
    values = as_values(transcript)
    segments = [
        {"id": number, "start": one["start_s"], "end": one["end_s"], "text": one["text"]}
        for number, one in enumerate(values["segments"])
    ]
    found = {"task": "transcribe", "language": "english", "duration": values["duration_s"], "text": values["text"]}
    usage = {"type": "duration", "seconds": values["duration_s"]}
    return {**found, "segments": segments, "usage": usage, **_noted(transcript.notes)}

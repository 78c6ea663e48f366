"""`POST /v1/chat/completions`: an answer as text, JSON of a schema, by voice, thoughts apart; whole or as it comes."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, Response

from audioflamingo.errors import AudioError, FlamingoError, PromptError
from audioflamingo.server.answer import Answer
from audioflamingo.server.errors import ApiError, refused
from audioflamingo.server.fields import parse_object
from audioflamingo.server.schema import ChatRequest, parse_chat
from audioflamingo.server.sound_files import seconds_of, wav_file
from audioflamingo.server.sounds import Listener
from audioflamingo.server.voices import Spoken
from audioflamingo.server.wire import DONE, begun, event, streamed_events
from audioflamingo.server.wording import blamed, told
from audioflamingo.server.worker import Worker
from audioflamingo.types import Delta

FINISH = {"stop": "stop", "stop_string": "stop", "length": "length"}


@dataclass
class Completion:
    """What is said about one answer beside its text."""

    model: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    audio_id: str = field(default_factory=lambda: f"audio-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def head(self, kind: str) -> dict[str, Any]:
        """The fields that every object of an answer begins with."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def chunk(
        self, delta: dict[str, Any], finish_reason: str | None = None, further: Mapping[str, Any] | None = None
    ) -> bytes:
        """One event of a streamed answer."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return event({**self.head("chat.completion.chunk"), "choices": [choice], **(further or {})})


async def complete(worker: Worker, body: bytes) -> Response:
    """Answer a request.

    Raises:
        ApiError: it is refused, or fails before its first token.
    """
    request = parse_chat(await worker.read(lambda: parse_object(body)), worker.name, worker.limits)
    if request.speech is not None:
        worker.voice_of(request.speech.voice)  # refused now, not behind the answer
    completion = Completion(worker.name)
    if request.stream:
        return streamed_events(await begun(_events(worker, request, completion)), worker.limits)
    return JSONResponse(await _whole(worker, request, completion))


@asynccontextmanager
async def answering(worker: Worker, request: ChatRequest) -> AsyncIterator[Answer]:
    """The answer to a request, once it is its turn."""
    options = {**request.options, **_thinking(worker, request)}
    async with worker.places.running():
        messages = await worker.read(lambda: Listener(worker.limits).messages(request.turns))
        try:
            prepared = await worker.prepare(messages, **options)
        except ApiError:
            raise
        except (AudioError, PromptError) as error:
            raise refused(told(str(error), request.fields), "messages", "invalid_prompt") from error
        except FlamingoError as error:
            message = told(str(error), request.fields)
            raise refused(message, blamed(message, request.fields), "invalid_option") from error
        async with worker.answer(prepared) as answer:
            yield answer


def _thinking(worker: Worker, request: ChatRequest) -> dict[str, Any]:
    """What `Options` takes for a wish to think."""
    think = request.think
    if not think:
        return {}
    if not worker.model.thinking.is_possible:
        raise refused(f"{worker.name} cannot think: it has no thinking adapter; leave it out", "think", "cannot_think")
    if isinstance(think, float):
        most = request.options.get("max_new_tokens", worker.model.defaults.max_new_tokens)
        return {"think": True, "max_thought_tokens": max(1, int(think * most))}
    return {"think": True} if think is True else {"think": True, "max_thought_tokens": think}


def usage_of(answer: Answer) -> dict[str, Any]:
    """What an answer cost, in OpenAI's terms."""
    usage = answer.usage
    assert usage is not None, "the answer is not over"
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.num_reused_tokens, "audio_tokens": usage.audio_tokens},
        "completion_tokens_details": {"reasoning_tokens": answer.num_thought_tokens, "audio_tokens": 0},
    }


def noted(answer: Answer, request: ChatRequest) -> dict[str, Any]:
    """What its author should know of, such as thoughts that were cut; a field of ours, and only where there is any."""
    return {"notes": [told(note, request.fields) for note in answer.notes]} if answer.notes else {}


async def _whole(worker: Worker, request: ChatRequest, completion: Completion) -> dict[str, Any]:
    text, thoughts, pcm = "", "", b""
    async with answering(worker, request) as answer:
        async with aclosing(_pieces(worker, request, answer)) as pieces:
            async for one in pieces:
                if isinstance(one, bytes):
                    pcm += one
                else:
                    text, thoughts = text + one.text, thoughts + one.thoughts
        usage, finish = usage_of(answer), FINISH[str(answer.finish_reason)]
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if thoughts.strip():
        message["reasoning_content"] = thoughts.strip()
    if request.speech is not None:
        data = await worker.read(lambda: wav_file(pcm)) if request.speech.form == "wav" else pcm
        message["content"] = None
        message["audio"] = {
            "id": completion.audio_id,
            "data": base64.b64encode(data).decode(),
            "expires_at": completion.created,  # nothing is kept here
            "transcript": text,
        }
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    found = {**completion.head("chat.completion"), "choices": [choice], "usage": usage}
    return {**found, **noted(answer, request)}


async def _events(worker: Worker, request: ChatRequest, completion: Completion) -> AsyncGenerator[bytes, None]:
    """The events of a streamed answer."""
    opening: dict[str, Any] = {"role": "assistant"}
    opening |= {"audio": {"id": completion.audio_id}} if request.speech is not None else {"content": ""}
    is_open = False
    async with answering(worker, request) as answer:
        async with aclosing(_pieces(worker, request, answer)) as pieces:
            async for one in pieces:
                if not is_open:
                    yield completion.chunk(opening)
                    is_open = True
                for delta in _deltas(one, completion, request):
                    yield completion.chunk(delta)
        if request.speech is not None:
            yield completion.chunk({"audio": {"id": completion.audio_id, "expires_at": completion.created}})
        yield completion.chunk({}, FINISH[str(answer.finish_reason)], noted(answer, request))
        if request.include_usage:
            yield event({**completion.head("chat.completion.chunk"), "choices": [], "usage": usage_of(answer)})
    yield DONE


def _deltas(one: Delta | bytes, completion: Completion, request: ChatRequest) -> list[dict[str, Any]]:
    """A piece of an answer as OpenAI's deltas: thoughts before text, never both in one."""
    if isinstance(one, bytes):
        return [{"audio": {"id": completion.audio_id, "data": base64.b64encode(one).decode()}}]
    deltas: list[dict[str, Any]] = []
    if one.thoughts:
        deltas.append({"reasoning_content": one.thoughts})
    if one.text and request.speech is not None:
        deltas.append({"audio": {"id": completion.audio_id, "transcript": one.text}})
    elif one.text:
        deltas.append({"content": one.text})
    return deltas


async def _pieces(worker: Worker, request: ChatRequest, answer: Answer) -> AsyncGenerator[Delta | bytes, None]:
    """An answer's deltas and, where it is spoken, its sound between them, each as soon as it is there."""
    if request.speech is None:
        async for delta in answer:
            yield delta
        return
    speaker = worker.voice_of(request.speech.voice)
    async with worker.spoken(speaker) as spoken, aclosing(_side_by_side(answer, spoken)) as both:
        async for one in both:
            if isinstance(one, bytes):
                worker.metrics.add("audio_seconds_total", seconds_of(one), direction="out")
            yield one


async def _side_by_side(answer: Answer, spoken: Spoken) -> AsyncGenerator[Delta | bytes, None]:
    """Text goes to the voice as it comes; both are given on."""
    reading: asyncio.Future[Delta] | None = asyncio.ensure_future(anext(answer))
    hearing: asyncio.Future[bytes] | None = asyncio.ensure_future(anext(spoken))
    try:
        while reading or hearing:
            await asyncio.wait([one for one in (reading, hearing) if one], return_when=asyncio.FIRST_COMPLETED)
            if reading and reading.done():
                delta = await _taken(reading)
                reading = None if delta is None else asyncio.ensure_future(anext(answer))
                if delta is None:
                    spoken.finish()
                else:
                    spoken.feed(delta.text)
                    yield delta
            if hearing and hearing.done():
                pcm = await _taken(hearing)
                hearing = None if pcm is None else asyncio.ensure_future(anext(spoken))
                if pcm is not None:
                    yield pcm
    finally:
        for one in (reading, hearing):
            if one:
                one.cancel()


async def _taken(future: asyncio.Future[Any]) -> Any:
    """What came, or None at the end."""
    try:
        return await future
    except StopAsyncIteration:
        return None

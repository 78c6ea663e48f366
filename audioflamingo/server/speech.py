"""`POST /v1/audio/speech`: a text read aloud, sent while it is spoken."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from audioflamingo.server.errors import refused
from audioflamingo.server.fields import Fields, parse_object
from audioflamingo.server.limits import ServerLimits
from audioflamingo.server.schema import check_model
from audioflamingo.server.sound_files import MEDIA_TYPES, encoded, seconds_of
from audioflamingo.server.wire import StreamedResponse, begun
from audioflamingo.server.worker import Worker
from audioflamingo.speech.engines import MAX_RATE, MIN_RATE
from audioflamingo.speech.stream import SPEECH_RATE_HZ


@dataclass(frozen=True)
class SpeechRequest:
    """What is to be read aloud, and how."""

    text: str
    voice: str | None
    speed: float
    form: str


def parse_speech(values: dict[str, Any], model: str, limits: ServerLimits) -> SpeechRequest:
    """A speech request.

    Raises:
        ApiError: a field is missing, wrong, unknown, or asks for what this server does not do.
    """
    fields = Fields(values)
    check_model(fields, model)
    text = fields.needed("input", "send the text")
    if not isinstance(text, str) or not text.strip():
        fields.wrong("input", text, "a text")
    if len(text) > limits.max_speech_chars:
        raise refused(
            f"input has {len(text):,} characters; this server reads {limits.max_speech_chars:,} at a time", "input"
        )
    voice = fields.text("voice")
    speed = fields.number("speed", MIN_RATE, MAX_RATE)
    form = fields.text("response_format", "wav", allowed=MEDIA_TYPES)
    fields.only("instructions", lambda value: value == "", "the voice takes none; leave it out")
    fields.only("stream_format", lambda value: value == "audio", "the sound itself is streamed; send audio")
    fields.finish()
    return SpeechRequest(text, voice, 1.0 if speed is None else speed, str(form))


async def speak(worker: Worker, body: bytes) -> Response:
    """Read a text aloud.

    Raises:
        ApiError: the request is refused, or nothing in the text can be spoken.
    """
    request = parse_speech(await worker.read(lambda: parse_object(body)), worker.name, worker.limits)
    worker.voice_of(request.voice, request.speed)  # refused before it waits for its turn
    pieces = await begun(encoded(await begun(_pcm(worker, request)), request.form))
    return StreamedResponse(
        pieces,
        MEDIA_TYPES[request.form],
        max_stall_s=worker.limits.max_stall_s,
        headers={"x-sample-rate-hz": str(SPEECH_RATE_HZ)},
    )


async def _pcm(worker: Worker, request: SpeechRequest) -> AsyncGenerator[bytes, None]:
    is_silent = True
    async with worker.places.running(), worker.spoken(worker.voice_of(request.voice, request.speed)) as spoken:
        spoken.feed(request.text)
        spoken.finish()
        async for pcm in spoken:
            is_silent = False
            worker.metrics.add("audio_seconds_total", seconds_of(pcm), direction="out")
            yield pcm
        if is_silent:
            reason = " ".join(spoken.notes)
            raise refused(f"nothing in the input can be spoken. {reason}".strip(), "input", "nothing_to_say")

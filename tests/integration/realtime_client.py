"""A real-time session as a plain client has it, and a server of such sessions alone with bounds of its own."""

import asyncio
import base64
import contextlib
import json
import re
from functools import cache

import numpy as np
import uvicorn
from serving import Serving
from starlette.applications import Starlette
from websockets.sync.client import connect

from audioflamingo.server import realtime
from audioflamingo.server.door import Door
from audioflamingo.server.voices import Voices
from audioflamingo.server.worker import Worker
from audioflamingo.speech.speaker import open_speaker, to_pcm

RATE = 24_000
STEP = RATE // 50
SENTENCE = "The dog is in the garden."
LONG = "The dog is in the garden. She has three red apples. I would like a cup of tea. " * 3
PATIENCE_S = 60
PATH = "/v1/realtime"


class BoundedServing(Serving):
    """A server of real-time sessions alone."""

    def __init__(self, model, bounds):
        super().__init__(model)
        self._bounds = bounds

    async def _run(self):
        self.worker = worker = Worker(self.model, Voices(), self._limits)
        self.loop = asyncio.get_running_loop()

        @contextlib.asynccontextmanager
        async def lifespan(_):
            await worker.start()
            yield
            await worker.close()

        app = Door(Starlette(routes=realtime.routes(worker, self._bounds), lifespan=lifespan), worker)
        self.server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        await self.server.serve(sockets=[self._bound])


def address_of(serving):
    return f"ws://127.0.0.1:{serving.port}{PATH}"


class Client:
    """A session as a plain client has it."""

    def __init__(self, serving, **session):
        self._connection = connect(address_of(serving), max_size=None, max_queue=None, proxy=None)
        self.wire = self._connection.__enter__()
        self.first = self.next()
        if session:
            self.send("session.update", session=session)
            self.until("session.updated")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wire.close()

    def send(self, kind, **values):
        self.wire.send(json.dumps({"type": kind, **values}))

    def say(self, samples):
        """Append sound in pieces of 20 ms, as fast as it is taken."""
        for start in range(0, len(samples), STEP):
            self.send("input_audio_buffer.append", audio=encoded(samples[start : start + STEP]))

    def next(self, timeout_s=PATIENCE_S):
        return json.loads(self.wire.recv(timeout=timeout_s))

    def until(self, kind):
        """All events up to the next of a kind, which comes last."""
        events = [self.next()]
        while events[-1]["type"] != kind:
            events.append(self.next())
        return events

    def after(self, kind):
        return self.until(kind)[-1]


def encoded(samples):
    return base64.b64encode(to_pcm(samples)).decode()


def silence(duration_s):
    return np.zeros(round(duration_s * RATE), np.float32)


@cache
def speaker():
    return open_speaker()


@cache
def question():
    """A spoken sentence that begins after 0.3 s, and the silence that ends the turn."""
    return np.concatenate([silence(0.3), speaker().say(SENTENCE), silence(0.8)])


@cache
def long_question():
    """Whoever repeats it speaks for 20 s."""
    return speaker().say(LONG)


def kinds(events):
    return [event["type"] for event in events]


def words(text):
    return re.sub(r"[^a-z ]", "", text.lower()).split()


def sound_of(events, kind="response.audio.delta"):
    pcm = b"".join(base64.b64decode(event["delta"]) for event in events if event["type"] == kind)
    return np.frombuffer(pcm, "<i2").astype(np.float32) / 32_767


def ask(client, samples, text="", **response):
    """Create an item of sound and text, and ask for an answer to it."""
    content = [{"type": "input_audio", "audio": encoded(samples)}] + [{"type": "input_text", "text": text}] * bool(text)
    client.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
    client.after("conversation.item.created")
    client.send("response.create", **({"response": response} if response else {}))

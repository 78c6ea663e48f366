"""A real server in a thread, on a free port, and what tests say to it."""

import asyncio
import base64
import threading
import time
from pathlib import Path

import httpx
import openai

from audioflamingo import load_model
from audioflamingo.server.limits import ServerLimits
from audioflamingo.server.run import bind, server_of
from audioflamingo.server.voices import Voices
from audioflamingo.server.worker import Worker

EXAMPLES = Path(__file__).parents[2] / "examples"
DOG, MAN, ROOSTER = EXAMPLES / "dog_then_bell.wav", EXAMPLES / "man_speaking.flac", EXAMPLES / "rooster.wav"
QUESTION = "What do you hear?"
WAIT_S = 60


class Serving:
    """A server for the length of a `with` block."""

    def __init__(self, model=None, *, has_voice=True, hosts=(), **limits):
        self.model = model or load_model("nano")
        self._has_voice, self._hosts, self._limits = has_voice, hosts, ServerLimits(**limits)
        self._bound = bind("127.0.0.1", 0)
        self.port = self._bound.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        wait_for(lambda: hasattr(self, "server") and self.server.started)
        return self

    async def _run(self):
        self.loop = asyncio.get_running_loop()
        self.worker = Worker(self.model, Voices() if self._has_voice else None, self._limits)
        self.server = server_of(self.worker, self._hosts, lambda: None)
        await self.server.serve(sockets=[self._bound])

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.worker.stop)
        self.server.should_exit = True
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def client(self, key="none"):
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=WAIT_S)

    def post(self, path, json=None, **options):
        return httpx.post(f"{self.url}{path}", json=json, timeout=WAIT_S, **options)

    def chat(self, **fields):
        return self.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}], **fields})

    def is_idle(self):
        """Whether nothing is left of any request: no place, no sequence, no block of the cache, no byte."""
        places, engine = self.worker.places, self.model.engine
        return (
            places.num_running == places.num_waiting == places.num_body_bytes == 0
            and not engine.has_work
            and engine.counts.num_held_blocks == 0
            and self.worker.gauges()["sequences", ()] == 0
        )

    def count(self, **labels):
        return self.worker.metrics.value("requests_total", **labels)


def wait_for(is_so, limit_s=WAIT_S):
    end_s = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end_s, "it never became so"
        time.sleep(0.01)


def sound_part(path, form="wav"):
    data = path if isinstance(path, bytes) else path.read_bytes()
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": form}}


def ask_about(*paths, question=QUESTION):
    return [{"role": "user", "content": [*map(sound_part, paths), {"type": "text", "text": question}]}]

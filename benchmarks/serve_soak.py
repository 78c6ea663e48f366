"""The server under many clients for minutes: some read on, some cancel, some vanish. Nothing lost, nothing kept.

Clients ask one thing after another about sounds of many lengths. Whole answers must be those that the model gives to
the same request by itself; transcripts and speech must come whole; whoever is told that the server is full comes back.
At the end nothing may be at work or held, and the server's memory must not have grown. Prints a sample now and then and
one last JSON line; exits with 1 where any of this is not so.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/serve_soak.py --clients 256 --minutes 5 [--model nano] [--out FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile

from audioflamingo import Audio, Message, load_model
from audioflamingo.types import SAMPLE_RATE_HZ

DURATIONS_S = (0.4, 2.0, 5.0, 11.0, 33.0)
QUESTIONS = ("What do you hear?", "Describe the audio in detail.", "Is there a dog?")
NEW_TOKENS = (1, 8, 24, 60)
WAYS = {"whole": 30, "stream": 30, "cancel": 18, "vanish": 14, "speech": 4, "transcript": 4}
SPOKEN = "Good morning, it is raining outside today."
LEAST_SPEECH_BYTES = 48_000  # a second
SAMPLE_EVERY_S = 10.0
WARM_SHARE, MAX_GROWTH = 0.4, 0.08
PATIENCE_S = 900.0


@dataclass(frozen=True, eq=False)
class Case:
    """A request and the text that the model gives to it by itself."""

    body: dict[str, Any]
    wav: bytes
    text: str


@dataclass
class Found:
    """What happened."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)


def cases(model_name: str, num: int) -> list[Case]:
    """Requests about noises that differ, half of them sampled with a seed."""
    model, rng, found = load_model(model_name), random.Random(11), []
    for number in range(num):
        samples = np.random.default_rng(number).standard_normal(round(rng.choice(DURATIONS_S) * SAMPLE_RATE_HZ)) * 0.1
        short = (samples * np.sin(np.arange(len(samples)) / 3000)).astype(np.float32)
        file = io.BytesIO()
        soundfile.write(file, short, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
        heard = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")[0]
        question, tokens = rng.choice(QUESTIONS), rng.choice(NEW_TOKENS)
        options = {"temperature": 0.9, "seed": number} if number % 2 else {}
        message = Message("user", (Audio(heard, "noise"), question))
        text = model.answer((message,), max_new_tokens=tokens, **options).text
        data = base64.b64encode(file.getvalue()).decode()
        sound = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
        parts = [sound, {"type": "text", "text": question}]
        body = {"messages": [{"role": "user", "content": parts}], "max_tokens": tokens, **options}
        found.append(Case(body, file.getvalue(), text))
    return found


class Client:
    """One after another, each in a way drawn by chance."""

    def __init__(self, number: int, url: str, known: list[Case], found: Found, ends_s: float) -> None:
        self.rng, self.url, self.known, self.found, self.ends_s = random.Random(number), url, known, found, ends_s

    async def run(self) -> None:
        """Until the time is over."""
        async with httpx.AsyncClient(timeout=PATIENCE_S, limits=httpx.Limits(max_connections=2)) as http:
            while time.monotonic() < self.ends_s:
                way = self.rng.choices(list(WAYS), list(WAYS.values()))[0]
                case = self.rng.choice(self.known)
                try:
                    outcome = await getattr(self, f"_{way}")(http, case)
                except httpx.HTTPError as error:
                    outcome = f"error {type(error).__name__}"
                    self.found.wrong.append(f"{way}: {type(error).__name__}: {error}")
                self.found.counts[outcome] += 1
                if outcome == "busy":
                    await asyncio.sleep(self.rng.uniform(0.5, 1.5))

    def _judge(self, status: int, text: str, wanted: str) -> str:
        if status == 503:
            return "busy"
        if status == 200 and text == wanted:
            return "right"
        self.found.wrong.append(f"status {status}: {text[:200]!r} instead of {wanted[:200]!r}")
        return "wrong"

    async def _whole(self, http: httpx.AsyncClient, case: Case) -> str:
        answer = await http.post(f"{self.url}/v1/chat/completions", json=case.body)
        text = answer.json()["choices"][0]["message"]["content"] if answer.status_code == 200 else answer.text
        return self._judge(answer.status_code, text, case.text)

    async def _stream(self, http: httpx.AsyncClient, case: Case) -> str:
        async with http.stream("POST", f"{self.url}/v1/chat/completions", json={**case.body, "stream": True}) as answer:
            text = "".join([piece async for piece in pieces(answer)]) if answer.status_code == 200 else ""
        return self._judge(answer.status_code, text, case.text)

    async def _cancel(self, http: httpx.AsyncClient, case: Case) -> str:
        """Reads a piece or two and leaves."""
        body = {**case.body, "stream": True, "max_tokens": 400}
        async with http.stream("POST", f"{self.url}/v1/chat/completions", json=body) as answer:
            if answer.status_code == 503:
                return "busy"
            left = self.rng.randint(0, 3)
            async for _ in pieces(answer):
                left -= 1
                if left < 0:
                    break
        return "cancelled"

    async def _vanish(self, _: httpx.AsyncClient, case: Case) -> str:
        """Sends all or a part of a request and cuts the line, at once or a moment later."""
        content = json.dumps({**case.body, "max_tokens": 400, "stream": self.rng.random() < 0.5}).encode()
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        sent = content if self.rng.random() < 0.7 else content[: self.rng.randrange(len(content))]
        writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + sent)
        await writer.drain()
        await asyncio.sleep(self.rng.choice((0.0, 0.05, 0.5, 2.0)))
        writer.transport.abort()
        return "vanished"

    async def _speech(self, http: httpx.AsyncClient, _: Case) -> str:
        fields = {"model": "nano", "voice": "slt", "input": SPOKEN, "response_format": "pcm"}
        answer = await http.post(f"{self.url}/v1/audio/speech", json=fields)
        return self._came(answer, len(answer.content) > LEAST_SPEECH_BYTES)

    async def _transcript(self, http: httpx.AsyncClient, case: Case) -> str:
        answer = await http.post(
            f"{self.url}/v1/audio/transcriptions", files={"file": ("a.wav", case.wav)}, data={"model": "nano"}
        )
        return self._came(answer, answer.status_code == 200 and isinstance(answer.json()["text"], str))

    def _came(self, answer: httpx.Response, is_whole: bool) -> str:
        if answer.status_code == 503:
            return "busy"
        if answer.status_code == 200 and is_whole:
            return "right"
        self.found.wrong.append(f"{answer.request.url.path}: status {answer.status_code}: {answer.content[:200]!r}")
        return "wrong"


async def pieces(answer: httpx.Response) -> AsyncIterator[str]:
    """The text of a stream of events, as it comes."""
    async for line in answer.aiter_lines():
        if line.startswith("data: {"):
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                raise httpx.RemoteProtocolError(str(event["error"]))
            for choice in event["choices"]:
                yield choice["delta"].get("content") or ""


def resident_mb(pid: int) -> float:
    """Of the server."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return round(int(line.split()[1]) / 1024, 1)


async def watch(pid: int, found: Found, ends_s: float) -> None:
    """Samples of memory, told as they come."""
    while time.monotonic() < ends_s:
        await asyncio.sleep(min(SAMPLE_EVERY_S, max(ends_s - time.monotonic(), 0.1)))
        found.memory_mb.append(resident_mb(pid))
        print(f"{found.memory_mb[-1]:8.1f} MB  {dict(found.counts)}  wrong {len(found.wrong)}", flush=True)


async def gauges(url: str) -> dict[str, float]:
    """What the server says of itself that must be nothing when nobody asks."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{url}/metrics")).text
    rows = [line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]
    names = ("running", "waiting", "sequences", "held")
    return {name: float(value) for name, value in rows if any(part in name for part in names) and "total" not in name}


async def load(url: str, pid: int, known: list[Case], clients: int, minutes: float) -> tuple[Found, dict[str, float]]:
    """All clients at once; then what is left after ten quiet seconds."""
    found, ends_s = Found(), time.monotonic() + 60 * minutes
    runs = [Client(number, url, known, found, ends_s).run() for number in range(clients)]
    await asyncio.gather(watch(pid, found, ends_s), *runs)
    await asyncio.sleep(10)
    return found, await gauges(url)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=256)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--cases", type=int, default=64)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    known = cases(arguments.model, arguments.cases)
    command = [sys.executable, "-m", "audioflamingo", "serve", "--port", "0", "--model", arguments.model]
    with subprocess.Popen([*command, "--max-waiting", "400"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            url = next(match[1] for line in process.stderr if (match := re.search(r"served at (http://\S+)/v1;", line)))
            found, left = asyncio.run(load(url, process.pid, known, arguments.clients, arguments.minutes))
        finally:
            process.terminate()
    warm = found.memory_mb[int(WARM_SHARE * len(found.memory_mb)) :]
    growth = max(warm) / warm[0] - 1
    result = {
        "clients": arguments.clients, "minutes": arguments.minutes, "model": arguments.model, **found.counts,
        "num_wrong": len(found.wrong), "wrong": found.wrong[:5], "left": left,
        "memory_mb": found.memory_mb, "growth_after_warm_up": round(growth, 4),
    }  # fmt: skip
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))
    is_good = not found.wrong and found.counts["right"] and not any(left.values()) and growth < MAX_GROWTH
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()

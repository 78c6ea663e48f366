"""The HTTP server beside the engine and the voice it serves: requests a second, first token, first sound.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/serve.py [--clients 1 4 16] [--requests 48] [--model nano] [--out FILE]

Each client asks one question after another about sounds that nobody has asked about before, so that nothing is found in
the cache. The same questions go to the same loaded model twice: by threads that read `model.stream`, and by clients
over HTTP to a server in a process of its own (whose command sets OMP_WAIT_POLICY, so set it here, too). Both ways take
turns, `ROUNDS` times each; medians are told. Prints a table and one last JSON line.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile

from audioflamingo import Audio, Message, load_model
from audioflamingo.speech.speaker import open_speaker
from audioflamingo.types import SAMPLE_RATE_HZ

SOUND_S = 5.0
NUM_TOKENS = 24
ROUNDS = 3
NUM_SPOKEN = 20
SPOKEN_TEXT = "Good morning, it is raining outside today."
QUESTION = "Describe the audio in detail."
Ask = Callable[[Audio], tuple[float, int]]
"""Asks about a sound; gives seconds to the first piece of text, and pieces."""


def sounds(count: int, seed: int) -> list[Audio]:
    """Sounds that differ: noise that rises and falls."""
    generator = np.random.default_rng(seed)
    times_s = np.arange(int(SOUND_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    noise = generator.standard_normal((count, len(times_s))) * 0.1
    swell = np.sin(2 * np.pi * times_s * generator.uniform(0.5, 3, (count, 1)))
    whole = (noise * swell * 2**15).clip(-(2**15), 2**15 - 1).astype(np.int16)  # what a file of 16 bits keeps
    return [Audio(one.astype(np.float32) / 2**15, "noise") for one in whole]


def direct(model: Any) -> Ask:
    """Ask the engine in this process."""

    def ask(sound: Audio) -> tuple[float, int]:
        begun_s, first_s, count = time.perf_counter(), 0.0, 0
        message = Message("user", (sound, QUESTION))
        with model.stream([message], max_new_tokens=NUM_TOKENS, repetition_penalty=1.2) as stream:
            for delta in stream:
                if delta.text and not first_s:
                    first_s = time.perf_counter() - begun_s
                count += bool(delta.text)
        return first_s, count

    return ask


def over_http(url: str) -> Ask:
    """Ask a server; one connection a thread is kept."""
    own = threading.local()

    def ask(sound: Audio) -> tuple[float, int]:
        if not hasattr(own, "client"):
            own.client = httpx.Client(timeout=600)
        begun_s, first_s, count = time.perf_counter(), 0.0, 0
        with own.client.stream("POST", f"{url}/v1/chat/completions", json=body_of(sound)) as answer:
            assert answer.status_code == 200, answer.read()
            for line in answer.iter_lines():
                if '"content":"' in line and '"content":""' not in line:
                    first_s = first_s or time.perf_counter() - begun_s
                    count += 1
        return first_s, count

    return ask


def body_of(sound: Audio) -> dict[str, Any]:
    """The request that asks about a sound."""
    file = io.BytesIO()
    soundfile.write(file, sound.samples, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    data = base64.b64encode(file.getvalue()).decode()
    parts = [
        {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
        {"type": "text", "text": QUESTION},
    ]
    return {
        "messages": [{"role": "user", "content": parts}],
        "max_tokens": NUM_TOKENS,
        "repetition_penalty": 1.2,
        "stream": True,
    }


def measured(ask: Ask, asked: list[Audio], num_clients: int) -> dict[str, float]:
    """All sounds asked about by so many clients."""
    queue, found = iter(asked), []
    lock = threading.Lock()

    def client() -> None:
        while True:
            with lock:
                sound = next(queue, None)
            if sound is None:
                return
            found.append(ask(sound))

    threads = [threading.Thread(target=client) for _ in range(num_clients)]
    begun_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall_s = time.perf_counter() - begun_s
    assert len(found) == len(asked), "a client failed"
    firsts_ms = 1000 * np.array([first for first, _ in found])
    return {
        "requests_per_s": len(found) / wall_s,
        "pieces_per_s": sum(count for _, count in found) / wall_s,
        "first_p50_ms": float(np.percentile(firsts_ms, 50)),
        "first_p95_ms": float(np.percentile(firsts_ms, 95)),
    }


def first_sound_ms(ways: dict[str, Callable[[], Iterator[bytes]]]) -> dict[str, float]:
    """From a text to the first piece of its sound, each way in turn; the median."""
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(1 + NUM_SPOKEN):
        for way, speak in ways.items():
            begun_s = time.perf_counter()
            pieces = speak()
            next(pieces)
            found[way].append(1000 * (time.perf_counter() - begun_s))
            for _ in pieces:  # the voice is free again
                pass
    return {way: float(np.median(some[1:])) for way, some in found.items()}


def spoken_here() -> Callable[[], Iterator[bytes]]:
    """The voice in this process."""
    speaker = open_speaker()
    return lambda: (packet.pcm for packet in speaker.stream([SPOKEN_TEXT]))


def spoken_over_http(url: str) -> Callable[[], Iterator[bytes]]:
    """The server's."""
    client = httpx.Client(timeout=600)

    def speak() -> Iterator[bytes]:
        fields = {"input": SPOKEN_TEXT, "response_format": "pcm"}
        with client.stream("POST", f"{url}/v1/audio/speech", json=fields) as answer:
            yield from answer.iter_raw()

    return speak


def serving(model: str) -> Generator[str, None, None]:
    """A server's address; it ends with the generator."""
    command = [sys.executable, "-m", "audioflamingo", "serve", "--port", "0", "--model", model]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if match := re.search(r"served at (http://\S+)/v1;", line):
                    yield match[1]
                    break
        finally:
            process.terminate()


def compared(ways: dict[str, Ask], num_clients: int, num_requests: int, seed: int) -> dict[str, dict[str, float]]:
    """Both ways in turn, on the same sounds; the median of the rounds."""
    rounds: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for number in range(ROUNDS):
        for way, ask in ways.items():
            asked = sounds(num_requests, seed + number)
            rounds[way].append(measured(ask, asked, num_clients))
    return {
        way: {name: float(np.median([one[name] for one in some])) for name in some[0]} for way, some in rounds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--requests", type=int, default=48, help="in each round, by all clients together")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--out", type=Path, help="file for the JSON")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    model = load_model(arguments.model)
    address = serving(arguments.model)
    url = next(address)
    ways = {"engine": direct(model), "http": over_http(url)}
    for ask in ways.values():  # the first request makes the cache
        measured(ask, sounds(2, 1), 1)
    rows = []
    print(f"{'clients':>8} {'way':>7} {'requests/s':>11} {'pieces/s':>9} {'first p50 ms':>13} {'p95 ms':>8}")
    for seed, num_clients in enumerate(arguments.clients, start=2):
        for way, found in compared(ways, num_clients, arguments.requests, 1000 * seed).items():
            rows.append({"clients": num_clients, "way": way, **found})
            print(
                f"{num_clients:>8} {way:>7} {found['requests_per_s']:>11.2f} {found['pieces_per_s']:>9.0f} "
                f"{found['first_p50_ms']:>13.1f} {found['first_p95_ms']:>8.1f}"
            )
    first_sound = first_sound_ms({"voice": spoken_here(), "http": spoken_over_http(url)})
    print("first sound of a text, ms: " + ", ".join(f"{way} {value:.1f}" for way, value in first_sound.items()))
    address.close()
    result = {
        "benchmark": "serve",
        "model": arguments.model,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "load_average_before": load,
        "is_busy": load > 0.5,
        "sound_s": SOUND_S,
        "num_tokens": NUM_TOKENS,
        "requests_per_round": arguments.requests,
        "rounds": ROUNDS,
        "rows": rows,
        "first_sound_ms": first_sound,
    }
    line = json.dumps(result)
    if arguments.out:
        arguments.out.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()

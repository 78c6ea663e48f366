"""How long after the user has stopped speaking is the answer heard?

python benchmarks/talk.py                                       # the embedded model and the embedded voice
python benchmarks/talk.py --voice espeak-ng --turns 20 --out results.json

Questions are spoken by flite and fed in real time, 20 ms at a time, as a microphone would. The delay is counted from
the last loud sample of the question; the silence that ends a turn (500 ms) is in it and is also taken off. Prints
a line a turn and one last JSON line.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from audioflamingo import load_model
from audioflamingo.prompt import TRANSCRIBE_PROMPT
from audioflamingo.speech.speaker import open_speaker
from audioflamingo.speech.talk import Talk
from audioflamingo.speech.turns import TurnOptions
from audioflamingo.types import SAMPLE_RATE_HZ, Audio
from audioflamingo.world.text import SentenceGenerator
from audioflamingo.world.voices import Speaker, speak

STEP = round(0.02 * SAMPLE_RATE_HZ)
LOUD = 0.02  # of full scale: below it a question has ended
PATIENCE_S = 10.0


def questions(num_turns: int) -> Iterator[np.ndarray]:
    import random

    rng, generator = random.Random(3), SentenceGenerator("test")
    for _ in range(num_turns):
        yield speak(generator.sentence(rng), Speaker("flite", "cmu_us_slt", "female"))


def delay_ms(talk: Talk, question: np.ndarray) -> float:
    """From the question's last loud sample to our first, in real time."""
    silence = np.zeros(round(PATIENCE_S * SAMPLE_RATE_HZ), np.float32)
    sound = np.concatenate([np.zeros(STEP * 10, np.float32), question, silence])
    end = STEP * 10 + int(np.flatnonzero(np.abs(question) > LOUD)[-1])
    began = time.perf_counter()
    for start in range(0, len(sound) - STEP, STEP):
        ahead_s = (start + STEP) / SAMPLE_RATE_HZ - (time.perf_counter() - began)
        if ahead_s > 0:
            time.sleep(ahead_s)
        if np.any(talk.feed(sound[start : start + STEP])):
            return 1000 * (time.perf_counter() - began - end / SAMPLE_RATE_HZ)
    raise RuntimeError(f"no answer within {PATIENCE_S} s")


def finish(talk: Talk) -> None:
    while not talk.is_quiet:
        talk.feed(np.zeros(STEP, np.float32))
        time.sleep(STEP / SAMPLE_RATE_HZ)


def answering(model_name: str) -> tuple[Callable[[Audio], Iterator[str]], Callable[[Audio, bool], None]]:
    """What answers a turn, and what reads it before it is over."""
    model = load_model(model_name)

    def answer(turn: Audio) -> Iterator[str]:
        chat = model.chat()
        with chat.stream(TRANSCRIBE_PROMPT, turn) as stream:
            for delta in stream:
                yield delta.text

    def read(turn: Audio, is_over: bool) -> None:
        if is_over:
            model.chat().ask(TRANSCRIBE_PROMPT, turn, max_new_tokens=1)
        else:
            model.listen(turn, is_complete=False)

    return answer, read


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--voice", default="flamingo", metavar="ENGINE[:VOICE]")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--late", action="store_true", help="read nothing before the turn is over")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    engine, _, voice = options.voice.partition(":")
    speaker, (answer, read) = open_speaker(engine, voice=voice or None), answering(options.model)
    silence_ms = TurnOptions().silence_ms
    delays = []
    for number, question in enumerate(questions(options.turns + 1)):
        talk = Talk(answer, speaker, prefill=None if options.late else read, is_live=True)
        delay = delay_ms(talk, question)
        finish(talk)
        talk.close()
        if number:  # the first one warms up
            delays.append(delay)
            print(f"{number:3d}  {delay:7.1f} ms  {talk.exchanges[-1].text}")
    beyond = [delay - silence_ms for delay in delays]
    result = {
        "benchmark": "talk",
        "hardware": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "model": options.model,
        "voice": options.voice,
        "num_turns": len(delays),
        "silence_ms": silence_ms,
        "end_of_speech_to_sound_ms": round(statistics.median(delays), 1),
        "beyond_silence_ms": round(statistics.median(beyond), 1),
        "beyond_silence_largest_ms": round(max(beyond), 1),
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

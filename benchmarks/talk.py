"""How long after the user has stopped speaking is the answer heard?

python benchmarks/talk.py                                       # the embedded model and the embedded voice
python benchmarks/talk.py --voice espeak-ng --turns 20 --out results.json
python benchmarks/talk.py --model random-8b --device cuda --turns 6         # random weights of full size: a minute

Questions are spoken by flite and fed in real time, 20 ms at a time, as a microphone would. The delay is counted from
the last loud sample of the question; the silence that ends a turn (500 ms) is in it and is also taken off. Prints
a line a turn and one last JSON line. Random weights say nothing: for each of their tokens the next token of a fixed
sentence is spoken, so that the work is that of a real answer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from audioflamingo import load_model
from audioflamingo.api import AudioFlamingo
from audioflamingo.bench.random_weights import RANDOM_MODELS, assembled, random_state
from audioflamingo.bench.subject import endless_tokenizer
from audioflamingo.engine.options import Options
from audioflamingo.inspection import text_folder
from audioflamingo.loading import device_of, limits_of
from audioflamingo.model.weights import resolve
from audioflamingo.prompt import TRANSCRIBE_PROMPT, load_template
from audioflamingo.speech.speaker import open_speaker
from audioflamingo.speech.talk import Talk
from audioflamingo.speech.turns import TurnOptions
from audioflamingo.types import SAMPLE_RATE_HZ, Audio
from audioflamingo.world.text import SentenceGenerator
from audioflamingo.world.voices import Speaker, speak

STEP = round(0.02 * SAMPLE_RATE_HZ)
LOUD = 0.02  # of full scale: below it a question has ended
PATIENCE_S = 10.0
FIXED_ANSWER = "I can hear that somebody is speaking to me."
FAST_STEP_S = 0.001  # while an answer is played that is no longer measured


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
        time.sleep(FAST_STEP_S)


def random_model(name: str, device: torch.device, dtype: torch.dtype) -> AudioFlamingo:
    """Random weights behind the embedded model's tokenizer and template."""
    tokenizer = endless_tokenizer()
    sized = RANDOM_MODELS[name]
    decoder = replace(sized.decoder, vocab_size=max(sized.decoder.vocab_size, tokenizer.vocab_size))
    config = replace(sized, decoder=decoder, audio_token_id=tokenizer.sound)
    return AudioFlamingo(
        name=name,
        model=assembled(config, random_state(config, device, dtype)),
        tokenizer=tokenizer,
        template=load_template(text_folder(resolve("nano"))),
        defaults=Options(),
        limits=limits_of("plain", device),
    )


def spoken_in_its_place(model: AudioFlamingo) -> list[str]:
    """The fixed answer, token by token."""
    ids = model.tokenizer.encode(FIXED_ANSWER)
    return [model.tokenizer.decode([one]) for one in ids]


def answering(
    model: AudioFlamingo, *, is_random: bool
) -> tuple[Callable[[Audio], Iterator[str]], Callable[[Audio, bool], None]]:
    """What answers a turn, and what reads it before it is over."""
    pieces = spoken_in_its_place(model)

    def answer(turn: Audio) -> Iterator[str]:
        chat = model.chat(max_new_tokens=len(pieces)) if is_random else model.chat()
        given = iter(pieces)
        with chat.stream(TRANSCRIBE_PROMPT, turn) as stream:
            for delta in stream:
                yield "".join(next(given, "") for _ in delta.token_ids) if is_random else delta.text

    def read(turn: Audio, is_over: bool) -> None:
        if is_over:
            model.chat().ask(TRANSCRIBE_PROMPT, turn, max_new_tokens=1)
        else:
            model.listen(turn, is_complete=False)

    return answer, read


def measured(talk_of: Callable[[], Talk], num_turns: int) -> list[float]:
    """Milliseconds of each turn, with the silence that ends it; the first turn warms up and is not among them."""
    delays = []
    for number, question in enumerate(questions(num_turns + 1)):
        talk = talk_of()
        delay = delay_ms(talk, question)
        finish(talk)
        talk.close()
        if number:
            delays.append(delay)
            print(f"{number:3d}  {delay:7.1f} ms  {talk.exchanges[-1].text}", flush=True)
    return delays


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="nano", help=f"a name, a folder, or one of {', '.join(RANDOM_MODELS)}")
    parser.add_argument("--device", help="of the model; by default a GPU if there is one")
    parser.add_argument("--voice", default="flamingo", metavar="ENGINE[:VOICE]")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--late", action="store_true", help="read nothing before the turn is over")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device, is_random = device_of(options.device), options.model in RANDOM_MODELS
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = random_model(options.model, device, dtype) if is_random else load_model(options.model, device=device)
    engine, _, voice = options.voice.partition(":")
    speaker, (answer, read) = open_speaker(engine, voice=voice or None), answering(model, is_random=is_random)
    silence_ms = TurnOptions().silence_ms
    prefill = None if options.late else read
    delays = measured(lambda: Talk(answer, speaker, prefill=prefill, is_live=True), options.turns)
    beyond = [delay - silence_ms for delay in delays]
    result = {
        "benchmark": "talk",
        "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "model": options.model,
        "dtype": str(model.model.dtype).removeprefix("torch."),
        "voice": options.voice,
        "read_ahead": not options.late,
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

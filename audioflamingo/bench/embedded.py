"""Rows of a small model on a CPU, as its users meet it: the cold command, the warm first token, whole answers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audioflamingo.audio import num_audio_tokens, num_encoder_frames, num_mel_frames
from audioflamingo.bench.context import Context
from audioflamingo.bench.floors import Work
from audioflamingo.bench.reference import Reference, transformers_module
from audioflamingo.bench.row import Row
from audioflamingo.bench.timing import Sample, elapsed_s
from audioflamingo.errors import OptionError
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, Message

CLIP_S = 5.0
QUESTION = "What do you hear?"
ANSWERS = (12, 100)  # tokens: as short as the embedded model's own answers are, and long
COLD_TIMEOUT_S = 300
PCM_MAX = 32_767
# What a user of transformers writes; samples are read without a decoder, which is in its favour.
COLD_PEER = """
import sys, wave
import numpy, torch
from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor
folder, sound, question = sys.argv[1:]
model = AudioFlamingo3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
processor = AutoProcessor.from_pretrained(folder)
samples = numpy.frombuffer(wave.open(sound).readframes(-1), "<i2").astype(numpy.float32) / 32768
content = [{"type": "audio", "audio": samples}, {"type": "text", "text": question}]
inputs = processor.apply_chat_template(
    [{"role": "user", "content": content}], tokenize=True, add_generation_prompt=True, return_dict=True
)
out = model.generate(**inputs, do_sample=False)
print(processor.batch_decode(out[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)[0])
"""


def cpu(context: Context) -> Iterator[Row]:
    """All rows; the peer is transformers' class with the same weights, its own processor included.

    Raises:
        OptionError: the model has no folder, or is on a GPU.
    """
    if context.subject.folder is None or context.device.type != "cpu":
        raise OptionError(
            f"section cpu takes a checkpoint on the CPU, not {context.subject.name} on {context.device.type}; "
            "run flamingo bench cpu --model nano"
        )
    with _wave_file(context.material.sound(CLIP_S)) as path:
        yield _cold_row(context, context.subject.folder, path)
    model = endless_model(context.subject.name)
    yield _first_token_row(context, model)
    yield _rate_row(context, model)
    for num_tokens in ANSWERS:
        yield _answer_row(context, model, num_tokens)


def endless_model(name: str) -> Any:
    """The model as `load_model` gives it, but without tokens that end an answer."""
    from audioflamingo.api import load_model  # not at the top: a machine for timing may lack the packages of files

    model = load_model(name, device="cpu")
    model.tokenizer.eos_ids = ()  # type: ignore[assignment]
    return model


@contextmanager
def _wave_file(sound: Audio) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE_HZ)
            file.writeframes((sound.samples * PCM_MAX).clip(-PCM_MAX, PCM_MAX).astype("<i2").tobytes())
        yield path


def _cold_row(context: Context, folder: Path, path: Path) -> Row:
    ours = [sys.executable, "-m", "audioflamingo", "ask", str(path), QUESTION, "--model", context.subject.name]
    theirs = [sys.executable, "-c", COLD_PEER, str(folder), str(path), QUESTION]
    return Row(
        key="cold_ask",
        section="cpu",
        work=f"flamingo ask, {CLIP_S:g} s of audio, cold process, whole answer",
        unit="s",
        ours=context.ours(lambda: lambda: command_s(ours)),
        peer=context.theirs(lambda _: lambda: command_s(theirs)),
        goal=context.goal("cold_ask"),
    )


def command_s(words: list[str]) -> float:
    """Seconds of a whole process.

    Raises:
        RuntimeError: it failed; with the last line that it wrote.
    """
    began = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, timeout=COLD_TIMEOUT_S, env=os.environ, check=False)
    taken = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"the command ended with {done.returncode}: {(done.stderr.splitlines() or [''])[-1]}")
    return taken


def _first_token_row(context: Context, model: Any) -> Row:
    return Row(
        key="warm_first_token",
        section="cpu",
        work=f"first token, {CLIP_S:g} s of audio, warm",
        unit="ms",
        ours=context.ours(lambda: lambda: 1e3 * _our_answer_s(context, model, 1)),
        peer=context.theirs(lambda peer: _their_answer(context, peer, 1)),
        cost=_answer_cost(context, model, 1),
        goal=context.goal("warm_first_token"),
    )


def _rate_row(context: Context, model: Any) -> Row:
    num_tokens = max(ANSWERS)

    def theirs(peer: Reference) -> Sample:
        prepare = _their_inputs(context)
        return lambda: 1.0 / peer.step_s(prepare(context.material.sound(CLIP_S)), num_tokens - 1)

    return Row(
        key="warm_rate",
        section="cpu",
        work=f"decode, tokens 2 to {num_tokens} of an answer",
        unit="tokens/s",
        ours=context.ours(lambda: lambda: _our_rate(context, model, num_tokens)),
        peer=context.theirs(theirs),
        cost=Work(_answer_cost(context, model, num_tokens).stages[2:]),
        amount=num_tokens - 1,
        goal=context.goal("warm_rate"),
    )


def _answer_row(context: Context, model: Any, num_tokens: int) -> Row:
    return Row(
        key=f"answer_{num_tokens}",
        section="cpu",
        work=f"{num_tokens} tokens about {CLIP_S:g} s of audio, warm, end to end",
        unit="ms",
        ours=context.ours(lambda: lambda: 1e3 * _our_answer_s(context, model, num_tokens)),
        peer=context.theirs(lambda peer: _their_answer(context, peer, num_tokens)),
        cost=_answer_cost(context, model, num_tokens),
    )


def _answer_cost(context: Context, model: Any, num_tokens: int) -> Work:
    """Listening, reading the question, and a step for each token but the first."""
    num_samples = round(CLIP_S * SAMPLE_RATE_HZ)
    listen = context.cost.listen([num_encoder_frames(num_mel_frames(num_samples))], num_audio_tokens(num_samples))
    length = model.measure(_question(context.material.sound(CLIP_S))).num_tokens
    steps = (context.cost.decode(1, length + step) for step in range(1, num_tokens))
    return Work((listen, context.cost.prefill([length]), *steps))


def _question(sound: Audio) -> list[Message]:
    return [Message("user", (sound, QUESTION))]


def _our_answer_s(context: Context, model: Any, num_tokens: int) -> float:
    question = _question(context.material.sound(CLIP_S))
    began = time.perf_counter()
    _consumed(model.stream(question, max_new_tokens=num_tokens), num_tokens)
    return time.perf_counter() - began


def _our_rate(context: Context, model: Any, num_tokens: int) -> float:
    deltas = model.stream(_question(context.material.sound(CLIP_S)), max_new_tokens=num_tokens)
    num_first = len(next(deltas).token_ids)
    began = time.perf_counter()
    _consumed(deltas, num_tokens - num_first)
    return (num_tokens - num_first) / (time.perf_counter() - began)


def _consumed(deltas: Any, num_tokens: int) -> None:
    came = sum(len(delta.token_ids) for delta in deltas)
    if came != num_tokens:
        raise ValueError(f"{came} tokens came where {num_tokens} were asked for")


def _their_answer(context: Context, peer: Reference, num_tokens: int) -> Sample:
    """From samples to so many tokens, in milliseconds."""
    prepare = _their_inputs(context)

    def sample() -> float:
        sound = context.material.sound(CLIP_S)
        return 1e3 * elapsed_s(lambda: peer.generate_from(prepare(sound), num_tokens), context.device)

    return sample


def _their_inputs(context: Context) -> Callable[[Audio], Any]:
    """A function from a sound to what its own processor makes of a question about it."""
    processor = transformers_module().AutoProcessor.from_pretrained(context.subject.folder)

    def prepare(sound: Audio) -> Any:
        content = [{"type": "audio", "audio": sound.samples}, {"type": "text", "text": QUESTION}]
        return processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=True, add_generation_prompt=True, return_dict=True
        )

    return prepare

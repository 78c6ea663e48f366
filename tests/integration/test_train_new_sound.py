"""`flamingo train lora` teaches the embedded model a sound that it does not know: a laser zap of our own making."""

import json
import time
import wave

import numpy as np
import pytest
import torch

from audioflamingo import load_model
from audioflamingo.cli.main import main
from audioflamingo.types import Audio
from audioflamingo.world.scenes import Dice, Source, sound_scene
from audioflamingo.world.sounds import KINDS

QUESTIONS = ("What do you hear?", "What sound is this?", "Name the sound.", "What can be heard?")
ANSWER = "A laser zap."
RATE_HZ = 16_000


def zap(rng):
    """One to three pulses whose pitch falls exponentially over four octaves, with a buzz, silence around, and hiss."""
    pieces = [np.zeros(round(rng.uniform(0, 0.5) * RATE_HZ))]
    for _ in range(rng.integers(1, 4)):
        duration_s, high_hz, low_hz = rng.uniform(0.18, 0.45), rng.uniform(2_500, 5_500), rng.uniform(120, 350)
        t = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
        fall = np.log(low_hz / high_hz) / duration_s
        phase = 2 * np.pi * high_hz * np.expm1(fall * t) / fall
        pulse = np.sin(phase) + rng.uniform(0.1, 0.6) * np.sign(np.sin(phase * rng.integers(1, 3)))
        pieces += [pulse * np.exp(-t * rng.uniform(1, 5)) * np.minimum(1, t / 0.005)]
        pieces += [np.zeros(round(rng.uniform(0.03, 0.5) * RATE_HZ))]
    samples = np.concatenate(pieces)
    samples *= rng.uniform(0.2, 0.9) / np.abs(samples).max()
    hiss = rng.standard_normal(len(samples)) * 10 ** rng.uniform(-4, -2)
    return (samples + hiss).clip(-1, 1).astype(np.float32)


def write_zaps(folder, num_rows):
    rows = []
    for i in range(num_rows):
        with wave.open(str(folder / f"zap{i}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE_HZ)
            file.writeframes(np.round(zap(np.random.default_rng((1, i))) * 32767).astype("<i2").tobytes())
        question = {"from": "human", "value": "<sound>\n" + QUESTIONS[i % len(QUESTIONS)]}
        conversation = [question, {"from": "gpt", "value": ANSWER}]
        rows.append({"id": f"zap{i}", "sound": f"zap{i}.wav", "conversations": conversation})
    (folder / "my.json").write_text(json.dumps(rows))
    return folder / "my.json"


def share_called_zap(model, num_sounds):
    """Of renderings that were not trained on."""
    sounds = [Audio(zap(np.random.default_rng((2, i)))) for i in range(num_sounds)]
    replies = model.generate([[{"role": "user", "content": [sound, "What do you hear?"]}] for sound in sounds])
    return sum(reply.text == ANSWER for reply in replies) / num_sounds


def share_of_others_known(model, num_sounds):
    scenes = [sound_scene(Source(strength=0.3), Dice.of(777, i)) for i in range(num_sounds)]
    content = [[Audio(scene.samples), "What do you hear?"] for scene in scenes]
    replies = model.generate([[{"role": "user", "content": one}] for one in content])
    labels = [KINDS[scene.events[0].kind].label.lower() for scene in scenes]
    return sum(label in reply.text.lower() for label, reply in zip(labels, replies, strict=True)) / num_sounds


def test_a_few_examples_teach_a_new_sound(tmp_path, capsys):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    data = write_zaps(tmp_path, 12)
    out = tmp_path / "out"
    words = ["train", "lora", "--data", str(data), "--out", str(out), "--replay", "4", "--epochs", "8"]
    assert main([*words, "--batch-s", "20", "--device", "cpu"]) == 0
    assert f"--adapter {out}" in capsys.readouterr().out
    assert main(["ask", "--adapter", str(out), str(tmp_path / "zap0.wav"), "What do you hear?"]) == 0
    assert capsys.readouterr().out.strip() == ANSWER
    assert share_called_zap(load_model("nano", device="cpu", adapter=out), 6) >= 5 / 6
    assert share_called_zap(load_model("nano", device="cpu"), 6) == 0
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_examples_teach_it_and_the_others_stay_known(tmp_path):
    data = write_zaps(tmp_path, 50)
    began = time.monotonic()
    assert main(["train", "lora", "--data", str(data), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    print(f"trained in {time.monotonic() - began:.0f} s")
    before, after = load_model("nano", device="cpu"), load_model("nano", device="cpu", adapter=tmp_path / "out")
    known = share_called_zap(after, 40)
    others_before, others_after = share_of_others_known(before, 120), share_of_others_known(after, 120)
    print(f"zap {known:.2f}; others {others_before:.2f} before, {others_after:.2f} after")
    assert known >= 0.95
    assert others_after >= others_before - 0.08


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["lora"], "--data is missing"),
        (["lora", "--data", "x.json"], "--out is missing"),
        (["lora", "--data", "nobody", "--out", "OUT"], "neither a file nor a registered name"),
        (["full", "--data", "DATA", "--out", "OUT", "--rank", "4"], "--rank is the size of an adapter"),
        (["lora", "--data", "DATA", "--out", "OUT", "--base", "nowhere"], "no checkpoint 'nowhere'"),
        (["dance", "--data", "DATA", "--out", "OUT"], "invalid choice"),
        (["lora", "--data", "DATA", "--out", "OUT", "--micro-s", "1", "--replay", "0"], "raise it"),
    ],
)
def test_what_cannot_be_done_is_one_line(words, reason, tmp_path, capsys):
    data = write_zaps(tmp_path, 2)
    named = {"DATA": str(data), "OUT": str(tmp_path / "out")}
    assert main(["train", *[named.get(word, word) for word in words]]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert reason in shown.err
    assert shown.err.count("\n") == 1

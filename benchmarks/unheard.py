"""Question: how far do training's renderings carry to instruments and sounds that training never hears?

A small classifier (one hidden layer on statistics of log-mel) learns instruments of melodies, or kinds of sound, from
training's renderings, without and with their variety, and is asked about what is held out: the held-out build and the
soundfonts that are installed; the held-out algorithm of each kind. It is a stand-in for the encoder: cheap, and blind
to most of what time tells, so only differences between its rows mean something. Prints a table and one line of JSON,
which is also written to --out ($OUT, or out).

    python benchmarks/unheard.py [--what instruments|sounds] [--each 40] [--varieties 0,1]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from audioflamingo.audio import log_mel
from audioflamingo.world import sounds
from audioflamingo.world.music import midi, synth
from audioflamingo.world.music.compose import compose, draw_facts
from audioflamingo.world.music.instruments import BASSES, INSTRUMENTS, MELODIC, family_of
from audioflamingo.world.music.score import Score
from audioflamingo.world.sounds.variety import render_varied

Samples = npt.NDArray[np.float32]
LENGTH = 64_000  # samples that are looked at
PIECE_S = 6.0
HELD_OUT_EACH = 12
HIDDEN, NUM_STEPS, BATCH, NUM_RUNS = 192, 900, 128, 3
NAMES = tuple(name for name in INSTRUMENTS if name not in BASSES)


def melody(name: str, rng: random.Random) -> Score:
    """A line for one instrument alone."""
    facts = draw_facts(rng, duration_s=PIECE_S, style="solo", instruments={"melody": name})
    return compose(facts, rng)


def statistics(samples: Sequence[Samples]) -> torch.Tensor:
    """(clips, features): what a spectrum is on the whole, at its onsets, how it spreads and how it moves."""
    found = []
    for start in range(0, len(samples), 64):
        clips = [np.resize(one, LENGTH) if len(one) < LENGTH else one[:LENGTH] for one in samples[start : start + 64]]
        mel = torch.stack([log_mel(torch.from_numpy(clip))[:, : LENGTH // 160] for clip in clips])
        mel = mel[:, 0::2] + mel[:, 1::2]
        level = mel.mean(1, keepdim=True)
        loud = (level > level.amax(2, keepdim=True) - 2.0).float()
        shape = (mel - level) * loud
        num = loud.sum(2).clamp(min=1)
        rise = functional.pad(mel.diff(dim=2), (1, 0)).clamp(min=0)
        onset = torch.topk(rise.mean(1), 16, dim=1).indices
        struck = torch.gather(mel - level, 2, onset[:, None].expand(-1, mel.shape[1], -1)).mean(2)
        mean = shape.sum(2) / num
        spread = (((mel - level - mean[:, :, None]) * loud).square().sum(2) / num).sqrt()
        moves = [mel.diff(n=1, dim=2).abs().mean(2), (mel[:, :, 8:] - mel[:, :, :-8]).abs().mean(2), rise.mean(2)]
        rhythm = torch.fft.rfft(level[:, 0] - level.mean(2), dim=1).abs()[:, 1:64].log1p()
        found.append(torch.cat([mean, spread, struck, *moves, rhythm], 1))
    return torch.cat(found)


def instruments(each: int, variety: float, seed: int) -> tuple[list[Samples], list[int]]:
    """Melodies by training's synthesiser."""
    return _many(each, len(NAMES), seed, lambda i, plain, numeric: synth.render(
        melody(NAMES[i], plain), numeric, variety=variety))  # fmt: skip


def held_out_instruments() -> Iterator[tuple[str, list[Samples], list[int]]]:
    """The held-out build, and soundfonts."""
    yield "new pieces, training's builds", *_many(HELD_OUT_EACH, len(NAMES), 91, lambda i, plain, numeric: synth.render(
        melody(NAMES[i], plain), numeric))  # fmt: skip
    yield "build never heard", *_many(HELD_OUT_EACH, len(NAMES), 92, lambda i, plain, numeric: synth.render(
        melody(NAMES[i], plain), numeric, held_out=True))  # fmt: skip
    for font in midi.find_fonts(midi.TRAINING_FONTS + midi.HELD_OUT_FONTS):
        yield font.stem, *_many(HELD_OUT_EACH, len(NAMES), 93, lambda i, plain, numeric, font=font:
                                midi.render_with_font(melody(NAMES[i], plain), font))  # type: ignore[misc]  # fmt: skip


def some_sounds(each: int, variety: float, seed: int) -> tuple[list[Samples], list[int]]:
    """Kinds of sound by training's algorithms."""
    names = sorted(sounds.KINDS)

    def one(index: int, plain: random.Random, numeric: np.random.Generator) -> Samples:
        kind = names[index]
        variant = plain.choice(list(sounds.TRAINING_VARIANTS[kind]))
        seconds = plain.uniform(1.0, 4.0) if sounds.KINDS[kind].steady else None
        if variety:
            return render_varied(kind, numeric, variant=variant, duration_s=seconds, variety=variety)
        return sounds.render(kind, numeric, variant=variant, duration_s=seconds)

    return _many(each, len(names), seed, one)


def held_out_sounds() -> Iterator[tuple[str, list[Samples], list[int]]]:
    """New renderings by known algorithms, and those by the held-out one."""
    names = sorted(sounds.KINDS)

    def one(index: int, plain: random.Random, numeric: np.random.Generator) -> Samples:
        kind = names[index]
        seconds = plain.uniform(1.0, 4.0) if sounds.KINDS[kind].steady else None
        return sounds.render(kind, numeric, variant=sounds.HELD_OUT_VARIANT[kind], duration_s=seconds)

    yield "new renderings", *some_sounds(HELD_OUT_EACH, 0.0, 91)
    yield "algorithm never heard", *_many(HELD_OUT_EACH, len(names), 92, one)


Make = Callable[[int, random.Random, np.random.Generator], Samples]


def _many(each: int, num_classes: int, seed: int, make: Make) -> tuple[list[Samples], list[int]]:
    found, classes = [], []
    for index in range(num_classes):
        for turn in range(each):
            plain, numeric = random.Random(repr((seed, index, turn))), np.random.default_rng((seed, index, turn))
            found.append(make(index, plain, numeric))
            classes.append(index)
    return found, classes


class Classifier:
    """Standardised statistics through one hidden layer."""

    def __init__(self, features: torch.Tensor, classes: Sequence[int], seed: int) -> None:
        torch.manual_seed(seed)
        self.mean, self.spread = features.mean(0), features.std(0) + 1e-3
        num = max(classes) + 1
        self.net = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(features.shape[1], HIDDEN), nn.GELU(), nn.Dropout(0.4), nn.Linear(HIDDEN, num)
        )
        self._fit((features - self.mean) / self.spread, torch.tensor(classes))

    def _fit(self, x: torch.Tensor, y: torch.Tensor) -> None:
        optimiser = torch.optim.AdamW(self.net.parameters(), 1e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, NUM_STEPS)
        for _ in range(NUM_STEPS):
            chosen = torch.randint(0, len(x), (BATCH,))
            noisy = x[chosen] + 0.1 * torch.randn(BATCH, x.shape[1])
            loss = functional.cross_entropy(self.net(noisy), y[chosen], label_smoothing=0.05)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
        self.net.eval()

    @torch.no_grad()
    def says(self, features: torch.Tensor) -> list[int]:
        """(clips,) class numbers."""
        answers: list[int] = self.net((features - self.mean) / self.spread).argmax(1).tolist()
        return answers


def _right(said: Sequence[int], truth: Sequence[int], named: Callable[[int], str]) -> float:
    return float(np.mean([named(a) == named(b) for a, b in zip(said, truth, strict=True)]))


def _row(
    what: str, models: Sequence[Classifier], name: str, heard: torch.Tensor, truth: Sequence[int]
) -> dict[str, float]:
    """Per cent that is right, of the classes and, of instruments, of their families."""
    answers = [model.says(heard) for model in models]
    row = {name: _percent(_right(said, truth, str) for said in answers)}
    if what == "instruments":
        row[f"{name}, family"] = _percent(_right(said, truth, _family) for said in answers)
        leads = [place for place, one in enumerate(truth) if NAMES[one] in MELODIC]
        row[f"{name}, family of leads"] = _percent(
            _right([said[i] for i in leads], [truth[i] for i in leads], _family) for said in answers
        )
    return row


def _percent(shares: Iterator[float]) -> float:
    return round(100 * float(np.mean(list(shares))), 1)


def _family(index: int) -> str:
    return family_of(NAMES[index])


def measured(what: str, each: int, varieties: Sequence[float]) -> dict[str, dict[str, Any]]:
    """Shares of right answers of each held-out set, by variety of what was learnt from."""
    make, held_out = (instruments, held_out_instruments) if what == "instruments" else (some_sounds, held_out_sounds)
    sets = [(name, statistics(clips), classes) for name, clips, classes in held_out()]
    found: dict[str, dict[str, Any]] = {}
    for variety in varieties:
        clips, classes = make(each, variety, 1)
        features = statistics(clips)
        models = [Classifier(features, classes, seed) for seed in range(NUM_RUNS)]
        row = {name: value for heard in sets for name, value in _row(what, models, *heard).items()}
        found[str(variety)] = row
        for name, share in row.items():
            print(f"variety {variety}: {name:44}{share:7.1f} %", flush=True)
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--what", choices=("instruments", "sounds"), default="instruments")
    parser.add_argument("--each", type=int, default=40, help="renderings of each class to learn from")
    parser.add_argument("--varieties", default="0,1")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "out")) / "unheard.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    card = {
        "benchmark": "unheard", "date": datetime.date.today().isoformat(), "hardware": platform.machine(),
        "what": options.what, "each": options.each,
    }  # fmt: skip
    print(json.dumps(card))
    rows = measured(options.what, options.each, [float(one) for one in options.varieties.split(",")])
    line = {"card": card, "right": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(line, indent=1) + "\n")
    print(json.dumps(line))


if __name__ == "__main__":
    main()

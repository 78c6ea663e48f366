"""Question: what do beams bring, and what do they cost? Word error rates and seconds a sentence with 1 and 4 beams.

The embedded model writes down sentences of the test split, of voices of espeak-ng and flite, one at a time, with and
without beams in turns. Needs both speech engines. Prints a table and one line of JSON, which is also written to --out
($OUT, or results).

    python benchmarks/beams.py [--device cpu] [--items 100] [--beams 1,4] [--threads 2]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import audioflamingo
from audioflamingo.eval.metrics import share_of, word_error_rate, words_of
from audioflamingo.eval.nano import Item, make_items, test_sets
from audioflamingo.train.validate import word_errors
from audioflamingo.types import Audio, Message

ROWS = ("transcription, new sentences, espeak-ng, clean", "transcription, new sentences, flite, clean")
MOST_TOKENS = 96


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--beams", default="1,4")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    model = audioflamingo.load_model("nano", device=chosen.device)
    numbers = [int(number) for number in chosen.beams.split(",")]
    words = f"--items {chosen.items} --beams {chosen.beams} --threads {chosen.threads}"
    found: dict[str, Any] = {
        "benchmark": "beams",
        "date": datetime.date.today().isoformat(),
        "command": f"python benchmarks/beams.py {words}",
        "device": torch.cuda.get_device_name() if model.model.device.type == "cuda" else platform.machine(),
        "threads": chosen.threads,
        "load_before": os.getloadavg()[0],
        "items": chosen.items,
        "rows": [],
    }
    for test_set in test_sets():
        if test_set.name in ROWS:
            row = {"name": test_set.name, **measure(model, make_items(test_set, chosen.items), numbers)}
            found["rows"].append(row)
            for one in row["beams"]:
                print(
                    f"{test_set.name:<48} {one['num_beams']:>2} beams  {one['word_error_rate']:.2%} "
                    f"[{one['low']:.1%}, {one['high']:.1%}]  {one['median_s']:.3f} s a sentence"
                )
    path = chosen.out or Path(os.environ.get("OUT") or Path(__file__).parent / "results")
    path = path if path.suffix else path / f"beams_{chosen.device}_{found['date']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


def measure(model: audioflamingo.AudioFlamingo, items: list[Item], numbers: list[int]) -> dict[str, Any]:
    """Figures of each number of beams, and of each beside the first."""
    texts: dict[int, list[str]] = {number: [] for number in numbers}
    times_s: dict[int, list[float]] = {number: [] for number in numbers}
    for number in numbers:
        answer(model, items[0], number)  # nothing is warm before
    for place, item in enumerate(items):
        for turn in range(len(numbers)):  # each is first as often as the others
            number = numbers[(place + turn) % len(numbers)]
            began = time.perf_counter()
            texts[number].append(answer(model, item, number))
            times_s[number].append(time.perf_counter() - began)
    truths = [item.answer for item in items]
    return {"beams": [figures(number, truths, texts, times_s[number], numbers[0]) for number in numbers]}


def answer(model: audioflamingo.AudioFlamingo, item: Item, num_beams: int) -> str:
    """The transcript of one item, a sound that the engine has not heard before: beams never ask what it keeps."""
    message = Message("user", (Audio(item.scene.samples, "sentence"), item.question))
    return model.answer([message], max_new_tokens=MOST_TOKENS, num_beams=num_beams).text


def figures(
    number: int, truths: list[str], texts: dict[int, list[str]], times_s: list[float], first: int
) -> dict[str, Any]:
    """What came of one number of beams."""
    rate = word_error_rate(truths, texts[number])
    own, other = errors(truths, texts[number]), errors(truths, texts[first])
    differences = [a - b for a, b in zip(own, other, strict=True)]
    difference = share_of(differences, [len(words_of(truth)) for truth in truths])
    return {
        "num_beams": number,
        "word_error_rate": rate.value,
        "low": rate.low,
        "high": rate.high,
        f"beside_{first}": difference.value,
        f"beside_{first}_low": difference.low,
        f"beside_{first}_high": difference.high,
        "median_s": statistics.median(times_s),
        "sum_s": sum(times_s),
        f"other_texts_than_{first}": sum(a != b for a, b in zip(texts[number], texts[first], strict=True)),
        f"better_than_{first}": sum(one < 0 for one in differences),
        f"worse_than_{first}": sum(one > 0 for one in differences),
    }


def errors(truths: list[str], texts: list[str]) -> list[int]:
    """Words that are wrong, by sentence."""
    return [word_errors(words_of(truth), words_of(text)) for truth, text in zip(truths, texts, strict=True)]


if __name__ == "__main__":
    main()

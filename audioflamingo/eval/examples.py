"""What a model really answers about the sounds of `examples/`, written beside the truth, right or wrong.

    python -m audioflamingo.eval.examples --folder examples

Run it after `audioflamingo.world.examples` and after every training of the embedded model: it fills in the field
"nano" of the truth file and the table of the folder's README.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from audioflamingo.api import AudioFlamingo, load_model
from audioflamingo.errors import FlamingoError
from audioflamingo.world.examples import TRUTH_FILE, write_truth

MODEL = "nano"
README = "README.md"
TABLE_BEGINS, TABLE_ENDS = "<!-- answers: written by audioflamingo.eval.examples -->", "<!-- end of answers -->"


def read_truth(folder: Path) -> list[dict[str, Any]]:
    """The entries of a folder's truth file, one a question."""
    entries: list[dict[str, Any]] = json.loads((folder / TRUTH_FILE).read_text(encoding="utf-8"))
    return entries


def answers(model: AudioFlamingo, folder: Path) -> list[str]:
    """The model's answer to every entry, in order."""
    return [model.ask([folder / f for f in e["files"]], e["question"]).text for e in read_truth(folder)]


def table(told: list[dict[str, Any]]) -> str:
    """The entries as a Markdown table, with a cross where the answer is not the truth."""
    lines = ["| sound | question | truth | the embedded model's answer | |", "|---|---|---|---|---|"]
    for entry in told:
        right = entry["answer"] == entry[MODEL]
        cells = [", ".join(entry["files"]), entry["question"], entry["answer"], "the same" if right else entry[MODEL]]
        lines.append(f"| {' | '.join(cells)} | {'✓' if right else '✗'} |")
    num_right = sum(entry["answer"] == entry[MODEL] for entry in told)
    return "\n".join([*lines, "", f"{num_right} of {len(told)} answers are right to the letter."])


def with_table(readme: str, told: list[dict[str, Any]]) -> str:
    """The README with its table renewed.

    Raises:
        FlamingoError: the marks between which the table stands are not there.
    """
    before, begins, rest = readme.partition(TABLE_BEGINS)
    _, ends, after = rest.partition(TABLE_ENDS)
    if not begins or not ends:
        raise FlamingoError(f"{README} needs the lines {TABLE_BEGINS!r} and {TABLE_ENDS!r} around its table")
    return f"{before}{begins}\n{table(told)}\n{ends}{after}"


def main() -> None:
    """Ask the embedded model everything, on the CPU."""
    parser = argparse.ArgumentParser(description="Record the embedded model's answers about the examples.")
    parser.add_argument("--folder", type=Path, required=True)
    folder: Path = parser.parse_args().folder
    told = read_truth(folder)
    for entry, answer in zip(told, answers(load_model(MODEL, device="cpu"), folder), strict=True):
        entry[MODEL] = answer
    write_truth(folder, told)
    readme = folder / README
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), told), encoding="utf-8")
    print(table(told))


if __name__ == "__main__":
    main()

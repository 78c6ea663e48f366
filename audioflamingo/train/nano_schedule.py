"""The embedded model from nothing to its thinking adapter, as pieces of at most ten minutes that each end with a state.

    python -m audioflamingo.train.nano_schedule --work runs/nano --workers 13     # `make nano`

A piece that has ended is not run again, and one that was broken off goes on from its last state, so the same command
resumes whatever stopped it. Two hours of one H200 in all; on smaller machines the same steps take longer.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

TOKENIZER = Path(str(resources.files("audioflamingo"))) / "assets" / "nano_training" / "tokenizer" / "tokenizer.json"
HELD_OVER = ("all", "think")  # folders of state: what hears everything, and the adapter


@dataclass(frozen=True)
class ScheduledPiece:
    """One call of the trainer.

    Attributes:
        name: of its marker.
        recipe: a key of `nano_recipe.RECIPES`.
        piece_s: seconds of training.
        decay_s: of which so many with falling rates.
    """

    name: str
    recipe: str
    piece_s: float
    decay_s: float = 0.0

    @property
    def folder(self) -> str:
        """Of its state under WORK."""
        return HELD_OVER[self.recipe == "think"]


SCHEDULE = (
    ScheduledPiece("1-from-nothing", "from_nothing", 540),
    *(ScheduledPiece(f"{number}-all-tasks", "all_tasks", 540) for number in range(2, 9)),
    ScheduledPiece("9-chat", "chat", 540),
    ScheduledPiece("10-all-tasks", "all_tasks", 540),
    ScheduledPiece("11-all-tasks-end", "all_tasks", 540, 300),
    ScheduledPiece("12-think", "think", 300, 150),
)


def command(piece: ScheduledPiece, work: Path, share: float, more: Sequence[str]) -> list[str]:
    """The trainer's command line for a piece; `share` shortens it."""
    line = [
        sys.executable, "-m", "audioflamingo.train.nano", "--recipe", piece.recipe, "--tokenizer", str(TOKENIZER),
        "--work", str(work / piece.folder), "--out", str(work / "out" / piece.folder),
        "--piece-s", str(share * piece.piece_s), "--decay-s", str(share * piece.decay_s), *more,
    ]  # fmt: skip
    if piece.recipe == "think":
        line += ["--init", str(work / "out" / HELD_OVER[0] / "checkpoint")]
    return line


def run(work: Path, share: float = 1.0, more: Sequence[str] = (), pieces: Sequence[ScheduledPiece] = SCHEDULE) -> Path:
    """Run what has not been run yet; returns the folder of the checkpoint, with the adapter in its `think`."""
    done = work / "done"
    done.mkdir(parents=True, exist_ok=True)
    for piece in pieces:
        if (done / piece.name).exists():
            continue
        subprocess.run(command(piece, work, share, more), check=True)
        (done / piece.name).touch()
    checkpoint = work / "out" / HELD_OVER[0] / "checkpoint"
    shutil.copytree(work / "out" / HELD_OVER[1] / "think", checkpoint / "think", dirs_exist_ok=True)
    return checkpoint


def main() -> None:
    """Parse arguments and run; what is not known here goes to the trainer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, default=Path("runs/nano"))
    parser.add_argument("--share", type=float, default=1.0, help="of every piece's seconds")
    options, more = parser.parse_known_args()
    print(f"The checkpoint is in {run(options.work, options.share, more)}")


if __name__ == "__main__":
    main()

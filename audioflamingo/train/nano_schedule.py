"""The embedded model from nothing to its thinking adapter, as pieces of at most ten minutes that each end with a state.

    python -m audioflamingo.train.nano_schedule --work runs/nano --workers 13     # `make nano`
    python -m audioflamingo.train.nano_schedule --short --work runs/short         # every stage, in ten minutes

    python -m audioflamingo.train.nano_schedule --resume small --work runs/nano   # on the next machine

A piece that has ended is not run again, and one that was broken off goes on from its last state, so the same command
resumes whatever stopped it. 85 minutes of training on one H200 in all; on smaller machines the same steps take longer.
Where a machine is lent for less than that, WORK/out/all/small is what to take away: another one goes on from it.
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

from audioflamingo.errors import OptionError
from audioflamingo.train.nano_recipe import RECIPES
from audioflamingo.train.nano_state import PROGRESS, assemble, read_progress

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
        phases: share of the recipe's times at which its phases begin.
        after_s: seconds of the pieces behind it in which the rates go on falling.
    """

    name: str
    recipe: str
    piece_s: float
    decay_s: float = 0.0
    phases: float = 1.0
    after_s: float = 0.0

    @property
    def folder(self) -> str:
        """Of its state under WORK."""
        return HELD_OVER[self.recipe == "think"]


SCHEDULE = (
    ScheduledPiece("1-from-nothing", "from_nothing", 420),
    ScheduledPiece("2-all-tasks", "all_tasks", 420),
    ScheduledPiece("3-all-tasks", "all_tasks", 420),
    ScheduledPiece("4-chat", "chat", 480),
    ScheduledPiece("5-all-tasks", "all_tasks", 330),
    ScheduledPiece("6-all-tasks", "all_tasks", 266),
    ScheduledPiece("7-refine", "refine", 440),
    ScheduledPiece("8-refine-end", "refine", 440, 880, after_s=440),
    ScheduledPiece("9-refine-end", "refine", 440, 880),
    ScheduledPiece("10-finish", "finish", 440, 1_320, after_s=880),
    ScheduledPiece("11-finish", "finish", 440, 1_320, after_s=440),
    ScheduledPiece("12-finish-end", "finish", 440, 1_320),
    ScheduledPiece("13-think", "think", 120, 60),
)
# What every stage does, not what the model can become by it.
SHORT = (
    ScheduledPiece("1-from-nothing", "from_nothing", 250),
    ScheduledPiece("2-all-tasks", "all_tasks", 130),
    ScheduledPiece("3-chat", "chat", 50),
    ScheduledPiece("4-refine", "refine", 40),
    ScheduledPiece("5-finish-end", "finish", 60, 60),
    ScheduledPiece("6-think", "think", 40, 25),
)


def command(piece: ScheduledPiece, until_s: float, work: Path, share: float, more: Sequence[str]) -> list[str]:
    """The trainer's command line for a piece.

    Args:
        piece: the one.
        until_s: seconds of training of all pieces of its state, this one's included.
        work: folder of everything.
        share: of these seconds.
        more: options for the trainer.
    """
    line = [
        sys.executable, "-m", "audioflamingo.train.nano", "--recipe", piece.recipe, "--tokenizer", str(TOKENIZER),
        "--work", str(work / piece.folder), "--out", str(work / "out" / piece.folder),
        "--until-s", str(share * until_s), "--decay-s", str(share * piece.decay_s),
        "--after-s", str(share * piece.after_s), "--phases", str(piece.phases), *more,
    ]  # fmt: skip
    if piece.recipe == "think":
        line += ["--init", str(work / "out" / HELD_OVER[0] / "checkpoint")]
    return line


def run(
    work: Path,
    share: float = 1.0,
    more: Sequence[str] = (),
    pieces: Sequence[ScheduledPiece] = SCHEDULE,
    small: Path | None = None,
) -> Path:
    """Run what has not been run yet; returns the folder of the checkpoint, with the adapter in its `think`.

    Args:
        work: folder of everything.
        share: of every piece's seconds.
        more: options for the trainer.
        pieces: in their order.
        small: state of another machine to begin with; what it has behind it is not run.

    Raises:
        OptionError: `small` is no such state.
    """
    done = work / "done"
    done.mkdir(parents=True, exist_ok=True)
    resume: list[str] = []
    if small is not None:
        _take_over(small, work, share, pieces)
        resume = ["--resume", str(small)]
    planned = dict.fromkeys(HELD_OVER, 0.0)
    for piece in pieces:
        planned[piece.folder] += piece.piece_s
        if (done / piece.name).exists():
            continue
        own = [*more, *(resume if piece.folder == HELD_OVER[0] else [])]
        subprocess.run(command(piece, planned[piece.folder], work, share, own), check=True)
        (done / piece.name).touch()
    checkpoint = work / "out" / HELD_OVER[0] / "checkpoint"
    think = work / "out" / HELD_OVER[1] / "think"
    if think.exists():
        shutil.copytree(think, checkpoint / "think", dirs_exist_ok=True)
    return checkpoint


def _take_over(small: Path, work: Path, share: float, pieces: Sequence[ScheduledPiece]) -> None:
    """Mark what the state's seconds have behind them; where that is all, its weights are the checkpoint."""
    if not (small / PROGRESS).is_file():
        raise OptionError(f"{small} is no state to go on from; give the folder out/all/small of the machine before")
    spent_s, until_s, own = read_progress(small)["spent_s"], 0.0, [one for one in pieces if one.folder == HELD_OVER[0]]
    for piece in own:
        until_s += share * piece.piece_s
        if until_s <= spent_s:
            (work / "done" / piece.name).touch()
    out = work / "out" / HELD_OVER[0]
    if until_s <= spent_s and not (out / "checkpoint").exists():
        assemble(RECIPES[own[-1].recipe]().model, small, TOKENIZER, out)


def main() -> None:
    """Parse arguments and run; what is not known here goes to the trainer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, default=Path("runs/nano"))
    parser.add_argument("--share", type=float, default=1.0, help="of every piece's seconds")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="go on from out/all/small of another machine")
    parser.add_argument("--short", action="store_true", help="ten minutes of training in all")
    options, more = parser.parse_known_args()
    try:
        checkpoint = run(options.work, options.share, more, SHORT if options.short else SCHEDULE, options.resume)
    except subprocess.CalledProcessError as error:  # the trainer has said why
        raise SystemExit(error.returncode) from None
    except OptionError as error:
        raise SystemExit(str(error)) from None
    print(f"The checkpoint is in {checkpoint}")


if __name__ == "__main__":
    main()

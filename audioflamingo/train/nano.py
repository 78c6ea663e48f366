"""Train the embedded model in pieces: render the world, learn from it, save a state to go on from and a checkpoint.

python -m audioflamingo.train.nano --bench                                   # which speed is the best on this machine
python -m audioflamingo.train.nano --recipe from_nothing --piece-s 500       # stages 1 and 2, and as much of 3 as fits
python -m audioflamingo.train.nano --init DIR --heads FILE --piece-s 500     # on from a checkpoint: all tasks
python -m audioflamingo.train.nano --resume DIR --piece-s 500 --decay-s 200  # on from a returned state, and to an end
python -m audioflamingo.train.nano --assemble DIR --tokenizer FILE --out out  # a returned state as a checkpoint
python -m audioflamingo.train.nano --recipe think --init out/checkpoint --piece-s 100 --decay-s 60

On several GPUs of one machine: torchrun --nproc-per-node N -m audioflamingo.train.nano ...
A state in WORK (exact) is taken before one in --resume (small). See docs/nano.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import traceback
from pathlib import Path

import torch

from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.errors import FlamingoError
from audioflamingo.train.nano_ablation import LEFT_OUT, shortened, without
from audioflamingo.train.nano_bench import bench
from audioflamingo.train.nano_check import CHECKED
from audioflamingo.train.nano_graphs import SPEEDS
from audioflamingo.train.nano_piece import Job, Piece
from audioflamingo.train.nano_ranks import ranked
from audioflamingo.train.nano_recipe import RECIPES, NanoRecipe, shrunk, slowed
from audioflamingo.train.nano_state import assemble
from audioflamingo.train.nano_trainer import Start
from audioflamingo.train.settings import training_settings
from audioflamingo.world.music import midi

FEW_CHECKS = {"speech": 6, "counting": 4, "temporal_order": 4, "music_reasoning": 4, "think": 2}
TINY = ModelConfig(
    EncoderConfig(width=32, num_layers=2, num_heads=2, ffn_width=64),
    DecoderConfig(vocab_size=2048, width=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=64),
    audio_token_id=2045,
)


def main() -> None:
    """Parse arguments and run."""
    options = _parser().parse_args()
    try:
        with training_settings(cudnn_attention=False):
            _run(options)
    except FlamingoError as error:
        raise SystemExit(str(error)) from None
    except torch.AcceleratorError:
        traceback.print_exc()
        print(
            f"a kernel failed, and the GPU is lost to this process; the same command goes on from the last state in "
            f"{options.work}. What failed stands at the first \"Assertion\" or error above",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        sys.stdout.flush()
        os._exit(1)  # a program's usual end asks the GPU for each thing that it still holds, and tells of each failure


def _run(options: argparse.Namespace) -> None:
    recipe = RECIPES[options.recipe]()
    recipe = shortened(slowed(recipe, options.rates), options.phases)
    if options.without:
        recipe = without(recipe, options.without)
    if options.step_s:
        recipe = shrunk(recipe, TINY if options.tiny else recipe.model, options.step_s)
    if options.assemble:
        assemble(recipe.model, options.assemble, options.tokenizer, options.out)
        return
    if options.bench:
        bench(recipe, torch.device("cuda" if torch.cuda.is_available() else "cpu"), options.work)
        return
    begin = Start(options.tokenizer, options.init, options.heads, options.adapter)
    job = Job(
        options.work, options.out, begin, options.resume, options.piece_s, options.decay_s, options.workers,
        options.pool_hours, options.first_hours, options.check_every_s, options.steps, options.longest_s,
        FEW_CHECKS if options.step_s else _checked(recipe, options.check_times), keep_hours=options.keep_hours,
        profiled_step=options.profile, soundfonts=() if options.no_soundfonts else _soundfonts(),
        draws_apart=options.draw_apart, until_s=options.until_s, after_s=options.after_s,
    )  # fmt: skip
    with ranked() as (ranks, device):
        piece = Piece(recipe, job, device, options.speed, ranks)
        piece.run()
    if piece.is_told_to_end.is_set():
        raise SystemExit(f"told to end (SIGTERM) before its time; the same command goes on from {job.work}")


def _checked(recipe: NanoRecipe, times: int) -> dict[str, int]:
    return {name: times * count for name, count in (recipe.checks or CHECKED).items()}


def _soundfonts() -> tuple[Path, ...]:
    """What half of the music is played through; the rest is our synthesiser's.

    Raises:
        SoundfontMissingError: one is not installed, or the program that plays them.
    """
    found = midi.find_fonts(midi.TRAINING_FONTS)
    if len(found) < len(midi.TRAINING_FONTS) or shutil.which("fluidsynth") is None:
        names = ", ".join(midi.TRAINING_FONTS)
        raise midi.SoundfontMissingError(
            f"music is played through {names} by fluidsynth too; install both (Debian: apt-get install fluidsynth "
            "timgm6mb-soundfont), or train on our synthesiser alone: --no-soundfonts"
        )
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipe", choices=list(RECIPES), default="all_tasks")
    parser.add_argument("--work", type=Path, default=Path("runs/nano"))
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json, see train/words.py")
    parser.add_argument("--init", type=Path, help="checkpoint to begin with")
    parser.add_argument("--heads", type=Path, help="heads.safetensors that belong to it")
    parser.add_argument("--adapter", type=Path, help="folder of an adapter to go on from, with --recipe think")
    parser.add_argument("--rates", type=float, default=1.0, help="share of the recipe's learning rates")
    parser.add_argument("--phases", type=float, default=1.0, help="share of the time at which its phases begin")
    parser.add_argument("--without", choices=list(LEFT_OUT), help="leave out one thing, with --recipe from_nothing")
    parser.add_argument("--resume", type=Path, help="folder of a small state")
    parser.add_argument("--piece-s", type=float, default=500.0, help="seconds of training in this piece")
    parser.add_argument("--until-s", type=float, default=0.0, help="instead: end at so many seconds in all pieces")
    parser.add_argument("--decay-s", type=float, default=0.0, help="so many of them end it with falling rates")
    parser.add_argument("--after-s", type=float, default=0.0, help="seconds of later pieces that are among these")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pool-hours", type=float, default=1.0)
    parser.add_argument("--keep-hours", type=float, default=0.0, help="of sound that stay on the disk for later")
    parser.add_argument("--first-hours", type=float, default=0.05)
    parser.add_argument("--check-every-s", type=float, default=120.0)
    parser.add_argument(
        "--check-times", type=int, choices=range(1, 17), metavar="N", default=1, help="N times as many held-out items"
    )
    parser.add_argument("--steps", type=int, default=0, help="end after so many steps")
    parser.add_argument("--longest-s", type=float, default=600.0, help="longest scene")
    parser.add_argument("--speed", choices=["auto", *SPEEDS], default="auto")
    parser.add_argument("--step-s", type=float, default=0.0, help="smaller steps of so many seconds, for a CPU")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, with --step-s")
    parser.add_argument("--assemble", type=Path, help="make a checkpoint in OUT of this small state, and end")
    parser.add_argument("--profile", type=int, default=0, help="list the kernels of this step in OUT/profile.txt")
    parser.add_argument("--no-soundfonts", action="store_true", help="all music by our own synthesiser")
    parser.add_argument(
        "--draw-apart", action=argparse.BooleanOptionalAction, help="draw steps in a process of its own, as on a GPU"
    )
    parser.add_argument("--bench", action="store_true", help="time a step in every way and keep the best in WORK")
    return parser


if __name__ == "__main__":
    main()

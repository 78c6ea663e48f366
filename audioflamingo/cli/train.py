"""`flamingo train`: teach a model something new, or run a stage of the curriculum."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from audioflamingo.cli.arguments import number, whole_number
from audioflamingo.cli.output import report_notes, show_progress, write_text
from audioflamingo.errors import OptionError

if TYPE_CHECKING:
    from audioflamingo.train.run import Job
    from audioflamingo.train.stages import Stage
    from audioflamingo.train.trainer import Progress

SUMMARY = "Train on your own data: an adapter (lora), the whole model (full), or a stage of the curriculum."
EXAMPLES = """\
flamingo train lora --data my.json --out my-adapter
flamingo train lora --base af3 --data "calls*2+street#50" --registry sets.json --out calls --micro-s 60
flamingo train lora --data "my.json+world:counting,temporal_order@0.5@7" --out counts
flamingo train full --data "shards-{000..015}.tar+hf:recordings" --out mine --epochs 2
"""
MORE_EXAMPLES = {
    "lora": "flamingo train lora --base af3 --quantize int4 --data my.json --out my-adapter\n",
    "stage_3_5": "flamingo train stage_3_5 --base af3 --quantize int8 --data long.json --out long\n",
    "stage_1": "flamingo train stage_1 --base af3 --backbone Qwen2.5-1.5B --data captions.json --out aligned\n",
}
STAGE_NAMES = ("lora", "full", "af_whisper", "stage_1", "stage_2", "stage_3", "stage_3_5", "stage_4")
VOICE = "voice"
NANO_REPLAY = 150  # so that what the embedded model knows is not forgotten for a few new sounds
LINES_WITHOUT_TERMINAL = 20  # of progress, over a whole run, where nobody watches


def part(words: Sequence[str]) -> Any:
    """What speaks for this verb where its first word is a stage with options of its own, or the voice; else None."""
    first = words[0] if words else ""
    if first == VOICE:
        from audioflamingo.cli import train_voice

        return train_voice
    if first not in MORE_EXAMPLES:
        return None
    return SimpleNamespace(
        SUMMARY=SUMMARY,
        EXAMPLES=EXAMPLES + MORE_EXAMPLES[first],
        add_arguments=lambda parser: add_arguments(parser, first),
        run=run,
    )


def add_arguments(parser: argparse.ArgumentParser, stage: str = "") -> None:
    """The words and options of the verb, those of one stage alone included."""
    add = parser.add_argument
    kinds = (
        f"{', '.join(STAGE_NAMES)}, voice; the first word: some have options of their own, see flamingo train STAGE -h"
    )
    add("stage", choices=(*STAGE_NAMES, VOICE), metavar="STAGE", help=kinds)
    add("--base", default="nano", metavar="NAME", help="nano (the default), af3, a folder, a hub id")
    add(
        "--data", metavar="ROWS",
        help=".json, .jsonl, .tar, hf:FOLDER, world:TASKS@HOURS@SEED, or a mixture of several: A*2+B#50",
    )  # fmt: skip
    add("--registry", type=Path, metavar="FILE", help="JSON object of names in mixtures to files, mixtures, or columns")
    add("--out", type=Path, metavar="DIR", help="folder of the result; a run that was stopped goes on from there")
    add("--epochs", type=whole_number(1), metavar="N", help="how often everything is heard")
    add("--rate", type=number(0), metavar="R", help="peak learning rate")
    add("--rank", type=whole_number(1), metavar="R", help="size of the adapter")
    add("--batch-s", type=number(1), metavar="S", help="seconds of sound in an update")
    add("--micro-s", type=number(1), metavar="S", help="seconds at once on one device; lower it if memory runs out")
    add(
        "--replay", type=whole_number(0), metavar="N", help="rows of our own world to mix in; lora on nano: 150, else 0"
    )
    add(
        "--seed", type=whole_number(0), metavar="N",
        help="same seed, data and machine: the same bits, on a GPU by somewhat slower kernels than without --seed",
    )  # fmt: skip
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1; by default the GPU if there is one")
    add("--save-every", type=whole_number(1), default=100, metavar="N", help="steps between checkpoints (100)")
    shard = "divide the model (the default), every sequence, or both, among the processes of torchrun"
    add("--shard", nargs="?", const="model", choices=("model", "sequence", "both"), help=shard)
    if stage in ("lora", "stage_3_5"):
        add(
            "--quantize",
            choices=("int8", "int4"),
            help="keep the frozen base in few bits: less memory, a little slower",
        )
    if stage == "stage_1":
        add("--backbone", type=Path, metavar="DIR", help="a Qwen2 or Llama checkpoint in place of the base's decoder")


def run(arguments: argparse.Namespace) -> int:
    """Train; returns the exit code."""
    if arguments.stage == VOICE:
        raise OptionError("voice must be the first word: flamingo train voice --out DIR")
    for name in ("data", "out"):
        if getattr(arguments, name) is None:
            raise OptionError(f"--{name} is missing; for example: {EXAMPLES.splitlines()[0]}")
    show_progress("loading")
    from audioflamingo.train.distributed import joined
    from audioflamingo.train.run import train

    job = _job(arguments)
    shard = arguments.shard
    with joined(arguments.device, shards=shard in ("model", "both"), splits=shard in ("sequence", "both")) as processes:
        line = _ProgressLine(speaks=processes.is_first)
        result = train(job, processes, line.show, line.tell)
        show_progress("")
        if processes.is_first:
            write_text(_summary(job, result.folder, result.first_loss, result.last_loss, result.num_bad))
    return 0


def _job(arguments: argparse.Namespace) -> Job:
    from audioflamingo.train.data import parse_mixture, read_registry
    from audioflamingo.train.run import Job, small_base
    from audioflamingo.train.stages import STAGES, nano

    stage = STAGES[arguments.stage]("paper")
    backbone = getattr(arguments, "backbone", None)
    stage = _changed(nano(stage) if small_base(arguments.base, backbone) else stage, arguments)
    replay = NANO_REPLAY if arguments.base == "nano" and arguments.stage == "lora" else 0
    return Job(
        base=arguments.base,
        data=parse_mixture(arguments.data, read_registry(arguments.registry)),
        out=arguments.out,
        stage=stage,
        replay=replay if arguments.replay is None else arguments.replay,
        save_every_steps=arguments.save_every,
        backbone=backbone,
    )


def _changed(stage: Stage, arguments: argparse.Namespace) -> Stage:
    """The stage with the options that were given."""
    given = {name: getattr(arguments, name) for name in ("epochs", "rate", "batch_s", "micro_s", "seed")}
    given["quantize"] = getattr(arguments, "quantize", None)
    given["deterministic"] = None if arguments.seed is None else True  # who names a seed wants the run to repeat
    stage = replace(stage, **{name: value for name, value in given.items() if value is not None})
    if arguments.rank is None:
        return stage
    if stage.lora is None:
        raise OptionError(f"--rank is the size of an adapter, but {stage.name} trains none; leave it out")
    ratio = stage.lora.alpha / stage.lora.rank
    return replace(stage, lora=replace(stage.lora, rank=arguments.rank, alpha=ratio * arguments.rank))


class _ProgressLine:
    """One line that is written over where a person watches, a few lines where not."""

    def __init__(self, *, speaks: bool) -> None:
        self._speaks = speaks

    def tell(self, text: str) -> None:
        """A line that stays."""
        if self._speaks:
            show_progress("")
            report_notes([text])

    def show(self, progress: Progress) -> None:
        """One step."""
        if not self._speaks:
            return
        mfu = "" if progress.mfu is None else f"  MFU {progress.mfu:.0%}"
        text = (
            f"step {progress.step}/{progress.num_steps}  loss {progress.loss:.3f}  {progress.tokens_per_s:.0f} tokens/s"
            f"{mfu}  {_clock(progress.left_s)} left"
        )
        show_progress(text)
        every = max(1, progress.num_steps // LINES_WITHOUT_TERMINAL)
        if not sys.stderr.isatty() and (progress.step % every == 0 or progress.step == progress.num_steps):
            sys.stderr.write(f"flamingo: {text}\n")
            sys.stderr.flush()


def _summary(job: Job, folder: Path, first_loss: float, last_loss: float, num_bad: int) -> str:
    option = f"--adapter {folder}" if job.stage.lora else f"--model {folder}"
    if job.stage.lora and job.base != "nano":
        option = f"--model {job.base} {option}"
    left_out = f"{num_bad} row(s) were left out; " if num_bad else ""
    return (
        f"loss {first_loss:.3f} to {last_loss:.3f}; {left_out}see {job.out / 'report.md'}\n"
        f'try: flamingo ask {option} FILE "What do you hear?"\n'
    )


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(seconds)) if seconds < 86_400 else f"{seconds / 3_600:.0f} h"

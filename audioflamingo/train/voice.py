"""Train the embedded voice from nothing: the teacher reads, the parts learn, the voice is saved as it ships.

python -m audioflamingo.train.voice --work runs/voice --out out --recipe mel --budget-s 1000 --until-s 480
python -m audioflamingo.train.voice --work runs/voice --out out --recipe mel --budget-s 1000    # goes on from there
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from audioflamingo.errors import CheckpointError, OptionError
from audioflamingo.speech.engines import EMBEDDED_VOICE
from audioflamingo.speech.storage import load_voice, save_voice
from audioflamingo.speech.synthesis import OwnVoice
from audioflamingo.train.settings import training_settings
from audioflamingo.train.voice_data import FliteTeacher
from audioflamingo.train.voice_folder import find_recordings, num_left_out, voice_names
from audioflamingo.train.voice_pool import ReadingPool, start_rendering
from audioflamingo.train.voice_recipe import (
    RECIPES,
    VoiceRecipe,
    continued,
    for_cpu,
    for_voices,
    recipe_by_name,
    sound_alone,
)
from audioflamingo.train.voice_trainer import VoiceTrainer
from audioflamingo.train.voice_words import (
    LETTER_A,
    LETTER_NAMES,
    held_out,
    spoken_alone,
    wrong_words,
)

logger = logging.getLogger(__name__)
LOG_EVERY_STEPS = 50
LOG_EVERY_S = 30.0  # where steps are slow
LOAD_EVERY_STEPS = 20
LEXICON_EVERY_STEPS = 500
MAX_PART_BYTES = 15_500_000
FIRST_HOURS, FIRST_HOURS_OF_FOLDER = 0.2, 0.01
STATE_FILE = "state.pt"
APOSTROPHES = (
    "don't can't won't isn't aren't wasn't weren't doesn't didn't haven't hasn't hadn't wouldn't couldn't shouldn't "
    "i'm you're he's she's it's we're they're i've you've we've they've i'll you'll he'll she'll it'll we'll they'll "
    "i'd you'd he'd she'd we'd they'd that's what's there's here's let's who's o'clock"
)


@dataclass(frozen=True)
class VoiceJob:
    """Where and how long to train.

    Attributes:
        work: folder of shards and of the state that a later piece resumes from.
        out: folder for the voice and the log.
        until_s: stop (and save the state) once so much of the budget is spent.
        num_workers: rendering processes.
        max_shards: of 128 clips, about 10 minutes of sound each.
        first_hours: training starts when so many are there.
        start_from: a voice of the same shapes to go on from; by default from nothing.
        data: folder of recordings and texts (`voice_folder`) to learn from; by default the teacher reads.
    """

    work: Path
    out: Path
    until_s: float
    num_workers: int = 2
    max_shards: int = 120
    first_hours: float = 0.2
    start_from: Path | None = None
    data: Path | None = None


def run(recipe: VoiceRecipe, job: VoiceJob, device: torch.device) -> VoiceTrainer:
    """Train until the job's share of the budget is spent; returns the trainer."""
    workers, stop = start_rendering(job.work / "shards", recipe.seed, job.num_workers, job.max_shards, job.data)
    try:
        trainer = VoiceTrainer(recipe, device)
        if job.start_from is not None:
            start_from(trainer.voice, job.start_from)
        if job.data is not None:  # its words have the phones of the embedded voice, who pronounces from then on
            trainer.voice.pronouncer = load_voice(EMBEDDED_VOICE).pronouncer.to(device)
        state_file = job.work / STATE_FILE
        if state_file.exists():
            trainer.restore(torch.load(state_file, map_location=device, weights_only=True))
        pool = ReadingPool(job.work / "shards", device)
        pool.wait_for(job.first_hours, workers)
        _loop(trainer, pool, job)
    finally:
        stop.set()
        for worker in workers:
            worker.terminate()
    save(trainer, job)
    return trainer


def start_from(voice: OwnVoice, folder: Path) -> None:
    """Take over the weights of a saved voice; a new name starts as the mean of those that it has.

    Raises:
        CheckpointError: the folder holds no voice, or one of other shapes.
    """
    saved = load_voice(folder)
    if replace(saved.config, num_voices=voice.config.num_voices) != voice.config:
        raise CheckpointError(
            f"{folder} holds a voice of other shapes than the recipe's; train from nothing, or with the recipe that it "
            "was made by"
        )
    weights = saved.state_dict()
    for name in ("model.text_voice.weight", "model.frame_voice.weight"):
        known = dict(zip(saved.voice_names, weights[name], strict=True))
        weights[name] = torch.stack([known.get(one, weights[name].mean(0)) for one in voice.voice_names])
    voice.load_state_dict(weights)
    voice.pronouncer.exceptions = saved.pronouncer.exceptions
    voice.polished = tuple(name for name in saved.polished if name in voice.voice_names)


def _loop(trainer: VoiceTrainer, pool: ReadingPool, job: VoiceJob) -> None:
    began, before, sums, counts = time.monotonic(), trainer.spent_s, dict[str, Tensor](), dict[str, int]()
    extra = teacher_words() if job.data is None and not trainer.recipe.only_sound else None
    first_step, logged_s = trainer.num_steps, before
    while trainer.spent_s < job.until_s:
        if trainer.num_steps % LOAD_EVERY_STEPS == 0:
            pool.load_new()
        if extra is not None and (trainer.num_steps - first_step) % LEXICON_EVERY_STEPS == 0:
            trainer.learn_lexicon(pool, extra)
        for name, value in trainer.step(pool).items():
            sums[name] = sums.get(name, value.new_zeros(())) + value
            counts[name] = counts.get(name, 0) + 1
        trainer.spent_s = before + time.monotonic() - began
        if trainer.num_steps % LOG_EVERY_STEPS == 0 or trainer.spent_s - logged_s > LOG_EVERY_S:
            _log(trainer, job, pool, {name: float(value) / counts[name] for name, value in sums.items()})
            sums, counts, logged_s = {}, {}, trainer.spent_s
    means = {name: float(value) / counts[name] for name, value in sums.items()}
    if extra is not None:
        means |= _learn_exceptions(trainer, pool, extra)
    if job.data is not None:
        means["left_out"] = num_left_out(pool.folder)
    _log(trainer, job, pool, means)


def teacher_words() -> dict[str, str]:
    """Letters and words with an apostrophe, as the teacher says them by themselves."""
    return spoken_alone(FliteTeacher(), [*LETTER_NAMES, *APOSTROPHES.split()]) | LETTER_A


def _learn_exceptions(trainer: VoiceTrainer, pool: ReadingPool, extra: dict[str, str]) -> dict[str, float]:
    """Keep the words that the pronouncer gets wrong beside it; returns how many they are."""
    trainer.learn_lexicon(pool, extra)
    wrong = wrong_words(trainer.voice.pronouncer, trainer.lexicon)
    trainer.voice.pronouncer.exceptions = {word: tuple(phones.split()) for word, phones in wrong.items()}
    tested = [word for word in trainer.lexicon if held_out(word)]
    missed = sum(word in wrong for word in tested)
    return {"words": len(trainer.lexicon), "wrong": len(wrong), "held_out_wrong": missed / max(len(tested), 1)}


def _log(trainer: VoiceTrainer, job: VoiceJob, pool: ReadingPool, values: dict[str, float]) -> None:
    rounded = {name: round(value, 4) for name, value in values.items()}
    line = {"s": round(trainer.spent_s, 1), "step": trainer.num_steps, "pool_h": round(pool.hours, 2), **rounded}
    print(json.dumps(line), flush=True)
    job.out.mkdir(parents=True, exist_ok=True)
    with (job.out / "log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def save(trainer: VoiceTrainer, job: VoiceJob) -> None:
    """The state to go on from, the voice as it ships, and all weights in bf16 in files that are easy to carry."""
    torch.save(trainer.state(), job.work / STATE_FILE)
    save_voice(trainer.voice, job.out / "voice")
    parts: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in (trainer.voice.state_dict() | _encoder_weights(trainer)).items():
        size += 2 * tensor.numel()
        if size > MAX_PART_BYTES:
            parts.append({})
            size = 2 * tensor.numel()
        parts[-1][name] = tensor.detach().bfloat16().cpu().contiguous()
    for number, part in enumerate(parts):
        save_file(part, job.out / f"weights-{number:02d}.safetensors")


def _encoder_weights(trainer: VoiceTrainer) -> dict[str, Tensor]:
    if trainer.encoder is None:
        return {}
    return {f"codec_encoder.{name}": tensor for name, tensor in trainer.encoder.state_dict().items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Every option of the training; `flamingo train voice` has the same."""
    add = parser.add_argument
    add("--data", type=Path, metavar="DIR", help="recordings, each with NAME.txt or in metadata.csv; else flite reads")
    add("--work", type=Path, default=Path("runs/voice"), metavar="DIR", help="shards, and the state to resume from")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the voice and the log")
    add("--recipe", default="mel", metavar="NAME", help=f"{', '.join(RECIPES)}; mel is the default")
    add("--budget-s", type=float, metavar="S", help="seconds of training in all pieces together")
    add("--until-s", type=float, metavar="S", help="end this piece once so much is spent (default: the budget)")
    add("--workers", type=int, default=2, metavar="N", help="processes that render or align (2)")
    add("--shards", type=int, default=120, metavar="N", help="of about 10 minutes of the teacher's sound each (120)")
    add("--first-hours", type=float, metavar="H", help="of sound before training starts (0.2; with --data 0.01)")
    add("--start-from", type=Path, metavar="DIR", help="a saved voice to go on from, instead of from nothing")
    add("--only-sound", action="store_true", help="with --start-from: the vocoder alone goes on")


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_arguments(parser)
    train(parser.parse_args())


def train(options: argparse.Namespace) -> None:
    """Train as the options say, on a GPU where there is one."""
    recipe = recipe_by_name(options.recipe, options.budget_s)
    if options.data is not None:
        recipe = for_voices(recipe, voice_names(find_recordings(options.data)))
    if options.start_from is not None:
        recipe = sound_alone(recipe) if options.only_sound else continued(recipe)
    elif options.only_sound:
        raise OptionError("--only-sound goes on from a voice: give --start-from DIR")
    first_hours = options.first_hours
    if first_hours is None:
        first_hours = FIRST_HOURS if options.data is None else FIRST_HOURS_OF_FOLDER
    job = VoiceJob(
        options.work, options.out, options.until_s or recipe.budget_s, options.workers, options.shards, first_hours,
        options.start_from, options.data,
    )  # fmt: skip
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        recipe = for_cpu(recipe)
        logger.warning("no GPU: batches of %g s instead of the recipe's; expect days, not minutes", recipe.batch_s)
    with training_settings(cudnn_search=True):  # crops are all of one size, so the search pays
        run(recipe, job, device)


if __name__ == "__main__":
    main()

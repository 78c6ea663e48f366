"""A whole run: base, data and stage in; a folder with the result, the log and the report out."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from audioflamingo.config import ModelConfig
from audioflamingo.errors import CheckpointError, OptionError
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.skeleton import num_parameters
from audioflamingo.model.weights import load_config, load_flamingo, resolve, save_flamingo
from audioflamingo.model.weights.companions import write_companions
from audioflamingo.model.weights.read import is_nvidia
from audioflamingo.prompt import load_template
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.train.data import Component, Corpus, ExampleMaker, Schedule, load_corpus
from audioflamingo.train.data.corpus import write_bad_rows
from audioflamingo.train.distributed import Processes, shard, whole
from audioflamingo.train.feed import Feed
from audioflamingo.train.lora import save_adapter
from audioflamingo.train.parts import prepare, trained
from audioflamingo.train.report import Log, write_report
from audioflamingo.train.stages import Stage
from audioflamingo.train.trainer import Progress, Saving, Trainer, TrainingError
from audioflamingo.train.updates import Updates

MODEL_FOLDER = "model"
CHECKPOINTS = "checkpoints"
BAD_ROWS = "bad_rows.jsonl"
BYTES_PER_TRAINED = 12  # master and two moments


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a run starts from and where it ends.

    Attributes:
        base: a name or folder of a checkpoint.
        data: files of rows.
        out: folder of the result.
        stage: how to train.
        replay: rows of our own world to be mixed in.
        save_every_steps: between checkpoints.
        keep: checkpoints.
    """

    base: str
    data: tuple[Component, ...]
    out: Path
    stage: Stage
    replay: int = 0
    save_every_steps: int = 100
    keep: int = 2


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes:
        folder: of the adapter or the model.
        first_loss: mean loss of the first steps.
        last_loss: mean loss of the last steps.
        num_steps: of the whole run.
        num_bad: rows that were left out.
    """

    folder: Path
    first_loss: float
    last_loss: float
    num_steps: int
    num_bad: int


def train(job: Job, processes: Processes, report: Callable[[Progress], None] = lambda _: None) -> Result:
    """Run a job, or go on with one that was stopped.

    Raises:
        FlamingoError: base, data, options or machine do not allow it.
    """
    base = resolve(job.base)
    texts = base / "llm" if is_nvidia(base) else base
    tokenizer, config = Tokenizer.from_folder(texts), load_config(base)
    _check_fit(job.stage, config, tokenizer)
    maker = ExampleMaker(tokenizer, load_template(texts), job.stage.max_tokens, job.stage.max_windows)
    corpus = _corpus(job, maker, processes)
    stage = job.stage
    schedule = Schedule(
        tuple(sample.size.num_tokens for sample in corpus.samples),
        stage.batch_s, stage.micro_s, stage.epochs, stage.seed, processes.size,
    )  # fmt: skip
    model = _load(base, stage, processes)
    loss = prepare(model, stage, always_listens=processes.shards)
    if processes.shards:
        shard(loss, model, stage.precision, processes)
    parameters = trained(loss)
    _check_space(job, parameters, processes)
    with closing(Feed(corpus, maker, schedule, rank=processes.rank)) as feed:
        trainer = Trainer(
            loss=loss, stage=stage, updates=Updates(parameters, stage), feed=feed, processes=processes,
            saving=Saving(job.out / CHECKPOINTS, job.save_every_steps, job.keep),
            identity=_identity(job, config, corpus, schedule), filler_id=tokenizer.im_end,
        )  # fmt: skip
        log = _train(trainer, job, report)
    folder = _export(job, base, texts, model, trainer)
    bad = [*corpus.bad, *feed.bad_rows]
    if processes.is_first:
        if bad:
            write_bad_rows(bad, job.out / BAD_ROWS)
        write_report(job.out, stage, job.base, corpus, log, bad)
    processes.wait()
    return Result(folder, log.first_loss, log.last_loss, trainer.num_steps, len(bad))


def _train(trainer: Trainer, job: Job, report: Callable[[Progress], None]) -> Log:
    step = trainer.resume()
    log = Log(job.out, step, writes=trainer.processes.is_first)
    with closing(log):

        def both(progress: Progress) -> None:
            log.add(progress)
            report(progress)

        trainer.run(both)
    return log


def _check_fit(stage: Stage, config: ModelConfig, tokenizer: Tokenizer) -> None:
    """Refuse a base that the stage cannot train."""
    complaints = []
    if stage.max_tokens > config.decoder.max_positions:
        has = f"{config.decoder.max_positions:,}"
        complaints.append(f"it takes {stage.max_tokens:,} tokens, but the base has {has} positions")
    if tokenizer.vocab_size > config.decoder.vocab_size or tokenizer.sound != config.audio_token_id:
        complaints.append("the base's tokenizer is of another checkpoint than its weights")
    if complaints:
        raise CheckpointError(f"the base does not fit stage {stage.name}: {'; '.join(complaints)}")


def _corpus(job: Job, maker: ExampleMaker, processes: Processes) -> Corpus:
    components = list(job.data)
    if job.replay:
        folder = job.out / "replay"
        if processes.is_first:
            _replayed(folder, job.replay, job.stage.seed)
        processes.wait()
        components.append(Component(_replayed(folder, job.replay, job.stage.seed)))
    return load_corpus(components, maker, job.out / BAD_ROWS if processes.is_first else None)


def _replayed(folder: Path, num_rows: int, seed: int) -> Path:
    try:
        from audioflamingo.train.replay import write_replay  # and with it the whole world, which needs scipy
    except ImportError as error:
        raise OptionError(
            f"replayed rows need {error.name}, which is not installed: pip install 'audioflamingo[world]', "
            "or train without them: --replay 0"
        ) from error
    return write_replay(folder, num_rows, seed)


def _load(base: Path, stage: Stage, processes: Processes) -> Flamingo:
    """Short weights where they are whole in each process; fp32 ones in shards, which are gathered in short form."""
    short = stage.precision == "bfloat16" and not processes.shards
    return load_flamingo(base, device=processes.device, dtype=torch.bfloat16 if short else torch.float32)


def _check_space(job: Job, parameters: dict[str, nn.Parameter], processes: Processes) -> None:
    if not processes.is_first:
        return
    job.out.mkdir(parents=True, exist_ok=True)
    needed = sum(parameter.numel() for parameter in parameters.values()) * BYTES_PER_TRAINED * (job.keep + 1)
    free = shutil.disk_usage(job.out).free
    if free < needed:
        raise TrainingError(
            f"{job.out} has {free / 1e9:.1f} GB free, but {job.keep + 1} checkpoints take {needed / 1e9:.1f} GB; "
            "free some space or choose another --out"
        )


def _identity(job: Job, config: ModelConfig, corpus: Corpus, schedule: Schedule) -> str:
    """What a checkpoint and the run that resumes from it must share; the number of processes may change."""
    stage = asdict(job.stage) | {"published": None}
    plan = (schedule.pack_s, schedule.packs_per_step)
    described = repr((sorted(stage.items()), job.base, config, corpus.fingerprint, plan))
    return hashlib.sha256(described.encode()).hexdigest()


def _export(job: Job, base: Path, texts: Path, model: Flamingo, trainer: Trainer) -> Path:
    """Write the adapter, or the whole model with its tokenizer."""
    stage, processes = job.stage, trainer.processes
    if stage.lora is not None:
        adapters = {name: whole(parameter.detach()) for name, parameter in trainer.updates.parameters.items()}
        if processes.is_first:
            save_adapter(adapters, stage.lora, job.out, job.base)
        return job.out
    folder = job.out / MODEL_FOLDER
    dtype = torch.float32 if stage.precision == "float32" else torch.bfloat16
    tensors: dict[str, Tensor] = {name: whole(tensor) for name, tensor in model.state_dict().items()}
    if processes.is_first:
        with torch.device("meta"):
            plain = Flamingo(model.config)
        plain.load_state_dict(tensors, assign=True)
        save_flamingo(plain, folder, dtype=dtype, overwrite=True)
        write_companions(folder, model.config, texts)
    return folder


def small_base(name: str) -> bool:
    """Whether a base is of the embedded model's order, for which `stages.nano` is meant."""
    return num_parameters(load_config(resolve(name))) < 100_000_000

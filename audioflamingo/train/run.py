"""A whole run: base, data and stage in; a folder with the result, the log and the report out."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from audioflamingo.config import ModelConfig
from audioflamingo.errors import CheckpointError, OptionError
from audioflamingo.model.fingerprint import Fingerprint, fingerprint
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.skeleton import num_parameters
from audioflamingo.model.weights import load_config, load_flamingo, resolve, save_flamingo
from audioflamingo.model.weights.companions import write_companions
from audioflamingo.model.weights.read import is_nvidia
from audioflamingo.prompt import load_template
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.train.backbone import check_stage, read_backbone_config, write_aligned_base
from audioflamingo.train.claim import claimed
from audioflamingo.train.costs import StepCost, matmul_rate
from audioflamingo.train.data import BadRow, Component, Corpus, ExampleMaker, Schedule, load_corpus
from audioflamingo.train.data.corpus import write_bad_rows
from audioflamingo.train.data.schedule import SECONDS_PER_TOKEN
from audioflamingo.train.deterministic import deterministic_kernels
from audioflamingo.train.distributed import Processes, shard, whole
from audioflamingo.train.explained import TrainingError, explained_run
from audioflamingo.train.feed import Feed
from audioflamingo.train.heard import Heard
from audioflamingo.train.lora import save_adapter
from audioflamingo.train.memory import Memory, as_size, check_machine, device_memory, estimate, num_trained
from audioflamingo.train.parts import prepare, trained
from audioflamingo.train.pointwise import pointwise
from audioflamingo.train.report import Log, write_report
from audioflamingo.train.stages import Stage
from audioflamingo.train.stopping import told_to_stop
from audioflamingo.train.trainer import Progress, Saving, Trainer
from audioflamingo.train.updates import Updates

MODEL_FOLDER = "model"
CHECKPOINTS = "checkpoints"
BAD_ROWS = "bad_rows.jsonl"
INDEX = "index"
ALIGNED_BASE = "base"
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
        backbone: folder of a text checkpoint that takes the place of the base's decoder, or None.
    """

    base: str
    data: tuple[Component, ...]
    out: Path
    stage: Stage
    replay: int = 0
    save_every_steps: int = 100
    keep: int = 2
    backbone: Path | None = None


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


def train(
    job: Job,
    processes: Processes,
    report: Callable[[Progress], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Result:
    """Run a job, or go on with one that was stopped.

    Args:
        job: what.
        processes: who takes part.
        report: called after every step.
        tell: called before the first step, with a line about memory, and one about rows that are left out.

    Raises:
        FlamingoError: base, data, options or machine do not allow it, or another run writes to the same folder.
    """
    repeats = job.stage.deterministic and processes.device.type == "cuda"
    alone = claimed(job.out) if processes.is_first else nullcontext()
    with explained_run(job.out), alone, deterministic_kernels(repeats):
        return _trained(job, processes, report, tell)


def _trained(job: Job, processes: Processes, report: Callable[[Progress], None], tell: Callable[[str], None]) -> Result:
    if job.stage.quantize and processes.shards:
        raise OptionError("a base in few bits is not divided among processes; leave out --quantize or --shard")
    base = _base(job, processes)
    texts = base / "llm" if is_nvidia(base) else base
    tokenizer, config = Tokenizer.from_folder(texts), load_config(base)
    _check_fit(job.stage, config, tokenizer)
    maker = ExampleMaker(tokenizer, load_template(texts), job.stage.max_tokens, job.stage.max_windows)
    corpus = _corpus(job, maker, processes)
    if corpus.bad:
        tell(f"rows left out: {len(corpus.bad)} of {corpus.num_rows}, listed in {job.out / BAD_ROWS}")
    stage = job.stage
    schedule = Schedule(
        tuple(sample.size.num_tokens for sample in corpus.samples),
        stage.batch_s, stage.micro_s, stage.epochs, stage.seed, processes.feeding[1],
    )  # fmt: skip
    model = _load(base, stage, processes)
    weights = fingerprint(model)  # before the base is put in few bits, divided, or trained
    memory = _memory(config, stage, schedule, processes)
    tell(memory.described(device_memory(processes.device)))
    check_machine(memory, processes.device)
    loss = prepare(model, stage, processes=processes, num_kept=memory.num_kept)
    if stage.compiles and processes.device.type == "cuda":
        pointwise.compile()
    if processes.shards:
        shard(loss, model, stage.precision, processes)
    parameters = trained(loss)
    _check_space(job, parameters, processes)
    with (
        closing(Feed(corpus, maker, schedule, rank=processes.feeding[0], bad_file=job.out / BAD_ROWS)) as feed,
        told_to_stop() as is_told_to_stop,
    ):
        trainer = Trainer(
            loss=loss, stage=stage, updates=Updates(parameters, stage), feed=feed, processes=processes,
            saving=Saving(job.out / CHECKPOINTS, job.save_every_steps, job.keep),
            identity=_identity(job, config, corpus, schedule, weights), filler_id=tokenizer.im_end,
            cost=_cost(config, stage, processes),
            heard=_heard(model, stage, processes), is_told_to_stop=is_told_to_stop,
        )  # fmt: skip
        try:
            log = _train(trainer, job, report)
        finally:  # a run that stops on too many of them has to list them too
            if processes.is_first and feed.bad_rows:
                write_bad_rows([*corpus.bad, *feed.bad_rows], job.out / BAD_ROWS)
    folder = _export(job, texts, model, trainer, weights)
    bad = [*corpus.bad, *_found_by_all(feed.bad_rows, processes)]
    if processes.is_first:
        if bad:
            write_bad_rows(bad, job.out / BAD_ROWS)
        write_report(job.out, stage, job.base, corpus, log, bad)
    processes.wait()
    return Result(folder, log.first_loss, log.last_loss, trainer.num_steps, len(bad))


def _found_by_all(bad: Sequence[BadRow], processes: Processes) -> list[BadRow]:
    """Rows that broke while they were decoded, of all processes: each decodes its own share only."""
    texts = processes.gathered(json.dumps([asdict(row) for row in bad]))
    rows = [BadRow(**values) for text in texts for values in json.loads(text)]
    return list({row.origin: row for row in rows}.values())


def _base(job: Job, processes: Processes) -> Path:
    """The checkpoint to start from, which is made first where it gets another decoder."""
    base = resolve(job.base)
    if job.backbone is None:
        return base
    check_stage(job.stage.name)
    folder = job.out / ALIGNED_BASE
    if processes.is_first:
        write_aligned_base(base, job.backbone, folder, job.stage.seed)
    processes.wait()
    return folder


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
        complaints.append(f"it takes {stage.max_tokens:,} tokens, but the base has {has} positions; take another base")
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
    if not processes.is_first:
        processes.wait()  # for what the first one finds out and keeps
    if processes.is_first:
        (job.out / BAD_ROWS).unlink(missing_ok=True)  # of a try before, whose rows may have been mended
    corpus = load_corpus(components, maker, job.out / BAD_ROWS if processes.is_first else None, job.out / INDEX)
    if processes.is_first:
        processes.wait()
    return corpus


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
    """Short weights where they are whole in each process, or frozen under adapters; else fp32 ones.

    Shards of what is trained are its masters; `shard` shortens the rest.
    """
    short = stage.precision == "bfloat16" and (not processes.shards or stage.only_adapters)
    return load_flamingo(base, device=processes.device, dtype=torch.bfloat16 if short else torch.float32)


def _memory(config: ModelConfig, stage: Stage, schedule: Schedule, processes: Processes) -> Memory:
    """What the largest pack takes; layers keep their activations where there is room for them.

    The fullest device decides for all: a layer that is computed again gathers keys and values again where sequences are
    divided, and a process that did not take part would leave the others waiting.
    """
    return estimate(
        config,
        stage,
        num_trained(config, stage),
        num_tokens=round(schedule.pack_s / SECONDS_PER_TOKEN / (processes.size if processes.splits else 1)),
        num_shards=processes.size if processes.shards else 1,
        num_splits=processes.size if processes.splits else 1,
        accumulates=schedule.packs_per_step > processes.feeding[1],
        device_bytes=processes.least(device_memory(processes.device)),
    )


def _heard(model: Flamingo, stage: Stage, processes: Processes) -> Heard | None:
    """A memory for what the encoder gives, where that pays: on a CPU, if it is frozen and hears all more than once.

    On a GPU the encoder is a twelfth of a step, and many short sounds are quicker together. Shards can only be run by
    all processes at once.
    """
    is_frozen = "encoder" not in stage.trains and stage.captioner is None
    pays = is_frozen and not processes.shards and stage.epochs > 1 and model.device.type == "cpu"
    return Heard(model) if pays else None


def _cost(config: ModelConfig, stage: Stage, processes: Processes) -> StepCost:
    dtype = torch.bfloat16 if stage.precision == "bfloat16" else torch.float32
    rate = matmul_rate(processes.device, dtype)
    return StepCost(config, stage, num_trained(config, stage) if stage.lora else 0, rate)


def _check_space(job: Job, parameters: dict[str, nn.Parameter], processes: Processes) -> None:
    if not processes.is_first:
        return
    job.out.mkdir(parents=True, exist_ok=True)
    needed = sum(parameter.numel() for parameter in parameters.values()) * BYTES_PER_TRAINED * (job.keep + 1)
    free = shutil.disk_usage(job.out).free
    if free < needed:
        raise TrainingError(
            f"{job.out} has {as_size(free)} free, but {job.keep + 1} checkpoints take {as_size(needed)}; "
            "free some space or choose another --out"
        )


def _identity(job: Job, config: ModelConfig, corpus: Corpus, schedule: Schedule, weights: Fingerprint) -> str:
    """What a checkpoint and the run that resumes from it must share; the number of processes may change."""
    stage = asdict(job.stage) | {"published": None}
    plan = (schedule.pack_s, schedule.packs_per_step)
    described = repr((sorted(stage.items()), job.base, config, corpus.fingerprint, plan, weights.digest))
    return hashlib.sha256(described.encode()).hexdigest()


def _export(job: Job, texts: Path, model: Flamingo, trainer: Trainer, weights: Fingerprint) -> Path:
    """Write the adapter, or the whole model with its tokenizer."""
    stage, processes = job.stage, trainer.processes
    if stage.lora is not None:
        adapters = {name: whole(parameter.detach()) for name, parameter in trainer.updates.parameters.items()}
        if processes.is_first:
            save_adapter(adapters, stage.lora, job.out, job.base, weights)
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


def small_base(name: str, backbone: Path | None = None) -> bool:
    """Whether a base is of the embedded model's order, for which `stages.nano` is meant."""
    config = load_config(resolve(name))
    if backbone is not None:
        config = replace(config, decoder=read_backbone_config(backbone)[0])
    return num_parameters(config) < 100_000_000

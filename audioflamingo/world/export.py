"""Writes tasks as NVIDIA's JSON with audio files beside it, over several processes, and goes on where it stopped.

    OUT/world.json            what was asked for; a run that goes on must ask for the same
    OUT/rows.json             rows {"id", "sound", "duration", "conversations"}: complete when the export is
    OUT/truth.jsonl           for each scene its timeline and turns: what `check` reads
    OUT/audio/SHARD/*.flac    16 kHz, mono, 16 bit
    OUT/parts/SHARD.json      rows and truth of a finished shard; it appears when its audio is complete

Shards are whole numbers of scenes in a fixed order, so neither the number of processes nor an interruption changes a
byte of what is written.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world.music.midi import check_font
from audioflamingo.world.skills import Made, Turn, make
from audioflamingo.world.skills.chat import tagged
from audioflamingo.world.timeline import Timeline, World
from audioflamingo.world.workers import Workers, result

AudioFormat = Literal["flac", "wav"]

SCENES_PER_SHARD = 8
SETTINGS, ROWS, TRUTH = "world.json", "rows.json", "truth.jsonl"
FREE_BYTES_LEFT = 200_000_000
BYTES_PER_S = 2 * SAMPLE_RATE_HZ
S_PER_HOUR = 3_600.0
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


class ExportError(FlamingoError):
    """What was made cannot be written."""


@dataclass(frozen=True)
class Order:
    """What to export.

    Attributes:
        tasks: names in `SKILLS`; scenes take them in turn.
        hours: of audio, at least; the last shard is written whole.
        seed: decides everything.
        world: sources.
        audio: format of the files.
    """

    tasks: tuple[str, ...]
    hours: float
    seed: int = 0
    world: World = field(default_factory=World)
    audio: AudioFormat = "flac"

    def __post_init__(self) -> None:
        if not 0.0 < self.hours <= 1e5:
            raise OptionError(f"hours is {self.hours}; give more than 0 and at most 100000.")
        if self.audio not in ("flac", "wav"):
            raise OptionError(f"audio is {self.audio!r}; allowed: flac, wav.")

    def settings(self) -> dict[str, Any]:
        """What must be the same for a run that goes on; more hours may be asked for."""
        world = self.world
        return {
            "tasks": list(self.tasks), "seed": self.seed, "audio": self.audio, "split": world.split,
            "strength": world.strength, "longest_s": world.longest_s, "engines": list(world.engines),
            "soundfonts": {font.name: _digest(font) for font in world.soundfonts},
            **({"codec": world.codec} if world.codec else {}),
        }  # fmt: skip


@dataclass(frozen=True)
class Exported:
    """What an export amounts to."""

    num_scenes: int
    num_rows: int
    duration_s: float
    num_shards_made: int


def stream(order: Order, start: int = 0) -> Iterator[Made]:
    """Scenes without end, made one by one in memory: scene k is the same as in an export."""
    for index in count(start):
        yield scene(order, index)


def scene(order: Order, index: int) -> Made:
    """The `index`-th scene: tasks come in pairs of scenes, so that counterfactuals stand side by side."""
    num = len(order.tasks)
    turn, second = divmod(index, 2)
    return make(order.tasks[turn % num], order.world, order.seed, turn // num * 2 + second)


def task_of(order: Order, index: int) -> str:
    """The task of the `index`-th scene."""
    return order.tasks[index // 2 % len(order.tasks)]


def export(
    order: Order, folder: Path, *, num_workers: int = 1, report: Callable[[float, float], None] | None = None
) -> Exported:
    """Write an order, or the rest of it where a run was cut off.

    Args:
        order: what.
        folder: where; it may hold an unfinished export of the same order.
        num_workers: processes.
        report: called with (seconds done, seconds wanted) after every shard.

    Raises:
        OptionError: the folder holds something else, the disk is too full, or a number is out of range.
        ExportError: the folder cannot be written to, or the disk became full; what is finished stays.
        LostWorkerError: a process was killed; likewise.
        FlamingoError: an engine or a soundfont is missing.
    """
    if not 1 <= num_workers <= 256:
        raise OptionError(f"num_workers is {num_workers}; allowed: 1 to 256.")
    with written(folder):
        return _export(order, folder, num_workers, report)


def _export(order: Order, folder: Path, num_workers: int, report: Callable[[float, float], None] | None) -> Exported:
    _prepare(order, folder)
    wanted_s = order.hours * S_PER_HOUR
    done_s, num_made, num_shards = 0.0, 0, 0
    with closing(_shards(order, folder, num_workers)) as shards:
        for duration_s, is_new in shards:
            num_made, num_shards, done_s = num_made + is_new, num_shards + 1, done_s + duration_s
            if report:
                report(min(done_s, wanted_s), wanted_s)
            if done_s >= wanted_s:
                break
    _remove_surplus(folder, num_shards)
    num_scenes, num_rows = _join(folder, num_shards)
    return Exported(num_scenes, num_rows, done_s, num_made)


@contextmanager
def written(folder: Path) -> Generator[None, None, None]:
    """Errors of the system while something is written to a folder in words that say what to do.

    Raises:
        ExportError: in their place.
    """
    try:
        yield
    except OSError as error:
        remedy = "choose another --out or check its permissions"
        if error.errno in FULL_DISK:
            remedy = "free some space"
        elif error.errno == errno.EFBIG:
            remedy = "raise the limit on the size of files (ulimit -f)"
        raise ExportError(
            f"{error.filename or folder} cannot be written ({error.strerror or error}); {remedy}, and start again: "
            "what is finished stays"
        ) from error


def _digest(font: Path) -> str:
    check_font(font)
    return sha256(font.read_bytes()).hexdigest()


def _prepare(order: Order, folder: Path) -> None:
    settings, path = order.settings(), folder / SETTINGS
    if path.is_file():
        before = _settings_of(path)
        different = sorted(name for name in {*settings, *before} if before.get(name) != settings.get(name))
        if different:
            raise OptionError(f"{folder} holds an export with other {', '.join(different)}; choose another --out.")
    elif folder.exists() and any(folder.iterdir()):
        raise OptionError(f"{folder} is not empty and holds no export; choose a new or an empty folder.")
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    _check_space(folder, order.hours)
    _write_whole(path, json.dumps(settings, indent=1))


def _settings_of(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
    except ValueError as error:
        raise OptionError(f"{path} is damaged ({str(error)[:80]}); choose another --out.") from error
    return found


def _check_space(folder: Path, hours: float) -> None:
    needed = int(hours * S_PER_HOUR * BYTES_PER_S * 1.1) + FREE_BYTES_LEFT
    written = sum(file.stat().st_size for file in folder.rglob("audio/*/*"))
    free = shutil.disk_usage(folder).free
    if free + written < needed:
        raise OptionError(
            f"{hours:g} h may need {needed / 1e9:.1f} GB and {folder} has {free / 1e9:.1f} GB free; "
            "ask for fewer hours or another --out."
        )


def _shards(order: Order, folder: Path, num_workers: int) -> Generator[tuple[float, bool], None, None]:
    jobs = ((order, folder, shard) for shard in count())
    if num_workers == 1:
        yield from map(_make_shard, jobs)
        return
    with closing(Workers(num_workers)) as workers:
        pending = [workers.submit(_make_shard, next(jobs)) for _ in range(2 * num_workers)]
        while True:
            yield result(pending.pop(0))
            pending.append(workers.submit(_make_shard, next(jobs)))


def _make_shard(job: tuple[Order, Path, int]) -> tuple[float, bool]:
    """Make a shard, unless it is there; returns its seconds of audio and whether it was made now."""
    order, folder, shard = job
    path = _part_path(folder, shard)
    if path.is_file():
        return float(json.loads(path.read_text(encoding="utf-8"))["duration_s"]), False
    audio = folder / "audio" / f"{shard:06d}"
    audio.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    truths: list[dict[str, Any]] = []
    duration_s = 0.0
    for index in range(shard * SCENES_PER_SHARD, (shard + 1) * SCENES_PER_SHARD):
        made = scene(order, index)
        name = f"{task_of(order, index)}-{order.world.split}-{order.seed}-{index:07d}"
        paths = [write_audio(audio, name, number, clip, order.audio) for number, clip in enumerate(made.clips)]
        files = [file.relative_to(folder).as_posix() for file in paths]
        rows += rows_of(name, files, made)
        truths.append(_truth_of(name, files, made, task_of(order, index)))
        duration_s += sum(clip.duration_s for clip in made.clips)
    part = {"duration_s": round(duration_s, 3), "rows": rows, "truths": truths}
    _write_whole(path, json.dumps(part, ensure_ascii=False))
    return round(duration_s, 3), True


def rows_of(name: str, files: Sequence[str], made: Made) -> list[dict[str, Any]]:
    """NVIDIA's rows, one a dialogue. Several clips make `sound` a list and stand as `<sound-k>` in the turns."""
    duration = round(sum(clip.duration_s for clip in made.clips), 3)
    several = len(files) > 1
    rows = []
    for number, turns in enumerate(made.dialogues):
        questions = tagged(turns) if several else _tagged_single(turns)
        conversations = []
        for question, turn in zip(questions, turns, strict=True):
            conversations.append({"from": "human", "value": question})
            conversations.append({"from": "gpt", "value": turn.answer})
        sound: Any = list(files) if several else files[0]
        rows.append({"id": f"{name}-{number}", "sound": sound, "duration": duration, "conversations": conversations})
    return rows


def _tagged_single(turns: Sequence[Turn]) -> list[str]:
    return [turn.question if index else f"<sound>\n{turn.question}" for index, turn in enumerate(turns)]


def _truth_of(name: str, files: Sequence[str], made: Made, task: str) -> dict[str, Any]:
    clips = [{"sound": file, **clip.truth()} for file, clip in zip(files, made.clips, strict=True)]
    dialogues = [[asdict(turn) for turn in turns] for turns in made.dialogues]
    return {"id": name, "task": task, "clips": clips, "dialogues": dialogues}


def pcm16(clip: Timeline) -> npt.NDArray[np.int16]:
    """(N,) samples as the files hold them."""
    return np.round(clip.samples * 32767.0).astype(np.int16)


def write_audio(folder: Path, name: str, number: int, clip: Timeline, audio: AudioFormat = "flac") -> Path:
    """The file of a clip, 16 bits; returns its path."""
    import soundfile

    path = folder / f"{name}-{number}.{audio}"
    content = io.BytesIO()  # the library has no word for a full disk
    soundfile.write(content, pcm16(clip), SAMPLE_RATE_HZ, format=audio.upper(), subtype="PCM_16")
    path.write_bytes(content.getbuffer())
    return path


def _part_path(folder: Path, shard: int) -> Path:
    return folder / "parts" / f"{shard:06d}.json"


def _write_whole(path: Path, text: str) -> None:
    """The file appears under its name only when it is whole."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _remove_surplus(folder: Path, num_shards: int) -> None:
    """Shards that workers had begun beyond the end."""
    for path in [*(folder / "audio").iterdir(), *(folder / "parts").iterdir()]:
        if path.name.endswith(".partial") or int(path.stem) >= num_shards:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _join(folder: Path, num_shards: int) -> tuple[int, int]:
    """rows.json and truth.jsonl from the parts; returns the numbers of scenes and rows."""
    rows: list[str] = []
    truths: list[str] = []
    for shard in range(num_shards):
        part = json.loads(_part_path(folder, shard).read_text(encoding="utf-8"))
        rows += [json.dumps(row, ensure_ascii=False) for row in part["rows"]]
        truths += [json.dumps(truth, ensure_ascii=False) for truth in part["truths"]]
    _write_whole(folder / ROWS, "[\n" + ",\n".join(rows) + "\n]\n")
    _write_whole(folder / TRUTH, "\n".join(truths) + "\n")
    return len(truths), len(rows)

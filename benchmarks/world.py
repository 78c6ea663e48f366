"""Question: how many times faster than real time is each task of the world made, on one core?

Scenes of every task are made and encoded as `flamingo world` writes them (FLAC), without the disk. Counted is the time
of the processor, of this process and of the speech engines' (so that a busy machine changes little), and the clock's
beside it. Prints a table and one line of JSON, which is also written to --out ($OUT, or out).

    python benchmarks/world.py [--tasks all] [--seconds 150] [--split train]
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world.export import Order, pcm16, scene
from audioflamingo.world.skills import parse_tasks
from audioflamingo.world.timeline import World

LEAST_SCENES = 6
STAT_PARENT, STAT_TIMES = 1, slice(11, 15)  # fields of /proc/PID/stat behind the name: parent; times, children's too


def cpu_s() -> float:
    """Of this process, of its children that ended, and of those that still serve it."""
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system + sum(map(_cpu_s, Path("/proc").iterdir()))


def _cpu_s(folder: Path) -> float:
    if not folder.name.isdigit():
        return 0.0
    try:
        fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0  # it ended meanwhile
    is_child = int(fields[STAT_PARENT]) == os.getpid()
    return sum(map(int, fields[STAT_TIMES])) / os.sysconf("SC_CLK_TCK") if is_child else 0.0


def measured(task: str, wanted_s: float, world: World) -> dict[str, Any]:
    """Seconds of sound a second of one core, over at least so much sound."""
    order = Order((task,), 1.0, 5, world)
    _write(order, 0)  # opens engines, loads word lists
    began_cpu, began = cpu_s(), time.perf_counter()
    sound_s, index = 0.0, 0
    while sound_s < wanted_s or index < LEAST_SCENES:
        sound_s, index = sound_s + _write(order, index), index + 1
    spent, clock = cpu_s() - began_cpu, time.perf_counter() - began
    return {
        "scenes": index, "sound_s": round(sound_s, 1), "cpu_s": round(spent, 2), "clock_s": round(clock, 2),
        "times_real_time": round(sound_s / spent, 1),
    }  # fmt: skip


def _write(order: Order, index: int) -> float:
    import soundfile

    clips = scene(order, index).clips
    for clip in clips:
        soundfile.write(io.BytesIO(), pcm16(clip), SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return sum(clip.duration_s for clip in clips)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", default="all")
    parser.add_argument("--seconds", type=float, default=150.0, help="of sound, of each task")
    parser.add_argument("--split", default="train")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "out")) / "world.json")
    options = parser.parse_args()
    card = {
        "benchmark": "world", "date": datetime.date.today().isoformat(), "hardware": platform.machine(),
        "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2), "split": options.split,
    }  # fmt: skip
    print(json.dumps(card))
    found = {}
    for task in parse_tasks(options.tasks):
        found[task] = measured(task, options.seconds, World(options.split))
        row = found[task]
        print(f"{task:26}{row['sound_s']:8.0f} s{row['cpu_s']:8.2f} s cpu{row['times_real_time']:8.1f} x", flush=True)
    slowest = min(found, key=lambda task: float(found[task]["times_real_time"]))
    whole = sum(one["sound_s"] for one in found.values()) / sum(one["cpu_s"] for one in found.values())
    line = {"card": card, "tasks": found, "slowest": slowest, "times_real_time": round(whole, 1)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(line, indent=1) + "\n")
    print(json.dumps({name: value for name, value in line.items() if name != "tasks"}))


if __name__ == "__main__":
    main()

"""Standard MIDI files of scores (format 0), and their rendering through the `fluidsynth` command."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world.music.instruments import DRUM_KIT, INSTRUMENTS
from audioflamingo.world.music.score import Score
from audioflamingo.world.music.synth import PART_LEVELS, finish

TICKS_PER_S = 1_000
TICKS_PER_QUARTER = 500  # at the default tempo of 120 quarters a minute, a tick is a millisecond
DRUM_CHANNEL = 9
TIMEOUT_S = 120
FONT_FOLDERS = (Path("/usr/share/sounds/sf2"), Path("/usr/share/soundfonts"))
TRAINING_FONTS = ("TimGM6mb.sf2",)  # small enough for any machine
HELD_OUT_FONTS = ("FluidR3_GM.sf2",)


class SoundfontMissingError(FlamingoError):
    """A soundfont or the `fluidsynth` command is not installed on this machine."""


def find_fonts(names: tuple[str, ...]) -> tuple[Path, ...]:
    """Where the soundfonts of these names are installed; those that are not are left out."""
    return tuple(folder / name for name in names for folder in FONT_FOLDERS if (folder / name).is_file())


def check_font(font: Path) -> None:
    """Refuse what is no soundfont.

    Raises:
        OptionError: the file does not exist or is something else.
    """
    try:
        with font.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise OptionError(f"the soundfont {font} cannot be read ({error.strerror}); give an .sf2 file.") from error
    if (head[:4], head[8:12]) != (b"RIFF", b"sfbk"):
        raise OptionError(f"{font} is no soundfont; give an .sf2 file.")


def midi_bytes(score: Score) -> bytes:
    """The score as a file; a tick is a millisecond, so tempo changes need no tempo events."""
    events: list[tuple[int, int, bytes]] = []
    channels = [channel for channel in range(16) if channel != DRUM_CHANNEL]
    for channel, part in zip(channels, score.parts, strict=False):
        if part.instrument == DRUM_KIT:
            channel = DRUM_CHANNEL
        else:
            events.append((0, 0, bytes((0xC0 | channel, INSTRUMENTS[part.instrument].program))))
        for note in part.notes:
            start = round(score.facts.time_s(note.onset) * TICKS_PER_S)
            end = max(start + 1, round(score.facts.time_s(note.onset + note.duration) * TICKS_PER_S))
            loudness = min(127, max(1, round(127 * note.velocity * PART_LEVELS[part.role])))
            events.append((start, 2, bytes((0x90 | channel, note.pitch, loudness))))
            events.append((end, 1, bytes((0x80 | channel, note.pitch, 0))))
    track, clock = bytearray(), 0
    for tick, _, message in sorted(events):
        track += _variable(tick - clock) + message
        clock = tick
    track += b"\x00\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS_PER_QUARTER)
    return header + b"MTrk" + struct.pack(">I", len(track)) + bytes(track)


def _variable(value: int) -> bytes:
    """A number in groups of seven bits, all but the last with the top bit set."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))


def render_with_font(score: Score, font: Path) -> npt.NDArray[np.float32]:
    """The piece through a General MIDI soundfont, (N,) float32 at 16 kHz, dry, cut at the end of its last bar.

    Raises:
        OptionError: the soundfont is no file.
        SoundfontMissingError: `fluidsynth` is not installed or failed.
    """
    check_font(font)
    total = round(score.duration_s * SAMPLE_RATE_HZ)
    with tempfile.TemporaryDirectory() as folder:
        midi, raw = Path(folder) / "piece.mid", Path(folder) / "piece.raw"
        midi.write_bytes(midi_bytes(score))
        _run_fluidsynth(font, midi, raw)
        stereo = np.fromfile(raw, "<i2").astype(np.float32).reshape(-1, 2)
    out = np.zeros(total, np.float32)
    mono = stereo.mean(axis=1)[:total] / np.float32(32768)
    out[: len(mono)] = mono
    return finish(out)


def _run_fluidsynth(font: Path, midi: Path, raw: Path) -> None:
    command = [
        "fluidsynth", "-n", "-i", "-q", "-R", "0", "-C", "0", "-g", "0.5", "-r", str(SAMPLE_RATE_HZ),
        "-O", "s16", "-T", "raw", "-F", str(raw), str(font), str(midi),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S)
    except FileNotFoundError as error:
        raise SoundfontMissingError("fluidsynth is missing; install it (Debian: apt-get install fluidsynth)") from error
    except subprocess.TimeoutExpired as error:
        raise SoundfontMissingError(f"fluidsynth took more than {TIMEOUT_S} s with {font}; is it broken?") from error
    if done.returncode or not raw.is_file() or not any(raw.read_bytes()):  # it is content with playing nothing
        raise SoundfontMissingError(f"fluidsynth failed with {font}: {done.stderr[-200:]!r}")

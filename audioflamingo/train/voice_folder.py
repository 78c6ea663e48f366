"""A voice's data from any folder of recordings and what is said in them.

Two layouts, which may be mixed:

* `NAME.wav` (or .flac, .ogg, .mp3, ...) with `NAME.txt` beside it. Every folder below the given one is a voice; files
  that lie in it directly belong to a voice that is called like it.
* `metadata.csv` with lines `NAME|TEXT` or `NAME|TEXT|TEXT IN WORDS`, and the sounds beside it or in `wavs/`.

Texts go through the normaliser of `flamingo say`, words to phones through the embedded voice's pronouncer. The
aligner tells when each word is said; within a word, time is shared as the embedded voice would share it.
"""

from __future__ import annotations

import csv
import json
import random
from dataclasses import dataclass
from multiprocessing.synchronize import Event as StopEvent
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from audioflamingo.audio.decode import open_file
from audioflamingo.config import WINDOW_S
from audioflamingo.errors import AudioError, FlamingoError
from audioflamingo.speech.codec import HOP_SAMPLES
from audioflamingo.speech.engines import EMBEDDED_VOICE
from audioflamingo.speech.phones import PAUSE_ID, PHONES
from audioflamingo.speech.storage import load_voice
from audioflamingo.speech.stream import SPEECH_RATE_HZ
from audioflamingo.speech.text_units import TextUnits, units_of
from audioflamingo.speech.voice import resampled
from audioflamingo.train.voice_align import AlignmentError, CtcAligner, WordTime
from audioflamingo.train.voice_data import Reading, save_readings, scaled_to_peak
from audioflamingo.types import SAMPLE_RATE_HZ

SOUNDS = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aiff"})
METADATA = "metadata.csv"
MAX_TEXT_BYTES = 100_000
MAX_TAIL_SUBFRAMES = 20  # of silence after the last word, so that its end is learnt, too
CLIPS_PER_SHARD = 32
LEFT_OUT = "left-out-{}.jsonl"
SUBFRAMES_PER_S = SPEECH_RATE_HZ // HOP_SAMPLES
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Recording:
    """A sound, what is said in it, and by whom."""

    path: Path
    text: str
    voice: str


class VoiceFolderError(FlamingoError):
    """A folder holds nothing to train a voice with."""


def find_recordings(folder: Path) -> list[Recording]:
    """All recordings of a folder, in the order of their paths.

    Raises:
        VoiceFolderError: there is none; says what was looked for.
    """
    if not folder.is_dir():
        raise VoiceFolderError(f"there is no folder {folder}")
    sounds = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SOUNDS and path.is_file())
    listed = {file.parent: _listed(file) for file in folder.rglob(METADATA)}
    found = []
    for path in sounds:
        home = path.parent.parent if path.parent.name == "wavs" else path.parent
        text = listed.get(home, {}).get(path.stem) or _beside(path)
        if text:
            found.append(Recording(path, text, _voice_of(folder, home)))
    if not found:
        raise VoiceFolderError(
            f"{folder} holds {len(sounds)} sounds and no text to any of them; put NAME.txt beside NAME.wav, or a "
            f"{METADATA} with lines NAME|TEXT"
        )
    return found


def voice_names(recordings: list[Recording]) -> tuple[str, ...]:
    """Who speaks in them, in alphabetical order."""
    return tuple(sorted({one.voice for one in recordings}))


class Scribe:
    """Recordings to readings: alignment, phones, durations."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._aligner = CtcAligner()
        self._voice = load_voice(EMBEDDED_VOICE)

    def read(self, recording: Recording) -> Reading:
        """Align one recording.

        Raises:
            AudioError: the sound cannot be read.
            AlignmentError: it does not fit its text, or nothing in the text can be spoken.
        """
        words = [word for unit in units_of([recording.text], TextUnits()) for word in unit.words]
        if not words:
            raise AlignmentError(f"{recording.path.name}: nothing in its text can be spoken")
        sound = load_at_speech_rate(recording.path)
        times = self._aligner.word_times(_at_model_rate(sound), words)
        phones = [self._voice.pronouncer.phones(word) for word in words]
        return self._reading(sound, times, phones, words, self._names.index(recording.voice))

    def _reading(
        self, sound: Floats, times: list[WordTime], phones: list[list[int]], words: list[str], voice: int
    ) -> Reading:
        shares = self._shares(phones)
        ids, units, durations = list[int](), list[int](), list[int]()
        cursor = origin = round(times[0].start_s * SUBFRAMES_PER_S)
        for number, (time, word_phones, share) in enumerate(zip(times, phones, shares, strict=True)):
            begin, end = (round(s * SUBFRAMES_PER_S) for s in (time.start_s, time.end_s))
            if begin > cursor:
                ids.append(PAUSE_ID)
                units.append(number - 1)
                durations.append(begin - cursor)
                cursor = begin
            spread = shared_out(max(end - cursor, len(word_phones)), share)
            ids += word_phones
            units += [number] * len(word_phones)
            durations += spread
            cursor += sum(spread)
        tail = min(len(sound) // HOP_SAMPLES - cursor, MAX_TAIL_SUBFRAMES)
        if tail > 0:
            ids, units, durations = [*ids, PAUSE_ID], [*units, len(words) - 1], [*durations, tail]
            cursor += tail
        piece = sound[origin * HOP_SAMPLES : cursor * HOP_SAMPLES]
        wave = np.pad(piece, (0, (cursor - origin) * HOP_SAMPLES - len(piece)))
        names = tuple((word, self._spelling(row)) for word, row in zip(words, phones, strict=True))
        return Reading(np.array(ids), np.array(units), np.array(durations), scaled_to_peak(wave), voice, names)

    @torch.inference_mode()
    def _shares(self, phones: list[list[int]]) -> list[Floats]:
        """Of each word's phones: how the embedded voice would share time between them."""
        ids = torch.tensor([[phone for word in phones for phone in word]])
        units = torch.tensor([[number for number, word in enumerate(phones) for _ in word]])
        hidden = self._voice.model.read(ids, torch.zeros(1, dtype=torch.int64), units)
        predicted = self._voice.model.log_durations(hidden)[0].expm1().clamp(min=1).numpy()
        return np.split(predicted, np.cumsum([len(word) for word in phones])[:-1])

    def _spelling(self, ids: list[int]) -> str:
        return " ".join(PHONES[one] for one in ids)


def align_worker(shards: Path, data: Path, seed: int, worker: int, step: int, stop: StopEvent) -> None:
    """Write shards worker, worker + step, ... of a folder's recordings, in random order, until told to stop.

    What cannot be used is written to `left-out-WORKER.jsonl` beside the shards, with the reason.
    """
    torch.set_num_threads(1)
    recordings = find_recordings(data)
    scribe = Scribe(voice_names(recordings))
    random.Random(seed).shuffle(recordings)
    left_out = (shards / LEFT_OUT.format(worker)).open("a")
    with left_out:
        for number in range(worker, -(-len(recordings) // CLIPS_PER_SHARD), step):
            path = shards / f"shard-{number:06d}.npz"
            if stop.is_set():
                return
            if path.exists():
                continue
            readings = list[Reading]()
            for one in recordings[number * CLIPS_PER_SHARD :][:CLIPS_PER_SHARD]:
                try:
                    readings.append(scribe.read(one))
                except FlamingoError as error:
                    left_out.write(json.dumps({"file": str(one.path), "reason": str(error)}) + "\n")
                    left_out.flush()
            if readings:
                save_readings(readings, path)


def num_left_out(shards: Path) -> int:
    """How many recordings could not be used so far."""
    files = {line for path in shards.glob(LEFT_OUT.format("*")) for line in path.read_text().splitlines()}
    return len(files)


def shared_out(total: int, shares: Floats) -> list[int]:
    """So many subframes by these shares, at least one each, adding up exactly.

    >>> shared_out(10, np.array([1.0, 3.0], np.float32))
    [3, 7]
    """
    free = total - len(shares)
    assert free >= 0
    ends = np.round(np.cumsum(shares) / shares.sum() * free).astype(int)
    return [1 + int(size) for size in np.diff(ends, prepend=0)]


def load_at_speech_rate(path: Path) -> Floats:
    """(N,) mono float32 at 24 kHz of a file of at most 30 s.

    Raises:
        AudioError: it cannot be read, is empty, or too long.
    """
    blocks, num_samples = list[Floats](), 0
    try:
        with path.open("rb") as file, open_file(file, path.name) as stream:
            for block in stream.blocks:
                blocks.append(block.mean(1))
                num_samples += len(block)
                if num_samples > WINDOW_S * stream.rate_hz:
                    raise AudioError(
                        f"{path.name} takes more than {WINDOW_S} s; a voice learns from sentences. Cut it."
                    )
            rate_hz = stream.rate_hz
    except OSError as error:
        raise AudioError(f"{path.name} cannot be read: {error.strerror}") from error
    if not num_samples:
        raise AudioError(f"{path.name} is empty")
    return resampled(np.concatenate(blocks), rate_hz)


def _at_model_rate(samples: Floats) -> Floats:
    import soxr

    out: Floats = soxr.resample(samples, SPEECH_RATE_HZ, SAMPLE_RATE_HZ)
    return out[: WINDOW_S * SAMPLE_RATE_HZ]


def _beside(path: Path) -> str:
    file = path.with_suffix(".txt")
    if not file.is_file() or file.stat().st_size > MAX_TEXT_BYTES:
        return ""
    return file.read_text(encoding="utf-8", errors="replace").strip()


def _listed(file: Path) -> dict[str, str]:
    """Names to texts of a `metadata.csv`; the column in words where there is one."""
    texts = {}
    with file.open(encoding="utf-8", errors="replace", newline="") as lines:
        for row in csv.reader(lines, delimiter="|", quoting=csv.QUOTE_NONE):
            if len(row) >= 2:
                texts[Path(row[0].strip()).stem] = row[-1].strip() or row[1].strip()
    return texts


def _voice_of(folder: Path, home: Path) -> str:
    parts = home.relative_to(folder).parts
    return parts[0] if parts else folder.resolve().name

"""festival, kept open: its own `text2wave` starts anew for every utterance, which costs more than the speaking.

One child a process reads commands from its input and leaves when that closes. The samples are those that
`text2wave` gives with `BOUNDED`, whatever was said before (tested): a sentence, voice and rate always give the same.

For that a fault of festival's own is got round. To stretch a recorded pause to the wanted length, its
`us_mapping` looks for the recorded frame nearest in time, and also reads the time of the frame after the last one,
where there is none. Whatever lay in that memory could make that frame the nearest; then the last pause was filtered
with whatever lay further on, and sounded another way. `BOUNDED` appends frames so late that they are never near.
"""

from __future__ import annotations

import select
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from audioflamingo.errors import FlamingoError

TIMEOUT_S = 60.0
# Two frames: the search steps at most on the first one, and reads one further.
# `track.insert` and not `track.resize`, whose result would be freed a second time.
BOUNDED = """(define af_mapping us_mapping)
(define (us_mapping utt method)
  (let ((source (item.feat (utt.relation.first utt 'SourceCoef) "coefs")) (late nil))
    (set! late (track.resize nil 2 (track.num_channels source)))
    (track.set_time late 0 1000000)
    (track.set_time late 1 1000000)
    (track.insert source (track.num_frames source) late 0 2))
  (af_mapping utt method))
"""
BEGIN = f"""(gc-status nil)
{BOUNDED}
(defvar af_count 0)
(defvar af_folder "")
(define (af_save utt)
  (utt.save.wave utt (string-append af_folder af_count ".wav") 'riff)
  (set! af_count (+ 1 af_count))
  utt)
(set! tts_hooks (list utt.synth af_save))
"""
SPEAK = """(begin (voice_{voice}) (Parameter.set 'Duration_Stretch {stretch:.3f}) (set! af_folder "{folder}/")
  (set! af_count 0) (tts_file "{folder}/text" nil) (format t "said %d\\n" af_count) (fflush nil))
"""
SAID, FAILED = b"said ", b"SIOD ERROR"


class FestivalError(FlamingoError):
    """festival is not installed, lacks a voice, or broke down."""


def speak(text: str, voice: str, rate: float) -> tuple[npt.NDArray[np.int16], int]:
    """The text spoken: (N,) samples and their rate in Hz.

    Raises:
        FestivalError: it is not installed, has no such voice, or takes more than `TIMEOUT_S`.
    """
    assert voice.isidentifier(), voice
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "text").write_text(text, encoding="utf-8")
        try:
            num_utterances = _asked(SPEAK.format(voice=voice, stretch=1 / rate, folder=folder))
        except (OSError, FestivalError):
            _engine().kill()
            _engine.cache_clear()
            raise
        return _joined([Path(folder) / f"{number}.wav" for number in range(num_utterances)])


def _asked(command: str) -> int:
    """The number of utterances that a command wrote."""
    engine = _engine()
    assert engine.stdin is not None
    assert engine.stdout is not None
    engine.stdin.write(command.encode())
    engine.stdin.flush()
    told = b""
    while select.select([engine.stdout], [], [], TIMEOUT_S)[0]:
        line = engine.stdout.readline()
        if line.startswith(SAID):
            return int(line.removeprefix(SAID))
        told = (told + line)[-200:]
        if not line or line.startswith(FAILED):
            raise FestivalError(f"festival failed: {told!r}; is the voice installed?")
    raise FestivalError(f"festival took more than {TIMEOUT_S:.0f} s")


@cache
def _engine() -> subprocess.Popen[bytes]:
    try:
        engine = subprocess.Popen(
            ["festival", "--pipe"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        )
    except FileNotFoundError as error:
        raise FestivalError("festival is missing; install it (Debian: apt-get install festival)") from error
    assert engine.stdin is not None
    engine.stdin.write(BEGIN.encode())
    return engine


def _joined(paths: list[Path]) -> tuple[npt.NDArray[np.int16], int]:
    from scipy.io import wavfile

    pieces = [wavfile.read(path) for path in paths]
    if not pieces:
        return np.zeros(0, np.int16), 16_000
    return np.concatenate([samples for _, samples in pieces]), int(pieces[0][0])

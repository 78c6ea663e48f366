"""How quickly and how clearly do the voices speak?

python benchmarks/voice.py                                    # our voice's size with random weights, and espeak-ng
python benchmarks/voice.py --voice flamingo:runs/out/voice --wer 200

Prints a card, a table and one last JSON line. First audio is the first packet of 80 ms: from text that is there whole,
and from the first of language-model tokens that come at a given pace. Word errors are pocketsphinx's, ours beside the
teacher's on the same held-out sentences, and in slices of 10 s over a minute (drift).
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr
import torch

from audioflamingo.speech.engines import open_voice
from audioflamingo.speech.model import embedded
from audioflamingo.speech.speaker import Speaker
from audioflamingo.speech.storage import save_voice
from audioflamingo.speech.stream import SPEECH_RATE_HZ
from audioflamingo.speech.synthesis import OwnVoice
from audioflamingo.world.text import SentenceGenerator, normalise

TEXT = "The quick brown fox jumps over the lazy dog, and then it sleeps in the warm sun until the evening comes."
REPEATS = 15
TOKEN_S = 0.02  # between language-model tokens in the second latency
SLICE_S, DRIFT_S = 10, 60
PAUSE_MS, PAUSE_BEFORE_MS, PAUSE_AFTER_MS = 80, 800, 120
SILENCE_S = 0.3
TEACHERS = ("flite:cmu_us_slt", "flite:cmu_us_rms")


def random_voice(folder: Path, target: str) -> str:
    save_voice(OwnVoice(embedded(target), ("a", "b")), folder / target)
    return f"flamingo:{folder / target}"


def speaker_of(name: str) -> Speaker:
    engine, _, voice = name.partition(":")
    return Speaker(open_voice(engine, voice or None))


def paced(text: str) -> Iterator[str]:
    for word in text.split(" "):
        yield word + " "
        time.sleep(TOKEN_S)


def latency_ms(speaker: Speaker, *, is_paced: bool) -> list[float]:
    times = []
    for _ in range(REPEATS + 2):
        began = time.perf_counter()
        next(speaker.stream(paced(TEXT) if is_paced else [TEXT]))
        times.append(1000 * (time.perf_counter() - began))
    return sorted(times[2:])


def real_time_factor(speaker: Speaker) -> float:
    began = time.perf_counter()
    samples = speaker.say(TEXT * 3)
    return (time.perf_counter() - began) / (len(samples) / SPEECH_RATE_HZ)


def errors(reference: list[str], heard: list[str]) -> int:
    row = list(range(len(heard) + 1))
    for i, one in enumerate(reference, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (one != other))
    return row[-1]


def recognised(samples: np.ndarray) -> list[str]:
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=16_000, loglevel="FATAL")
    # The recogniser normalises by what it has heard so far: every voice gets the same silence to begin and end with.
    silence = np.zeros(round(SILENCE_S * SPEECH_RATE_HZ), np.float32)
    samples = np.concatenate([silence, samples, silence])
    pcm = (soxr.resample(samples, SPEECH_RATE_HZ, 16_000) * 32_767).clip(-32_768, 32_767).astype("<i2").tobytes()
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()
    found = decoder.hyp()
    return found.hypstr.split() if found else []


def heard_of(speaker: Speaker, sentences: list[str]) -> list[dict[str, object]]:
    """What is recognised of every sentence, and how many words of it are wrong."""
    rows: list[dict[str, object]] = []
    for text in sentences:
        reference, heard = normalise(text).split(), recognised(speaker.say(text))
        rows.append({"voice": speaker.voice.name, "text": text, "heard": " ".join(heard), "words": len(reference),
                     "errors": errors(reference, heard)})  # fmt: skip
    return rows


def word_error(heard: list[dict[str, object]]) -> float:
    return sum(int(str(row["errors"])) for row in heard) / sum(int(str(row["words"])) for row in heard)


def quietest_ms(samples: np.ndarray, mark_ms: float) -> float:
    """The middle of the pause after a sentence, whose mark, when it was surely heard, is up to a word late."""
    begin = max(0, round((mark_ms - PAUSE_BEFORE_MS) * SPEECH_RATE_HZ / 1000))
    piece = samples[begin : round((mark_ms + PAUSE_AFTER_MS) * SPEECH_RATE_HZ / 1000)]
    width = round(PAUSE_MS * SPEECH_RATE_HZ / 1000)
    if len(piece) <= width:
        return mark_ms
    energy = np.convolve(np.square(piece), np.ones(width), "valid")
    return float((begin + int(energy.argmin()) + width / 2) * 1000 / SPEECH_RATE_HZ)


def drift(speaker: Speaker, sentences: list[str]) -> list[float]:
    """Word error of the sentences that fall into each slice of a minute spoken as one stream."""
    stream = speaker.stream(text + " " for text in sentences)
    samples = np.frombuffer(b"".join(packet.pcm for packet in stream), "<i2").astype(np.float32) / 32_768
    slices: list[list[int]] = [[0, 0] for _ in range(DRIFT_S // SLICE_S)]
    end, begin_ms = 0, 0.0
    for text in sentences:
        end += len(text)
        end_ms = quietest_ms(samples, max(ms for ms, source_end in stream.log.marks if source_end <= end))
        number = int(begin_ms / 1000 / SLICE_S)
        if number >= len(slices):
            break
        piece = samples[round(begin_ms * SPEECH_RATE_HZ / 1000) : round(end_ms * SPEECH_RATE_HZ / 1000)]
        reference = normalise(text).split()
        slices[number][0] += errors(reference, recognised(piece))
        slices[number][1] += len(reference)
        begin_ms, end = end_ms, end + 1
    return [round(wrong / max(total, 1), 3) for wrong, total in slices]


def measure(name: str, sentences: list[str]) -> tuple[dict[str, object], list[dict[str, object]]]:
    """A voice's row, and what was recognised of each sentence."""
    speaker, heard = speaker_of(name), list[dict[str, object]]()
    text, tokens = (latency_ms(speaker, is_paced=is_paced) for is_paced in (False, True))
    row: dict[str, object] = {
        "voice": speaker.voice.name,
        "first_audio_ms": round(statistics.median(text), 1),
        "first_audio_p95_ms": round(text[int(0.95 * len(text))], 1),
        "from_first_token_ms": round(statistics.median(tokens), 1),
        "rtf": round(real_time_factor(speaker), 3),
    }
    if sentences:
        heard = heard_of(speaker, sentences)
        row["wer"] = round(word_error(heard), 4)
        row["wer_by_10_s"] = drift(speaker, sentences[:40])
    return row, heard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--voice", action="append", metavar="ENGINE[:VOICE]", help="may be given repeatedly")
    parser.add_argument("--wer", type=int, default=0, metavar="N", help="sentences for word errors; needs pocketsphinx")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--heard", type=Path, help="JSONL file for what is recognised of every sentence of --wer")
    options = parser.parse_args()
    rng, generator = random.Random(7), SentenceGenerator("test")
    sentences = [generator.sentence(rng) for _ in range(options.wer)]
    print(f"voice benchmark: {platform.processor() or platform.machine()}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        names = options.voice or [*(random_voice(Path(folder), target) for target in ("mel", "codes")), "espeak-ng"]
        if options.wer:
            names = [*TEACHERS, *names]
        rows, heard = [], list[dict[str, object]]()
        for name in names:
            row, of_voice = measure(name, sentences)
            rows.append(row)
            heard += of_voice
    if options.heard:
        options.heard.write_text("".join(json.dumps(one) + "\n" for one in heard))
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    result = {"benchmark": "voice", "torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows}
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

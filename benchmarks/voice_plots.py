"""Pictures and sounds of the embedded voice for docs/voice.md.

python benchmarks/voice_plots.py [--voice FOLDER]

Writes docs/voice/spectrograms.png (teacher above, ours below), docs/voice/latency.png (text to first packet, measured
here) and docs/voice/NAME.ogg (the same sentence by each of our voices and by its teacher).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib
import numpy as np
import soundfile

matplotlib.use("Agg")
from matplotlib import pyplot

from audioflamingo.speech.engines import open_voice
from audioflamingo.speech.speaker import Speaker
from audioflamingo.speech.stream import SPEECH_RATE_HZ

TEXT = "A dog barks twice, and then a bell rings; the whole recording takes 12.5 seconds."
VOICES = {"slt": "cmu_us_slt", "rms": "cmu_us_rms"}  # ours to its teacher's name
NUM_LATENCIES = 100
LOUDEST, QUIETEST = -45, -115  # dB, of the pictures


def spectrogram(axes: pyplot.Axes, samples: np.ndarray) -> None:
    axes.specgram(samples, NFFT=1024, Fs=SPEECH_RATE_HZ, noverlap=896, vmin=QUIETEST, vmax=LOUDEST, cmap="magma")
    axes.set_facecolor("black")  # digital silence has no level
    axes.set(ylabel="Hz", ylim=(0, 10_000), xlim=(0, len(samples) / SPEECH_RATE_HZ))


def wave(axes: pyplot.Axes, samples: np.ndarray) -> None:
    axes.plot(np.arange(len(samples)) / SPEECH_RATE_HZ, samples, linewidth=0.3, color="#444444")
    axes.set(ylim=(-1, 1), xlim=(0, len(samples) / SPEECH_RATE_HZ), yticks=[])


def picture(sounds: dict[str, np.ndarray], path: Path) -> None:
    figure, rows = pyplot.subplots(
        2 * len(sounds), 1, figsize=(9, 2.6 * len(sounds)), height_ratios=[1, 3] * len(sounds)
    )
    for number, (title, samples) in enumerate(sounds.items()):
        wave(rows[2 * number], samples)
        spectrogram(rows[2 * number + 1], samples)
        rows[2 * number].set_title(title, loc="left", fontsize=10)
        rows[2 * number].set_xticks([])
    rows[-1].set_xlabel("s")
    figure.tight_layout(h_pad=0.3)
    figure.savefig(path, dpi=80)


def latencies_ms(speaker: Speaker) -> list[float]:
    times = []
    for _ in range(NUM_LATENCIES + 3):
        began = time.perf_counter()
        next(iter(speaker.stream([TEXT])))
        times.append(1000 * (time.perf_counter() - began))
    return times[3:]


def histogram(times: list[float], path: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(6, 2.6))
    axes.hist(times, bins=40, color="#5a7fb5")
    median, late = np.percentile(times, [50, 95])
    axes.axvline(median, color="k", linewidth=1)
    axes.axvline(late, color="k", linewidth=1, linestyle=":")
    axes.set(xlabel="ms from text to the first 80 ms of sound", ylabel="times", xlim=(0, None))
    axes.set_title(f"median {median:.0f} ms, 95 % below {late:.0f} ms", loc="left", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--voice", help="folder; default: the embedded one")
    parser.add_argument("--no-latency", action="store_true", help="leave latency.png as it is: on a busy machine")
    parser.add_argument("--out", type=Path, default=Path("docs/voice"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    sounds = {}
    for ours, teacher in VOICES.items():
        speakers = {
            f"teacher ({teacher})": Speaker(open_voice("flite", teacher)),
            f"ours ({ours})": Speaker(open_voice("flamingo", f"{options.voice}:{ours}" if options.voice else ours)),
        }
        for title, speaker in speakers.items():
            sounds[title] = speaker.say(TEXT)
            name = title.split(" ")[0]
            soundfile.write(
                options.out / f"{ours}-{name}.ogg", sounds[title], SPEECH_RATE_HZ, format="OGG", subtype="OPUS"
            )
    picture(sounds, options.out / "spectrograms.png")
    if not options.no_latency:
        histogram(latencies_ms(speakers[f"ours ({ours})"]), options.out / "latency.png")


if __name__ == "__main__":
    main()

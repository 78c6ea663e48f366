"""What storing weights in fewer bits costs the embedded model: errors of logits, other tokens, and its own scores.

Every scheme hears the same items. The answers of the unquantised fp32 model are fed to the others word by word: the
error of their logits is relative to the spread of the fp32 ones, and a token agrees if the likeliest one is the same.
Prints a table and one last JSON line.   python benchmarks/quantization.py [--items N] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from audioflamingo.api import AudioFlamingo, load_model
from audioflamingo.audio import log_mel_batch
from audioflamingo.engine.request import prepare
from audioflamingo.engine.sounds import audible_windows
from audioflamingo.eval.nano import Item, make_items, measure, test_sets
from audioflamingo.model.quantize import SCHEMES
from audioflamingo.types import Audio, Message

PLAIN = "float32"
ROWS = (
    "transcription, new sentences, espeak-ng, clean",
    "transcription, new sentences, flite, clean",
    "naming one sound, new renderings, clean",
    "naming two sounds in order, new renderings, clean",
    "is a sound there, yes or no",
    "man or woman",
)


@dataclass
class Found:
    """Sums over tokens of answers."""

    errors: list[float] = field(default_factory=list)
    num_tokens: int = 0
    num_agreeing: int = 0


@torch.inference_mode()
def answer_logits(model: AudioFlamingo, item: Item, answer: tuple[int, ...]) -> Tensor:
    """(T, V) logits at the places where the tokens of an answer are chosen."""
    message = Message("user", (Audio(item.scene.samples, "item"), item.question))
    positions = model.model.config.decoder.max_positions
    prompt = prepare((message,), model.defaults, model.tokenizer, model.template, positions).parts[0].prompt
    mel, num_mel_frames = log_mel_batch(audible_windows(prompt.audios[0].samples), model.model.device)
    ids = torch.tensor((*prompt.ids, *answer))
    logits = model.model(ids, [len(ids)], mel, list(num_mel_frames))
    return logits[len(prompt.ids) - 1 : -1].float()


def compare(models: dict[str, AudioFlamingo], items: list[Item], found: dict[str, Found]) -> None:
    plain = models[PLAIN]
    for item in items:
        answer = plain.ask(Audio(item.scene.samples, "item"), item.question, max_new_tokens=64).token_ids
        expected = answer_logits(plain, item, answer)
        spread = expected - expected.mean(-1, keepdim=True)
        for scheme in SCHEMES:
            logits = answer_logits(models[scheme], item, answer)
            error = (logits - expected).norm(dim=-1) / spread.norm(dim=-1)
            found[scheme].errors += error.tolist()
            found[scheme].num_tokens += len(answer)
            found[scheme].num_agreeing += int((logits.argmax(-1) == expected.argmax(-1)).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=40, help="of each row")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    models = {PLAIN: load_model("nano", device="cpu")}
    models |= {scheme: load_model("nano", device="cpu", quantize=scheme) for scheme in SCHEMES}
    found = {scheme: Found() for scheme in SCHEMES}
    scores: dict[str, dict[str, Any]] = {}
    for test_set in (one for one in test_sets() if one.name in ROWS):
        items = make_items(test_set, options.items)
        compare(models, items[: options.items // 4], found)
        figures = {name: measure(model, test_set, items)[0] for name, model in models.items()}
        scores[test_set.name] = {name: round(figure.value, 4) for name, figure in figures.items()}
        print(f"{test_set.name:<56}" + "".join(f"{name} {figure}   " for name, figure in figures.items()), flush=True)
    tokens = {
        scheme: {
            "logit_error_median": round(statistics.median(one.errors), 4),
            "token_agreement": round(one.num_agreeing / one.num_tokens, 4),
            "num_tokens": one.num_tokens,
        }
        for scheme, one in found.items()
    }
    for scheme, values in tokens.items():
        print(scheme, values)
    card = {"benchmark": "quantization", "date": datetime.now(UTC).date().isoformat(), "torch": torch.__version__}
    sizes = {name: model.info["weight_bytes"] for name, model in models.items()}
    line = json.dumps({"card": card | {"items": options.items}, "bytes": sizes, "tokens": tokens, "scores": scores})
    if options.out:
        options.out.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()

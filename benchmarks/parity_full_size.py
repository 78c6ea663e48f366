"""Question: at full size, is our model the reference's, and what does each take for the same work?

One set of random weights (8.27 B, bf16) is shared by our modules and by transformers' class without a copy. Prompts
with sound are run teacher-forced through both; logits at the answer positions are compared with each other, with the
reference's own spread between its attention kernels, and with the reference in fp32. Then encoder and prefill are
timed side by side. Prints a card, tables and one last JSON line; the JSON is saved after every section.

Run: python benchmarks/parity_full_size.py [--out FILE] ; python benchmarks/parity_full_size.py --tiny (CPU, seconds)
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from full_size import (
    TINY,
    Prompt,
    Report,
    Scale,
    both_models,
    hf,
    log_mel,
    make_card,
    make_prompts,
    median_ms,
)
from torch import Tensor

from audioflamingo.bench.random_weights import random_state
from audioflamingo.config import WINDOW_S
from audioflamingo.model.attention import Kernel, Packing, attention_kernel
from audioflamingo.model.decoder import CausalContext
from audioflamingo.model.flamingo import Flamingo

Logits = dict[tuple[str, str], Tensor | None]  # by run and prompt
Work = tuple[Callable[[], object], Callable[[], object]]  # ours, transformers


def main() -> None:
    options = parse_options()
    scale = TINY if options.tiny else Scale()
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.backends.cudnn.allow_tf32 = False  # the fp32 runs are the yardstick
    card = make_card("parity_full_size", scale, device)
    print("\n".join(f"{key}: {value}" for key, value in card.items()), flush=True)
    report = Report(options.out or default_path(card, options.tiny), card)
    with torch.inference_mode():
        run(scale, device, report)
    print(json.dumps(report.found))


def run(scale: Scale, device: torch.device, report: Report) -> None:
    """All sections, the important ones first."""
    start = time.perf_counter()
    state = random_state(scale.config, device)
    ours, reference = both_models(scale.config, state, device)
    prompts = make_prompts(scale, device)
    report.save("setup_s", round(time.perf_counter() - start, 1))
    logits = half_precision_logits(ours, reference, prompts, report)
    report.save("agreement", agreement(prompts, logits))
    report.save("greedy_bf16", report.attempt("greedy_bf16", partial(greedy, ours, reference, prompts[0], scale)))
    report.save("times_ms", timings(ours, reference, scale, prompts, report))
    if device.type == "cuda":
        report.save("peak_memory_gb_bf16", round(torch.cuda.max_memory_allocated() / 1e9, 2))
    del ours, reference
    wide = report.attempt("fp32 weights", lambda: {name: tensor.float() for name, tensor in state.items()})
    if wide is not None:
        ours, reference = both_models(scale.config, wide, device)
        logits |= full_precision_logits(ours, reference, prompts, report)
        report.save("agreement", agreement(prompts, logits))
        report.save("greedy_fp32", report.attempt("greedy_fp32", partial(greedy, ours, reference, prompts[0], scale)))
    report.save("total_s", round(time.perf_counter() - start, 1))
    print_tables(report.found)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--tiny", action="store_true", help="small sizes, for a CPU")
    parser.add_argument("--device", help="default: cuda where there is one, else cpu")
    return parser.parse_args()


def default_path(card: dict[str, Any], tiny: bool) -> Path:
    hardware = re.sub(r"[^a-z0-9]+", "-", card["hardware"].lower()).strip("-")
    size = "tiny" if tiny else "full_size"
    return Path(__file__).parent / "results" / f"parity_{size}_{hardware}_{card['date']}.json"


def our_logits(model: Flamingo, prompt: Prompt, kernel: Kernel) -> Tensor:
    """(answer tokens, V) logits that predict the answer."""
    with attention_kernel(kernel):
        logits = model(prompt.ids, [len(prompt.ids)], prompt.mel, prompt.num_mel_frames)
    return answer_rows(logits, prompt)


def reference_logits(model: Any, prompt: Prompt, kernel: str) -> Tensor:
    """The same from transformers."""
    model.set_attn_implementation(kernel)
    out = model(
        input_ids=prompt.ids[None],
        input_features=prompt.mel.to(model.dtype),
        input_features_mask=prompt.mask,
        attention_mask=torch.ones_like(prompt.ids)[None],
        logits_to_keep=prompt.num_answer_tokens + 1,
        use_cache=False,
    )
    return answer_rows(out.logits[0], prompt)


def answer_rows(logits: Tensor, prompt: Prompt) -> Tensor:
    return logits[-prompt.num_answer_tokens - 1 : -1].clone()


def half_precision_logits(ours: Flamingo, reference: Any, prompts: list[Prompt], report: Report) -> Logits:
    """Answer logits of every kernel and prompt."""
    found: Logits = {}
    for prompt in prompts:
        runs: dict[str, Callable[[], Tensor]] = {
            "hf sdpa": partial(reference_logits, reference, prompt, "sdpa"),
            "hf eager": partial(reference_logits, reference, prompt, "eager"),
            "ours sdpa": partial(our_logits, ours, prompt, "sdpa"),
            "ours varlen": partial(our_logits, ours, prompt, "varlen"),
        }
        for name, work in runs.items():
            found[name, prompt.name] = report.attempt(f"{name}, {prompt.name}", work)
    reference.set_attn_implementation("sdpa")
    return found


def full_precision_logits(ours: Flamingo, reference: Any, prompts: list[Prompt], report: Report) -> Logits:
    """The same in fp32, one kernel each."""
    found: Logits = {}
    for prompt in prompts:
        theirs = report.attempt(f"hf fp32, {prompt.name}", partial(reference_logits, reference, prompt, "sdpa"))
        mine = report.attempt(f"ours fp32, {prompt.name}", partial(our_logits, ours, prompt, "sdpa"))
        found["hf fp32", prompt.name], found["ours fp32", prompt.name] = theirs, mine
    return found


PAIRS = (
    ("ours sdpa", "hf sdpa"),
    ("ours varlen", "hf sdpa"),
    ("hf eager", "hf sdpa"),
    ("ours sdpa", "hf fp32"),
    ("ours varlen", "hf fp32"),
    ("hf sdpa", "hf fp32"),
    ("hf eager", "hf fp32"),
    ("ours fp32", "hf fp32"),
)


def agreement(prompts: list[Prompt], logits: Logits) -> list[dict[str, Any]]:
    """Relative error and share of equal top tokens at the answer positions, for every pair that was run."""
    rows = []
    for prompt in prompts:
        for run_name, against in PAIRS:
            run_logits, other = logits.get((run_name, prompt.name)), logits.get((against, prompt.name))
            if run_logits is None or other is None:
                continue
            wide, base = run_logits.float(), other.float()
            rows.append(
                {
                    "prompt": prompt.name,
                    "run": run_name,
                    "against": against,
                    "relative_error": float(f"{float((wide - base).norm() / base.norm()):.3e}"),
                    "largest_error": float(f"{float((wide - base).abs().max()):.3e}"),
                    "equal_top_tokens": round(float((wide.argmax(-1) == base.argmax(-1)).float().mean()), 4),
                }
            )
    return rows


def greedy(ours: Flamingo, reference: Any, prompt: Prompt, scale: Scale) -> dict[str, Any]:
    """Greedy continuations: ours by plain recomputation, transformers' by generate with its cache."""
    tokens, margins = our_greedy(ours, prompt, scale.num_greedy_tokens)
    expected = reference_greedy(reference, prompt, scale)
    equal = [token == other for token, other in zip(tokens, expected, strict=True)]
    first = equal.index(False) if False in equal else None
    return {
        "prompt": prompt.name,
        "num_tokens": len(tokens),
        "num_equal": sum(equal),
        "first_difference": first,
        "margin_there": None if first is None else round(margins[first], 4),
        "median_margin": round(statistics.median(margins), 4),
    }


def our_greedy(model: Flamingo, prompt: Prompt, num_tokens: int) -> tuple[list[int], list[float]]:
    """Tokens, and by how much each one's logit leads the second."""
    audio, _ = model.embed_audio(prompt.mel, prompt.num_mel_frames)
    ids, margins = prompt.question, []
    for _ in range(num_tokens):
        last = last_logits(model, ids, audio).float()
        last[model.config.audio_token_id] = -torch.inf
        best = last.topk(2)
        ids = torch.cat([ids, best.indices[:1]])
        margins.append(float(best.values[0] - best.values[1]))
    return ids[-num_tokens:].tolist(), margins


def reference_greedy(model: Any, prompt: Prompt, scale: Scale) -> list[int]:
    settings = hf.GenerationConfig(
        do_sample=False,
        max_new_tokens=scale.num_greedy_tokens,
        suppress_tokens=[scale.config.audio_token_id],
        pad_token_id=0,
    )
    out = model.generate(
        input_ids=prompt.question[None],
        input_features=prompt.mel.to(model.dtype),
        input_features_mask=prompt.mask,
        attention_mask=torch.ones_like(prompt.question)[None],
        generation_config=settings,
    )
    tokens: list[int] = out[0, len(prompt.question) :].tolist()
    return tokens


def last_logits(model: Flamingo, ids: Tensor, audio: Tensor) -> Tensor:
    """(V,) logits after the last of ids (T,)."""
    packing = Packing.of([len(ids)], model.device)
    hidden = model.hidden_states(model.merge(ids, audio), packing.positions, CausalContext(packing))
    return model.logits(hidden[-1])


def timings(
    ours: Flamingo, reference: Any, scale: Scale, prompts: list[Prompt], report: Report
) -> dict[str, dict[str, float | None]]:
    """Medians in ms, ours beside transformers, features already on the device."""
    window, window_mask = (x.to(ours.device) for x in log_mel(float(WINDOW_S), 0))
    clip, clip_mask = (x.to(ours.device) for x in log_mel(scale.clip_s, 0))
    long = window.expand(scale.num_windows, -1, -1), window_mask.expand(scale.num_windows, -1)
    clips = clip.expand(scale.num_clips, -1, -1), clip_mask.expand(scale.num_clips, -1)
    question = next((p for p in prompts if p.name == f"{WINDOW_S} s"), prompts[-1])
    work: dict[str, Work] = {
        f"encoder, {scale.num_windows} windows": encoder_work(ours, reference, *long),
        f"encoder, {scale.num_clips} clips of {scale.clip_s:g} s": encoder_work(ours, reference, *clips),
        f"first token, {question.name}": first_token_work(ours, reference, question),
    }
    found: dict[str, dict[str, float | None]] = {}
    for name, (our_work, reference_work) in work.items():
        found[name] = {
            "ours": report.attempt(f"{name}, ours", partial(median_ms, our_work, scale.num_repeats)),
            "transformers": report.attempt(f"{name}, hf", partial(median_ms, reference_work, scale.num_repeats)),
        }
    return found


def encoder_work(ours: Flamingo, reference: Any, mel: Tensor, mask: Tensor) -> Work:
    """Encoder and projector over windows of equal length; ours gets no more mel frames than it asks for."""
    num_mel_frames: list[int] = mask.sum(-1).tolist()
    needed, wide = mel[:, :, : max(num_mel_frames) + 2].contiguous(), mel.to(reference.dtype).contiguous()
    return (
        lambda: ours.embed_audio(needed, num_mel_frames),
        lambda: reference.get_audio_features(wide, mask),
    )


def first_token_work(
    ours: Flamingo, reference: Any, prompt: Prompt
) -> tuple[Callable[[], object], Callable[[], object]]:
    """From features and ids to the first token's id on the host."""
    ids, wide = prompt.question, prompt.mel.to(reference.dtype)
    attention_mask, frames = torch.ones_like(ids)[None], prompt.num_mel_frames

    def our_work() -> object:
        audio, _ = ours.embed_audio(prompt.mel, frames)
        return last_logits(ours, ids, audio).argmax().item()

    def reference_work() -> object:
        out = reference(
            input_ids=ids[None],
            input_features=wide,
            input_features_mask=prompt.mask,
            attention_mask=attention_mask,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[0, -1].argmax().item()

    return our_work, reference_work


def print_tables(found: dict[str, Any]) -> None:
    print(f"\n{'prompt':>8}  {'run':<12} {'against':<8} {'rel. error':>11} {'largest':>10} {'equal top':>10}")
    for row in found["agreement"]:
        print(
            f"{row['prompt']:>8}  {row['run']:<12} {row['against']:<8} {row['relative_error']:>11.2e}"
            f" {row['largest_error']:>10.2e} {row['equal_top_tokens']:>10.2%}"
        )
    for section in ("greedy_bf16", "greedy_fp32"):
        print(f"{section}: {found.get(section)}")
    print(f"\n{'work':<32} {'ours ms':>10} {'transformers ms':>16}")
    for name, row in found["times_ms"].items():
        print(f"{name:<32} {row['ours']!s:>10} {row['transformers']!s:>16}")
    print(f"errors: {found['errors'] or 'none'}; total {found['total_s']} s\n", flush=True)


if __name__ == "__main__":
    main()

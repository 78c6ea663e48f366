"""How fast and in how much memory a stage trains at full size, beside transformers + peft on the same weights and data.

    python benchmarks/train.py --out out/train.json          # on a GPU with 80 GB, <= 150 s
    python benchmarks/train.py --tiny --out /tmp/train.json  # anywhere, to see that it runs

Weights are random (made on the device); time and memory do not depend on their values. LoRA of stage 3.5 hears ten
minutes a sample (15,140 tokens), stage 1 ten sounds of 30 s. Both sides: bf16 weights, fp32 adapters, SDPA, AdamW,
clipping; the peer as transformers' Trainer runs it: autocast, gradient checkpointing, logits of all positions. MFU
counts what the model needs (`train.costs`), for both sides alike, against the rate of a plain matrix product here.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from full_size import TINY as TINY_SCALE
from full_size import Report, Scale, make_card, median_ms, peak_gb, reset_peak
from torch import Tensor, nn
from train_repeats import Trained, repeats

from audioflamingo.bench.random_weights import random_state
from audioflamingo.bench.reference import assembled_reference
from audioflamingo.bench.timing import release_memory
from audioflamingo.config import AUDIO_TOKENS_PER_WINDOW, DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.model.attention import Packing, attention_kernel
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.train import attention
from audioflamingo.train.collate import PackedBatch
from audioflamingo.train.costs import StepCost, matmul_rate
from audioflamingo.train.deterministic import deterministic_kernels
from audioflamingo.train.distributed import joined, shard
from audioflamingo.train.lora import PEFT_TARGETS
from audioflamingo.train.memory import device_memory, estimate, num_trained
from audioflamingo.train.parts import prepare, trained
from audioflamingo.train.pointwise import pointwise
from audioflamingo.train.quantized import BaseScheme
from audioflamingo.train.stages import Stage, stage_1, stage_3, stage_3_5
from audioflamingo.train.updates import Updates

MEL_FRAMES = 3_000
NUM_ANSWER_TOKENS = 100
CARD_BYTES = 24_000_000_000  # a card of 24 GB, before its own needs
CONTEXT_BYTES = 600_000_000  # which CUDA takes for itself outside of torch's memory
BUDGET_S = 150.0
NUM_KERNELS = 22
SMALL = ModelConfig(
    EncoderConfig(width=256, num_layers=2, num_heads=4, ffn_width=512),
    DecoderConfig(vocab_size=2_048, width=512, num_layers=4, num_heads=8, num_kv_heads=2, head_dim=64, ffn_width=1_024),
    audio_token_id=2_000,
)
"""For questions of correctness."""


@dataclass(frozen=True)
class Sample:
    """One sequence: text, a sound, an answer."""

    num_windows: int
    num_text: int


@dataclass(frozen=True)
class Case:
    """A stage and what it hears in one step."""

    name: str
    stage: Stage
    samples: tuple[Sample, ...]


class Bench:
    """The weights, and what every section needs."""

    def __init__(self, config: ModelConfig, device: torch.device, is_tiny: bool) -> None:
        self.config, self.device, self.is_tiny = config, device, is_tiny
        self.rate = matmul_rate(device, torch.bfloat16)
        self.state = random_state(config, device)
        self.num_steps = 1 if is_tiny else 3

    def ours(self) -> Flamingo:
        """Our model on the shared weights; modules are new each time, so that what is put on them goes again."""
        with torch.device("meta"):
            model = Flamingo(self.config)
        model.load_state_dict(self.state, assign=True)
        return model

    def pack(self, samples: tuple[Sample, ...]) -> PackedBatch:
        """Samples one after another, made on the device."""
        generator = torch.Generator(self.device).manual_seed(0)
        ids, places, first = [], [], 0
        for sample in samples:
            text = torch.randint(
                self.config.audio_token_id,
                (sample.num_text + NUM_ANSWER_TOKENS,),
                generator=generator,
                device=self.device,
            )
            sound = torch.full((sample.num_windows * AUDIO_TOKENS_PER_WINDOW,), self.config.audio_token_id).to(text)
            half = sample.num_text // 2
            ids.append(torch.cat([text[:half], sound, text[half:]]))
            first += len(ids[-1])
            places.append(torch.arange(first - NUM_ANSWER_TOKENS - 1, first - 1, device=self.device))
        num_windows = sum(sample.num_windows for sample in samples)
        shape = (num_windows, self.config.encoder.num_mel_bins, MEL_FRAMES)
        mel = torch.randn(shape, generator=generator, device=self.device)
        whole, learnt = torch.cat(ids), torch.cat(places)
        lengths = tuple(len(one) for one in ids)
        return PackedBatch(whole, lengths, learnt, whole[learnt + 1], mel, [MEL_FRAMES] * num_windows)


def our_step(loss: nn.Module, updates: Updates, pack: PackedBatch) -> Callable[[], float]:
    def step() -> float:
        total = loss(pack)
        torch.autograd.backward(total / pack.num_targets)
        updates.collect()
        updates.step(updates.gradients(), 1e-5)
        return float(total.detach()) / pack.num_targets

    return step


def measured(bench: Bench, step: Callable[[], float], flops: int, num_steps: int) -> dict[str, Any]:
    """Seconds a step, MFU, peak memory, and the first loss, which both sides share."""
    reset_peak()
    first_loss = step()
    first_s = timed(step)
    times = sorted(timed(step) for _ in range(num_steps))
    seconds = times[len(times) // 2]
    return {
        "s_a_step": round(seconds, 4),
        "mfu": round(flops / seconds / bench.rate, 4),
        "peak_gb": peak_gb(),
        "reserved_gb": peak_gb(reserved=True),
        "first_loss": round(first_loss, 4),
        "second_step_s": round(first_s, 3),
        "times_s": [round(one, 4) for one in times],
    }


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(work: Callable[[], object]) -> float:
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def ours(bench: Bench, case: Case, *, num_kept: int | None = None, profiles: bool = False) -> dict[str, Any]:
    """Our step: as many layers keep their activations as memory allows, or as told; fewer where that was too many."""
    pack, count = bench.pack(case.samples), num_trained(bench.config, case.stage)
    memory = estimate(
        bench.config, case.stage, count, num_tokens=sum(pack.lengths), num_kept=num_kept,
        device_bytes=device_memory(bench.device),
    )  # fmt: skip
    for fewer in (0, 4, 10):
        try:
            found = _ours(bench, case, pack, max(0, memory.num_kept - fewer), profiles)
        except torch.OutOfMemoryError:
            release_memory()
            continue
        return found | {"estimated_gb": round(memory.total / 1e9, 2), "estimated_kept": memory.num_kept}
    raise torch.OutOfMemoryError("with few layers that keep their activations too")


def _ours(bench: Bench, case: Case, pack: PackedBatch, num_kept: int, profiles: bool) -> dict[str, Any]:
    model, count = bench.ours(), num_trained(bench.config, case.stage)
    torch.manual_seed(0)
    loss = prepare(model, case.stage, num_kept=num_kept)
    for parameter in trained(loss).values():  # in the shared weights' own memory nothing may change
        parameter.data = parameter.data.clone()
    step = our_step(loss, Updates(trained(loss), case.stage), pack)
    flops = StepCost(bench.config, case.stage, count if case.stage.lora else 0).of(pack)
    found = measured(bench, step, flops, bench.num_steps)
    found |= {"kept_layers": num_kept, "flops": flops, "tokens": sum(pack.lengths)}
    if profiles:
        found["kernels_ms"] = profiled(step)
    return found


def profiled(step: Callable[[], object]) -> list[list[Any]]:
    """Name, milliseconds and calls of the kernels that take longest in one step."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        step()
        synchronize()
    events = [(getattr(event, "self_device_time_total", 0.0), event) for event in profiler.key_averages()]
    largest = sorted(((spent, event) for spent, event in events if spent), key=lambda pair: -pair[0])[:NUM_KERNELS]
    return [[event.key[:90], round(spent / 1e3, 2), event.count] for spent, event in largest]


def peer(bench: Bench, case: Case, *, recomputes: bool) -> dict[str, Any]:
    """The class of transformers with peft's adapters, or with its projector alone trained, as Trainer steps them."""
    model = assembled_reference(bench.config, bench.state)
    if case.stage.lora is not None:
        import peft

        lora = case.stage.lora
        settings = peft.LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=PEFT_TARGETS
        )
        model = peft.get_peft_model(model, settings)
    else:
        projector = next(module for name, module in model.named_modules() if name.endswith("multi_modal_projector"))
        for parameter in projector.parameters():  # in the shared weights' own memory nothing may change
            parameter.data = parameter.data.clone()
            parameter.requires_grad_(True)
    if recomputes:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    pack = bench.pack(case.samples)
    inputs = padded(bench, pack)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adam = torch.optim.AdamW(parameters, lr=1e-5, fused=bench.device.type == "cuda")

    def step() -> float:
        with torch.autocast(bench.device.type, torch.bfloat16):
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()
        adam.zero_grad()
        return float(loss.detach())

    count = num_trained(bench.config, case.stage) if case.stage.lora else 0
    return measured(bench, step, StepCost(bench.config, case.stage, count).of(pack), bench.num_steps)


def padded(bench: Bench, pack: PackedBatch) -> dict[str, Tensor]:
    """The pack as transformers takes it: a row a sample, filled up to the longest, labels where it is learnt."""
    longest = max(pack.lengths)
    rows = torch.split(pack.ids, list(pack.lengths))
    is_learnt = torch.zeros_like(pack.ids, dtype=torch.bool)
    is_learnt[pack.places + 1] = True
    labels = torch.split(torch.where(is_learnt, pack.ids, -100), list(pack.lengths))

    def filled(parts: tuple[Tensor, ...], value: int) -> Tensor:
        return torch.stack([nn.functional.pad(part, (0, longest - len(part)), value=value) for part in parts])

    assert pack.mel is not None
    return {
        "input_ids": filled(rows, 0),
        "attention_mask": filled(tuple(torch.ones_like(row) for row in rows), 0),
        "labels": filled(labels, -100),
        "input_features": pack.mel.bfloat16(),
        "input_features_mask": torch.ones(len(pack.mel), MEL_FRAMES, dtype=torch.int64, device=bench.device),
    }


def in_few_bits(bench: Bench, case: Case, scheme: BaseScheme) -> dict[str, Any]:
    """LoRA on a base in few bits within what a card of 24 GB has: more than that raises out of memory."""
    stage = dataclasses.replace(case.stage, quantize=scheme)
    pack, model = bench.pack(case.samples), bench.ours()
    count = num_trained(bench.config, stage)
    memory = estimate(bench.config, stage, count, num_tokens=sum(pack.lengths), num_kept=0)
    loss = prepare(model, stage, num_kept=0)
    bench.state = {}  # the matrices that are in few bits now go with it
    release_memory()
    if bench.device.type == "cuda":
        whole = torch.cuda.get_device_properties(bench.device).total_memory
        torch.cuda.set_per_process_memory_fraction((CARD_BYTES - CONTEXT_BYTES) / whole)
    try:
        step = our_step(loss, Updates(trained(loss), stage), pack)
        flops = StepCost(bench.config, stage, count).of(pack)
        found = measured(bench, step, flops, 1)
    finally:
        if bench.device.type == "cuda":
            torch.cuda.set_per_process_memory_fraction(1.0)
        del model, loss
        release_memory()
        bench.state = random_state(bench.config, bench.device)
    return found | {"within_gb": (CARD_BYTES - CONTEXT_BYTES) / 1e9, "estimated_gb": round(memory.total / 1e9, 2)}


def attention_kernels(bench: Bench, num_tokens: int) -> dict[str, Any]:
    """Forward and backward of one layer's attention by cuDNN at a rounded length, and by FlashAttention in two ways."""
    decoder = bench.config.decoder
    shapes = [(num_tokens, heads, decoder.head_dim) for heads in (decoder.num_heads, *[decoder.num_kv_heads] * 2)]
    inputs = [torch.randn(shape, device=bench.device, dtype=torch.bfloat16, requires_grad=True) for shape in shapes]
    context = attention.TrainingContext(Packing.of((num_tokens,), bench.device))
    flops = 4 * num_tokens * (num_tokens + 1) // 2 * decoder.num_heads * decoder.head_dim
    found: dict[str, Any] = {}
    results = []
    kinds: dict[str, dict[str, bool]] = {
        "cudnn": {}, "flash": {"cudnn": False}, "flash_deterministic": {"cudnn": False, "deterministic": True}
    }  # fmt: skip
    for name, options in kinds.items():
        with using(**options):
            out = context.attend(0, *inputs)
            wanted = torch.randn_like(out, generator=None) if not results else results[0][1]
            results.append((torch.autograd.grad(out, inputs, wanted, retain_graph=True), wanted, out.detach()))
            forward = median_ms(lambda: context.attend(0, *inputs), 3)
            backward = median_ms(lambda o=out, w=wanted: torch.autograd.grad(o, inputs, w, retain_graph=True), 3)
            again = torch.autograd.grad(out, inputs, wanted, retain_graph=True)
        found[name] = {
            "forward_ms": forward, "backward_ms": backward, "tflops": round(3 * flops / (forward + backward) / 1e9, 1),
            "gradients_repeat": all(torch.equal(a, b) for a, b in zip(again, results[-1][0], strict=True)),
        }  # fmt: skip
    pairs = [(results[0][2], results[1][2]), *zip(results[0][0], results[1][0], strict=True)]
    found["relative_difference"] = [float((a - b).float().norm() / b.float().norm()) for a, b in pairs]
    return found


@contextlib.contextmanager
def using(*, cudnn: bool = True, compiled: bool = False, deterministic: bool = False) -> Iterator[None]:
    """Kernels that are in use within the block; without cuDNN's attention it is FlashAttention's."""
    before, attention.settings.cudnn = attention.settings.cudnn, cudnn
    if compiled:
        pointwise.compile()
    try:
        with attention_kernel("auto" if cudnn else "sdpa"), deterministic_kernels(deterministic):
            yield
    finally:
        attention.settings.cudnn = before
        pointwise.plain()


def small_bench(bench: Bench, *samples: Sample) -> tuple[Bench, tuple[Sample, ...]]:
    """A small model and what it hears; on a machine without a GPU smaller still."""
    if bench.is_tiny:
        return bench, (Sample(1, 20),)
    return Bench(SMALL, bench.device, is_tiny=True), samples or (Sample(2, 20), Sample(1, 31))


def shards_agree(bench: Bench) -> dict[str, Any]:
    """Loss and size of the gradient of a small model whole and by FSDP2 in one process, both computing in bf16."""
    small, samples = small_bench(bench)
    pack = small.pack(samples)
    stage = dataclasses.replace(stage_1(), recomputes=True, trains=("encoder", "projector", "decoder"))
    found: dict[str, Any] = {}
    for name in ("whole", "shards"):
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29507", "RANK": "0", "WORLD_SIZE": "1"}
        with joined(bench.device.type, shards=name == "shards") as processes:
            model = small.ours().float() if processes.shards else copy.deepcopy(small.ours())
            loss = prepare(model, stage, processes=processes)
            if processes.shards:
                shard(loss, model, stage.precision, processes)
            updates = Updates(trained(loss), stage)
            total = loss(pack)
            torch.autograd.backward(total / pack.num_targets)
            updates.collect()
            norm = updates.step(updates.gradients(), 1e-5)
            found[name] = {"loss": float(total.detach()) / pack.num_targets, "norm": norm}
    for name in ("loss", "norm"):
        one, two = found["whole"][name], found["shards"][name]
        found[f"{name}_difference"] = abs(one - two) / abs(one)
    return found


def repeat_cases(bench: Bench) -> dict[str, Trained]:
    """A long sequence, sequences of several lengths, a base in few bits, and all parameters trained."""
    several = (Sample(2, 20), Sample(1, 31))
    kinds = {
        "lora_long": (stage_3_5(), (Sample(7, 20),)),
        "lora_packed": (stage_3_5(), several),
        "lora_int8": (dataclasses.replace(stage_3_5(), quantize="int8"), several),
        "full_packed": (stage_3(), several),
    }
    cases = {}
    for name, (stage, wanted) in kinds.items():
        small, samples = small_bench(bench, *wanted)

        def fresh(small: Bench = small, stage: Stage = stage) -> nn.Module:
            # Modules may lay shared weights out anew, hence a copy of all.
            return prepare(copy.deepcopy(small.ours()), stage)

        cases[name] = Trained(stage, small.pack(samples), fresh)
    return cases


def sections(bench: Bench) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is measured, the most wanted first."""
    windows = 1 if bench.is_tiny else 20
    lora = Case("lora", stage_3_5(), (Sample(windows, 40),))
    # Sounds of 30 s with questions of different lengths: a batch that has to be padded, or packed.
    aligned = Case("stage_1", stage_1(), tuple(Sample(1, 20 + 7 * k) for k in range(2 if bench.is_tiny else 10)))
    yield "lora_ours", lambda: ours(bench, lora, profiles=True)
    yield "lora_peer", lambda: peer(bench, lora, recomputes=True)
    yield "stage_1_ours", lambda: ours(bench, aligned, profiles=True)
    yield "stage_1_peer", lambda: peer(bench, aligned, recomputes=True)
    yield "lora_int4_24gb", lambda: in_few_bits(bench, lora, "int8" if bench.is_tiny else "int4")
    yield "lora_int8_24gb", lambda: in_few_bits(bench, lora, "int8")
    yield "shards", lambda: shards_agree(bench)
    yield "repeats", lambda: repeats(repeat_cases(bench))
    if bench.device.type == "cuda":
        yield "attention", lambda: attention_kernels(bench, 15_140)
        yield "lora_ours_flash", lambda: with_options(bench, lora, cudnn=False)
        yield "lora_ours_compiled", lambda: with_options(bench, lora, compiled=True)
        yield "lora_ours_deterministic", lambda: with_options(bench, lora, deterministic=True)
    yield "lora_ours_recomputing", lambda: ours(bench, lora, num_kept=0)
    yield "stage_1_peer_keeping", lambda: peer(bench, aligned, recomputes=False)


def with_options(bench: Bench, case: Case, **options: bool) -> dict[str, Any]:
    with using(**options):
        return ours(bench, case)


def guarded(work: Callable[[], Any]) -> Any:
    """Errors of every kind as one that the report notes: a missing package must not end the run."""
    try:
        return work()
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise RuntimeError(f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {error}") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    default = Path(os.environ.get("OUT", "out")) / "train.json"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--only", help="sections by commas")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--budget-s", type=float, default=BUDGET_S)
    options = parser.parse_args()
    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scale = TINY_SCALE if options.tiny else Scale()
    report = Report(options.out, make_card("train", scale, device))
    bench = Bench(scale.config, device, options.tiny)
    report.save("matmul_tflops", round(bench.rate / 1e12, 2))
    for name, work in sections(bench):
        if options.only and name not in options.only.split(","):
            continue
        if time.perf_counter() - began > options.budget_s:
            report.save(name, "left out: no time")
            continue
        found = report.attempt(name, lambda w=work: guarded(w))
        print(f"{name}: {json.dumps({k: v for k, v in (found or {}).items() if k != 'kernels_ms'})}", flush=True)
        report.save(name, found)
    for kind in ("lora", "stage_1"):
        pair = [report.found.get(f"{kind}_{side}") or {} for side in ("ours", "peer")]
        if all("s_a_step" in one for one in pair):
            report.save(f"{kind}_times_faster", round(pair[1]["s_a_step"] / pair[0]["s_a_step"], 3))
    report.save("total_s", round(time.perf_counter() - began, 1))
    print(json.dumps({k: v for k, v in report.found.items() if k.endswith(("faster", "total_s", "tflops", "errors"))}))


if __name__ == "__main__":
    main()

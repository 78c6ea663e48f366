"""Small kernels against their twins in fp64, and times of attention over the paged cache."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from kernels_common import Scale, relative
from torch import Tensor

from audioflamingo.model.attention import CUDNN_FROM, Packing, attend, attend_with_prefix, attention_kernel
from audioflamingo.model.kernels import (
    Heads,
    Pages,
    Slots,
    add_layer_norm,
    add_rms_norm,
    advance_greedily,
    attend_paged,
    gelu_in_place,
    half_tables,
    kernel_switches,
    rotate_in_place,
    swiglu,
)
from audioflamingo.model.kernels import paged_attention as paged
from audioflamingo.model.kernels.tuning import time_us

PAGE = 32


def small_kernels(scale: Scale) -> dict[str, Any]:
    """Relative errors; each check stands for itself."""
    found: dict[str, Any] = {}
    checks = {"norms": _norms, "elementwise": _elementwise, "paged": _paged, "greedy": _greedy, "prefix": _prefix}
    for name, check in checks.items():
        try:
            found[name] = check(scale)
        except Exception as error:
            found[name] = f"FAILED {type(error).__name__}: {str(error)[:600]}"
        print(name, found[name], flush=True)
    return found


def _wide(*tensors: Tensor) -> list[Tensor]:
    return [tensor.double() for tensor in tensors]


def _norms(scale: Scale) -> dict[str, float]:
    width, narrow = scale.config.decoder.width, scale.config.encoder.width
    x, delta, weight = scale.random(65, width), scale.random(65, width), scale.random(width)
    parts = torch.randn(5, 65, width, device=scale.device)
    y, change, gain, bias = (scale.random(*shape) for shape in ((65, narrow), (65, narrow), (narrow,), (narrow,)))
    found = {}
    with kernel_switches(kernels=False):
        wide = add_rms_norm(*_wide(x, delta, weight), 1e-6)  # type: ignore[call-arg]
        summed = add_rms_norm(*_wide(x, parts, weight), 1e-6)  # type: ignore[call-arg]
        layer = add_layer_norm(*_wide(y, change, gain, bias), 1e-5)  # type: ignore[call-arg]
    for name, got, want in (
        ("rms", add_rms_norm(x, delta, weight, 1e-6), wide),
        ("rms of parts", add_rms_norm(x, parts, weight, 1e-6), summed),
        ("layer", add_layer_norm(y, change, gain, bias, 1e-5), layer),
    ):
        found[f"{name} sum"], found[name] = relative(got[0], want[0]), relative(got[1], want[1])
    return found


def _elementwise(scale: Scale) -> dict[str, float]:
    config = scale.config.decoder
    width, gate_up = scale.config.encoder.width, scale.random(33, 2 * config.ffn_width)
    heads = Heads(config.num_heads, config.num_kv_heads, config.head_dim)
    qkv = scale.random(33, heads.row_width)
    tables = half_tables(200, config.head_dim, config.rope_theta, qkv)
    positions = torch.randint(0, 200, (33,), device=scale.device)
    slots = torch.randperm(64, device=scale.device)[:33]
    stores = [
        torch.zeros(64, config.num_kv_heads, config.head_dim, device=scale.device, dtype=scale.dtype) for _ in "kv"
    ]
    turned = qkv.clone()
    rotate_in_place(turned, tables, positions, heads, Slots(slots, *stores))
    with kernel_switches(kernels=False):
        gated = swiglu(gate_up.double())
        wide, wide_stores = qkv.double(), [store.double().zero_() for store in stores]
        rotate_in_place(wide, (tables[0].double(), tables[1].double()), positions, heads, Slots(slots, *wide_stores))
    hidden = scale.random(33, 4 * width) * 2
    return {
        "gelu": relative(gelu_in_place(hidden.clone()), torch.nn.functional.gelu(hidden.double())),
        "swiglu": relative(swiglu(gate_up), gated),
        "rotary": relative(turned, wide),
        "stored keys": relative(stores[0], wide_stores[0]),
        "stored values": relative(stores[1], wide_stores[1]),
    }


def _paged(scale: Scale) -> dict[str, float]:
    found = {}
    for dims, dtype in (((28, 4, 128), scale.dtype), ((4, 2, 64), scale.dtype), ((7, 1, 32), torch.float32)):
        for longest in (512, 2048):
            found[f"{dims} {dtype} {longest}"] = _paged_error(scale, Heads(*dims), dtype, longest)
    return found


def _paged_error(scale: Scale, heads: Heads, dtype: torch.dtype, longest: int) -> float:
    lengths = torch.tensor([1, 2, 31, 32, 33, 64, 65, 300, longest], dtype=torch.int32, device=scale.device)
    pages = _pages(lengths, longest, scale)
    num_slots = int(pages.tables.max() + 1) * PAGE
    shape = (num_slots, heads.num_kv_heads, heads.head_dim)
    keys, values = (torch.randn(shape, device=scale.device).to(dtype) for _ in range(2))
    keys[0], values[0] = torch.nan, torch.nan  # nobody may look at the scratch page
    qkv = torch.randn(len(lengths), heads.row_width, device=scale.device).to(dtype)
    tables = half_tables(longest, heads.head_dim, 1e6, qkv)
    wide_keys, wide_values = keys.double(), values.double()
    with kernel_switches(kernels=False):
        wide_tables = (tables[0].double(), tables[1].double())
        finite = wide_keys.nan_to_num_(), wide_values.nan_to_num_()
        want = attend_paged(qkv.double(), wide_tables, *finite, heads, pages)
    got = attend_paged(qkv.clone(), tables, keys, values, heads, pages)
    stored = relative(keys[PAGE:], wide_keys[PAGE:])
    return max(relative(got, want), stored)


def _pages(lengths: Tensor, longest: int, scale: Scale) -> Pages:
    width = -(-longest // PAGE) + 1
    tables = torch.zeros(len(lengths), width, dtype=torch.int32, device=scale.device)
    counts = [-(-length // PAGE) for length in lengths.tolist()]
    numbers = 1 + torch.randperm(sum(counts), device=scale.device, dtype=torch.int32)
    for row, part in enumerate(numbers.split(counts)):
        tables[row, : len(part)] = part
    return Pages(PAGE, tables, lengths, longest)


def _greedy(scale: Scale) -> bool:
    logits = scale.random(9, scale.config.decoder.vocab_size)
    logits[3, 5] = logits[3, -1] = 50
    tokens = torch.zeros(9, dtype=torch.int64, device=scale.device)
    lengths = torch.arange(1, 10, dtype=torch.int32, device=scale.device)
    advance_greedily(logits, tokens, lengths, 9)
    first = (logits == logits.amax(-1, keepdim=True)).int().argmax(-1)
    return bool((tokens == first).all()) and lengths.tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 9]


def _prefix(scale: Scale) -> dict[str, float]:
    config = scale.config.decoder
    shape, shared = (config.num_heads, config.head_dim), (config.num_kv_heads, config.head_dim)
    q_lengths, k_lengths = [5, 64, 130], [5, 200, 1030]
    query = scale.random(sum(q_lengths), *shape)
    key, value = (scale.random(sum(k_lengths), *shared) for _ in range(2))
    with attention_kernel("sdpa"):
        want = attend_with_prefix(query.float(), key.float(), value.float(), q_lengths, k_lengths)
    found = {"prefix": relative(attend_with_prefix(query, key, value, q_lengths, k_lengths), want)}
    if scale.is_gpu:
        num = CUDNN_FROM + 100
        query, (key, value) = scale.random(num, *shape), (scale.random(num, *shared) for _ in range(2))
        packing = Packing.of([num], query.device)
        with attention_kernel("varlen"):
            want = attend(query, key, value, packing, causal=True)
        for kernel in ("cudnn", "sdpa"):
            with attention_kernel(kernel):  # type: ignore[arg-type]
                found[f"{kernel} against varlen"] = relative(attend(query, key, value, packing, causal=True), want)
    return found


def attention_times(scale: Scale) -> dict[str, Any]:
    """Microseconds over the paged cache, and TB/s as if it were read once, by plan and number of splits (0: chosen)."""
    config = scale.config.decoder
    heads = Heads(config.num_heads, config.num_kv_heads, config.head_dim)
    found: dict[str, Any] = {}
    for batch, length in ((1, 790), (1, 15_040), (8, 790), (64, 790), (4, 15_040)):
        if not scale.is_gpu:
            break
        pages = _pages(torch.full((batch,), length, dtype=torch.int32, device=scale.device), length, scale)
        store = scale.random(2, int(pages.tables.max() + 1) * PAGE, heads.num_kv_heads, heads.head_dim)
        qkv = scale.random(batch, heads.row_width)
        tables = half_tables(length, heads.head_dim, config.rope_theta, qkv)
        num_bytes = 4 * batch * length * heads.num_kv_heads * heads.head_dim
        for plan in paged.PLANS:
            for splits in (0, 1, 8, 32) if batch < 8 else (0, 1, 2):
                one = replace(plan, splits=splits)
                run = partial(paged.run_plan, qkv, tables, (store[0], store[1]), heads, pages, plan=one)
                time = time_us(run) or -1.0
                found[f"{batch} x {length} {one}"] = [round(time, 1), round(num_bytes / time / 1e6, 2)]
    print(found)
    return found

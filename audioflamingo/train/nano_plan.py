"""One step's plan: which windows and conversations, and every index that packing them needs, in arrays of fixed shapes.

Everything of a step lies one behind another without padding between; what is left over at the end is covered by
sequences of their own that teach nothing. Fixed shapes let one CUDA graph run every step.
Shapes: W windows, M mel frames of all windows, N encoder frames, A = N / 2 audio tokens, T decoder tokens, K targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audioflamingo.config import ENCODER_FRAMES_PER_WINDOW
from audioflamingo.train.nano_items import SAMPLES_PER_TOKEN
from audioflamingo.train.nano_labels import FRAME_INDEX

SAMPLES_PER_FRAME = 320  # encoder frames of 20 ms
GAP_FRAMES = 2  # mel frames between windows: one that the last convolution sees, one that is silence to the next
NUM_CLOCKS = 512
REST_TOKENS = 512  # what is left over is attended to in pieces of so many: work that nobody needs
MUSIC = FRAME_INDEX["music"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """Room in one step.

    Attributes:
        num_frames: encoder frames, 50 a second.
        num_tokens: decoder tokens.
        num_windows: most windows.
        num_sequences: most sequences, those that cover the rest included.
        num_targets: most learnt tokens.
        num_spans: most frame labels.
        longest_tokens: longest sequence that the decoder's attention is prepared for.
    """

    num_frames: int = 51_200
    num_tokens: int = 46_080
    num_windows: int = 384
    num_sequences: int = 512
    num_targets: int = 6_144
    num_spans: int = 12_288
    longest_tokens: int = 1_280

    @property
    def num_mel_frames(self) -> int:
        """M."""
        return 2 * self.num_frames + GAP_FRAMES * self.num_windows

    @property
    def seconds(self) -> float:
        """Of sound at most."""
        return self.num_frames / 50


@dataclass(frozen=True, eq=False)
class Picked:
    """A conversation that was drawn.

    Attributes:
        windows: (first sample in the pool, samples) of each.
        labels: (E, 3) of each.
        ctc: of each; None where it cannot teach it.
        clips: number of each one's clip.
        ids: token ids.
        learnt: how much each counts.
    """

    windows: Sequence[tuple[int, int]]
    labels: Sequence[npt.NDArray[np.int32]]
    ctc: Sequence[npt.NDArray[np.uint8] | None]
    clips: Sequence[int] | npt.NDArray[np.integer[Any]]
    ids: npt.NDArray[np.uint16]
    learnt: npt.NDArray[np.uint8]


@dataclass(eq=False)
class Plan:
    """Everything about a step but its samples.

    "Any" is another one each time: a GPU adds the gradients of one row that is read often one after another, and a
    hundred thousand zeros for one row take longer than all layers together.

    Attributes:
        window_start: (W,) int64 first sample in the pool; 0 for rooms that are not used.
        window_samples: (W,) int64 samples; 0 likewise.
        window_warps: (W,) bool, whether its mel axis may be stretched: not where music's pitch is to be told.
        window_item: (W,) int64 which of the items that were picked it belongs to.
        frame_window: (M,) int64 window of each mel frame.
        frame_number: (M,) int64 number within its window; -1 in the gaps.
        frame_valid: (M,) bool, where a frame is one of its window's own.
        source: (N,) int64 place among the M / 2 frames after the convolutions; any where no window is.
        place: (N,) int64 position within the window.
        encoder_offsets: (W + 1,) int32 where each window begins in N; the rest is covered too.
        ids: (T,) int64; any where audio stands.
        audio: (T,) int64 audio token that stands there; any where none does.
        is_audio: (T,) bool.
        positions: (T,) int64.
        decoder_offsets: (S + 1,) int32.
        predicts: (K,) int64 place in T whose state predicts each target; any for rooms that are not used.
        targets: (K,) int64.
        weights: (K,) float32 that add up to 1; 0 for rooms that are not used.
        spans: (L, 3) int64 name, first and end among the audio tokens; all 0 for rooms that are not used.
        is_heard: (A,) float32, 1 where an audio token belongs to a window.
        clock_place: (C,) int64 places in T.
        clock_s: (C,) int64 the second of the clip there; -1 in a step without sound.
        clock_clip: (C,) int64 number of the clip there.
        ctc_frames: (W', S') int64 places in N of the windows that teach the CTC head, then any; W', S' vary.
        ctc_lengths: frames of each, on the CPU.
        ctc_labels: (sum of labels,) int64.
        ctc_label_lengths: labels of each, on the CPU.
    """

    window_start: Tensor
    window_samples: Tensor
    window_warps: Tensor
    window_item: Tensor
    frame_window: Tensor
    frame_number: Tensor
    frame_valid: Tensor
    source: Tensor
    place: Tensor
    encoder_offsets: Tensor
    ids: Tensor
    audio: Tensor
    is_audio: Tensor
    positions: Tensor
    decoder_offsets: Tensor
    predicts: Tensor
    targets: Tensor
    weights: Tensor
    spans: Tensor
    is_heard: Tensor
    clock_place: Tensor
    clock_s: Tensor
    clock_clip: Tensor
    ctc_frames: Tensor
    ctc_lengths: Tensor
    ctc_labels: Tensor
    ctc_label_lengths: Tensor
    shape: Shape
    seconds: float
    num_sequences: int

    def to(self, device: torch.device) -> Plan:
        """The plan with its tensors on a device, but the two that CTC wants on the CPU."""
        if device.type == "cpu":
            return self
        kept = ("ctc_lengths", "ctc_label_lengths")
        values = {}
        for field in fields(self):
            value = getattr(self, field.name)
            moves = isinstance(value, Tensor) and field.name not in kept
            values[field.name] = value.pin_memory().to(device, non_blocking=True) if moves else value
        return Plan(**values)


def make_plan(
    picked: Sequence[Picked], shape: Shape, rng: np.random.Generator, *, vocab_size: int, placeholder: int,
    token_noise: float = 0.0,
) -> Plan:  # fmt: skip
    """Pack conversations that fit the shape together.

    Args:
        picked: what was drawn.
        shape: room; the caller has seen to it that all fits.
        rng: for the noise among input tokens and the places of the clock.
        vocab_size: random tokens lie below it.
        placeholder: id of an audio token.
        token_noise: share of learnt tokens that are replaced where they are input, so that the sound must be used.
    """
    windows = [window for one in picked for window in one.windows]
    values = {**_encoder(windows, shape), **_labels(picked, windows, shape), **_ctc(picked, windows, shape)}
    decoder = _decoder(picked, shape, rng, placeholder, token_noise, vocab_size)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in {**values, **decoder}.items()}
    seconds = sum(num for _, num in windows) / 16_000
    return Plan(**tensors, shape=shape, seconds=seconds, num_sequences=len(picked))


def _encoder(windows: Sequence[tuple[int, int]], shape: Shape) -> dict[str, npt.NDArray[Any]]:
    starts, samples = (np.array(column, np.int64) for column in zip(*windows, strict=True)) if windows else _nothing()
    frames = samples // SAMPLES_PER_FRAME
    slots = 2 * frames + GAP_FRAMES
    total, slot_total = int(frames.sum()), int(slots.sum())
    assert total <= shape.num_frames, f"{total} frames where {shape.num_frames} have room"
    slot_starts, frame_starts = np.cumsum(slots) - slots, np.cumsum(frames) - frames
    owner = np.repeat(np.arange(len(frames)), slots)
    number = np.arange(slot_total) - slot_starts[owner]
    valid = number < 2 * frames[owner]
    # The gap's first frame is the window's next one, which its last convolution sees; at 30 s there is none.
    heard = number <= np.minimum(2 * frames[owner], 2 * ENCODER_FRAMES_PER_WINDOW - 1)
    inside = np.repeat(np.arange(len(frames)), frames)
    place = np.arange(total) - frame_starts[inside]
    return {
        "window_start": _filled(starts, shape.num_windows),
        "window_samples": _filled(samples, shape.num_windows),
        "frame_window": _filled(owner, shape.num_mel_frames),
        "frame_number": _filled(np.where(heard, number, -1), shape.num_mel_frames, -1),
        "frame_valid": _filled(valid, shape.num_mel_frames),
        "source": _spread(slot_starts[inside] // 2 + place, shape.num_frames, shape.num_mel_frames // 2),
        "place": _filled(place, shape.num_frames),
        "encoder_offsets": _offsets(frames, shape.num_frames, shape.num_sequences, REST_TOKENS),
    }


def _decoder(
    picked: Sequence[Picked], shape: Shape, rng: np.random.Generator, placeholder: int, noise: float, vocab_size: int
) -> dict[str, npt.NDArray[Any]]:
    lengths = np.array([len(one.ids) for one in picked], np.int64)
    ids = np.concatenate([one.ids for one in picked]).astype(np.int64)
    learnt = np.concatenate([one.learnt for one in picked])
    is_audio = (ids == placeholder) & (learnt == 0)
    owner = np.repeat(np.arange(len(picked)), lengths)
    targets = np.flatnonzero(learnt)
    num_heard = sum(num // SAMPLES_PER_TOKEN for one in picked for _, num in one.windows)
    assert int(is_audio.sum()) == num_heard, f"{is_audio.sum()} places of audio tokens for {num_heard}"
    assert int(np.max(lengths)) <= shape.longest_tokens, f"a conversation of {np.max(lengths)} tokens"
    answer = np.cumsum(np.diff(targets, prepend=-2) > 1) - 1
    # A transcript counts more than a word, not 30 times more.
    weights = learnt[targets] / np.sqrt(np.bincount(answer))[answer]
    wanted = ids[targets]
    disturbed = targets[rng.random(len(targets)) < noise]
    ids[disturbed] = rng.integers(0, vocab_size, len(disturbed))
    positions = np.arange(len(ids)) - (np.cumsum(lengths) - lengths)[owner]
    anywhere = np.arange(len(ids))
    num_audio = shape.num_frames // 2
    audio = np.where(is_audio, np.cumsum(is_audio) - 1, anywhere % num_audio)
    ids = np.where(is_audio, anywhere % vocab_size, ids)
    return {
        "ids": _spread(ids, shape.num_tokens, vocab_size),
        "audio": _spread(audio, shape.num_tokens, num_audio),
        "is_audio": _filled(is_audio, shape.num_tokens),
        "positions": _filled(positions, shape.num_tokens),
        "decoder_offsets": _offsets(lengths, shape.num_tokens, shape.num_sequences, REST_TOKENS),
        "predicts": _spread(targets - 1, shape.num_targets, shape.num_tokens),
        "targets": _filled(wanted, shape.num_targets),
        "weights": _filled((weights / weights.sum()).astype(np.float32), shape.num_targets),
        **_clock(picked, is_audio, rng),
    }


def _clock(picked: Sequence[Picked], is_audio: npt.NDArray[np.bool_], rng: np.random.Generator) -> dict[str, Ints]:
    """Places of audio tokens drawn over all sounds, and there the second of the clip and the clip's number."""
    places = np.flatnonzero(is_audio)
    if not len(places):
        nowhere = np.zeros(NUM_CLOCKS, np.int64)
        return {"clock_place": nowhere, "clock_s": np.full(NUM_CLOCKS, -1, np.int64), "clock_clip": nowhere}
    tokens = np.array([num // SAMPLES_PER_TOKEN for one in picked for _, num in one.windows], np.int64)
    clips = np.concatenate([np.asarray(one.clips, np.int64) for one in picked])
    owner = np.repeat(np.arange(len(picked)), [len(one.windows) for one in picked])
    # Windows of a clip stand side by side; where either changes, another clip begins.
    begins = np.flatnonzero(np.diff(owner, prepend=-1) | np.diff(clips, prepend=-1))
    starts = np.cumsum(tokens) - tokens
    first = np.repeat(starts[begins], np.diff(begins, append=len(clips)))
    drawn = rng.integers(0, len(places), NUM_CLOCKS)
    window = np.searchsorted(starts, drawn, side="right") - 1
    return {
        "clock_place": places[drawn], "clock_s": (drawn - first[window]) // 25, "clock_clip": clips[window],
    }  # fmt: skip


def _labels(picked: Sequence[Picked], windows: Sequence[tuple[int, int]], shape: Shape) -> dict[str, npt.NDArray[Any]]:
    tokens = np.array([num // SAMPLES_PER_TOKEN for _, num in windows], np.int64)
    starts = np.cumsum(tokens) - tokens
    spans = [np.zeros((0, 3), np.int64)]
    for start, labels in zip(starts, (labels for one in picked for labels in one.labels), strict=True):
        moved = labels.astype(np.int64)
        moved[:, 1:] += start
        spans.append(moved)
    music = [bool((labels[:, 0] == MUSIC).any()) for one in picked for labels in one.labels]
    heard = np.zeros(shape.num_frames // 2, np.float32)
    heard[: int(tokens.sum())] = 1.0
    return {
        "spans": _filled(np.concatenate(spans)[: shape.num_spans], shape.num_spans),
        "is_heard": heard,
        "window_warps": _filled(~np.array(music, np.bool_), shape.num_windows),
        "window_item": _filled(
            np.repeat(np.arange(len(picked)), [len(one.windows) for one in picked]) % shape.num_windows,
            shape.num_windows,
        ),
    }


def _ctc(picked: Sequence[Picked], windows: Sequence[tuple[int, int]], shape: Shape) -> dict[str, npt.NDArray[Any]]:
    frames = np.array([num // SAMPLES_PER_FRAME for _, num in windows], np.int64)
    starts = np.cumsum(frames) - frames
    labels = [labels for one in picked for labels in one.ctc]
    known = [index for index, one in enumerate(labels) if one is not None]
    lengths = frames[known]
    longest = int(np.max(lengths, initial=1))
    grid = np.arange(longest)[None] + starts[known][:, None]
    anywhere = np.arange(grid.size).reshape(grid.shape) % shape.num_frames
    rows = [labels[index] for index in known]
    return {
        "ctc_frames": np.where(np.arange(longest)[None] < lengths[:, None], grid, anywhere),
        "ctc_lengths": lengths,
        "ctc_labels": np.concatenate([np.zeros(0, np.int64), *(row for row in rows if row is not None)]).astype(
            np.int64
        ),
        "ctc_label_lengths": np.array([len(row) for row in rows if row is not None], np.int64),
    }


def _offsets(lengths: Ints, total: int, num: int, longest: int) -> npt.NDArray[np.int32]:
    """(num + 1,) running sum; the rest up to `total` in pieces of at most `longest`, then nothing."""
    used = int(lengths.sum())
    rest = np.full((total - used) // longest, longest)
    rest = np.append(rest, (total - used) % longest)
    ends = np.cumsum(np.concatenate([lengths, rest]))
    assert len(ends) <= num, f"{len(ends)} sequences where {num} have room"
    out = np.full(num + 1, total, np.int32)
    out[0], out[1 : len(ends) + 1] = 0, ends
    return out


def _filled(values: npt.NDArray[Any], num: int, fill: int = 0) -> npt.NDArray[Any]:
    assert len(values) <= num, f"{len(values)} where {num} have room"
    out = np.full((num, *values.shape[1:]), fill, values.dtype)
    out[: len(values)] = values
    return out


def _spread(values: Ints, num: int, num_rows: int) -> Ints:
    """Indices of rows; rooms that are not used read rows one after another."""
    assert len(values) <= num, f"{len(values)} where {num} have room"
    return np.concatenate([values, np.arange(len(values), num) % num_rows])


def _nothing() -> tuple[Ints, Ints]:
    return np.zeros(0, np.int64), np.zeros(0, np.int64)

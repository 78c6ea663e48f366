"""The forward pass and all losses of one plan, in fixed shapes, so that it can be compiled and captured.

`forward` is the part that a CUDA graph holds: encoder, frame labels, decoder, answers, clock. The CTC loss stays
outside, because torch's takes lengths from the CPU: it gets logits and gives a gradient back.
Shapes as in `nano_plan`; D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from audioflamingo.config import ENCODER_FRAMES_PER_WINDOW
from audioflamingo.model.decoder import rotary_tables
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.train.nano_items import CTC_ALPHABET
from audioflamingo.train.nano_labels import FRAME_NAMES, FRAME_WEIGHTS
from audioflamingo.train.nano_layers import Layers, Sequences
from audioflamingo.train.nano_plan import Plan

NUM_CLOCK_WINDOWS, WINDOW_S, NUM_CLIPS = 20, 30, 8
PLAIN = Layers()
CTC_LOSS_FRAMES = 4  # 80 ms, about one spoken letter


@dataclass(frozen=True)
class Weights:
    """Of the losses; the answers' is 1.

    Attributes:
        answer: of the answers; 0 leaves the decoder out.
        ctc: of the characters.
        frames: of the frame labels.
        clock: of the time of audio tokens inside the decoder.
    """

    answer: float = 1.0
    ctc: float = 0.5
    frames: float = 0.3
    clock: float = 0.05


class Heads(nn.Module):
    """What teaches the encoder beside the answers, and is dropped from the checkpoint.

    Characters at 50 Hz before the pool, named frames at 25 Hz after it, and, at audio tokens in the middle of the
    decoder, the second of the clip and which clip it is, so that answers can tell times and hold clips apart.
    """

    name_weights: Tensor

    def __init__(self, width: int, decoder_width: int) -> None:
        super().__init__()
        self.ctc_norm = nn.LayerNorm(width)
        self.ctc = nn.Linear(width, len(CTC_ALPHABET) + 1)
        self.events = nn.Linear(width, len(FRAME_NAMES))
        self.clock = nn.Linear(decoder_width, NUM_CLOCK_WINDOWS + WINDOW_S + NUM_CLIPS)
        self.register_buffer("name_weights", torch.tensor(FRAME_WEIGHTS), persistent=False)


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a forward pass reads.

    Attributes:
        mel: (M, bins) log-mel in the weights' dtype.
        labels: (A, names) bool, see `frame_targets`.
        plan: everything else.
    """

    mel: Tensor
    labels: Tensor
    plan: Plan

    @classmethod
    def of(cls, mel: Tensor, plan: Plan) -> Inputs:
        """With the plan's labels."""
        return cls(mel, frame_targets(plan), plan)


@dataclass(frozen=True)
class Parts:
    """What a forward pass gives: the sum of its losses, each of them, and the CTC head's logits (N, 29)."""

    total: Tensor
    answer: Tensor
    frames: Tensor
    clock: Tensor
    ctc_logits: Tensor


@torch.no_grad()
def frame_targets(plan: Plan) -> Tensor:
    """(A, names) bool where a name is heard, from spans: ups and downs, summed up."""
    num_tokens = plan.shape.num_frames // 2
    name, first, end = plan.spans.unbind(1)
    row = name * (num_tokens + 1)
    steps = torch.zeros(len(FRAME_NAMES) * (num_tokens + 1), device=name.device)
    ones = torch.ones(len(name), device=name.device)
    steps.scatter_add_(0, row + first, ones)  # unlike indexing, this never waits for the device
    steps.scatter_add_(0, row + end, -ones)
    # A row a name: along rows a GPU sums in parallel, down columns one element after another.
    return (steps.view(len(FRAME_NAMES), -1).cumsum(1)[:, :-1] > 0.5).T.contiguous()


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """x[index], whose gradient is added up as it comes; that of an index is sorted first."""
    return x.index_select(0, index)


def encode(model: Flamingo, mel: Tensor, plan: Plan, sequences: Sequences, layers: Layers = PLAIN) -> Tensor:
    """(N, D) frames before the pool, of (M, bins) log-mel that lies in one line."""
    encoder = model.encoder
    line = mel.to(encoder.conv1.weight.dtype).T[None]
    x = functional.gelu(encoder.conv1(line)) * plan.frame_valid
    x = functional.gelu(encoder.conv2(x))[0].T
    frames = _rows(x, plan.source) + encoder.embed_positions.weight[plan.place]
    for layer in encoder.layers:
        frames = layers.encoder(layer, frames, sequences)
    return frames


def decode(
    model: Flamingo, features: Tensor, plan: Plan, sequences: Sequences, layers: Layers = PLAIN
) -> tuple[Tensor, Tensor]:
    """(T, D) states after half of the layers, and after the last norm, of features (A, D)."""
    decoder = model.decoder
    audio = model.projector(features)
    x = torch.where(plan.is_audio[:, None], _rows(audio, plan.audio), decoder.embed_tokens(plan.ids))
    cos, sin = rotary_tables(plan.positions, decoder.config.head_dim, decoder.config.rope_theta, x.dtype)
    middle = x
    for index, layer in enumerate(decoder.layers):
        x = layers.decoder(layer, x, cos, sin, sequences)
        if index + 1 == (len(decoder.layers) + 1) // 2:
            middle = x
    return middle, decoder.norm(x)


def forward(
    model: Flamingo, heads: Heads, inputs: Inputs, both: tuple[Sequences, Sequences], weights: Weights, *,
    encoder_listens: bool = True, layers: Layers = PLAIN,
) -> Parts:  # fmt: skip
    """Everything but CTC; see `Parts`. `both` are the encoder's and the decoder's."""
    plan = inputs.plan
    frames = encode(model, inputs.mel, plan, both[0], layers)
    features = model.encoder.layer_norm(frames.view(-1, 2, frames.shape[1]).mean(1))
    logits = heads.events(features).float()
    labels = inputs.labels.to(logits.dtype)
    per_name = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    per_token = per_name @ heads.name_weights.to(per_name.dtype)
    frame_loss = (per_token * plan.is_heard).sum() / plan.is_heard.sum().clamp(min=1)
    ctc_logits = heads.ctc(heads.ctc_norm(frames)).float()
    total = weights.frames * frame_loss
    answer = clock = torch.zeros_like(total)
    if weights.answer:
        heard = features if encoder_listens else features.detach()
        middle, states = decode(model, heard, plan, both[1], layers)
        scores = model.logits(_rows(states, plan.predicts)).float()
        answer = (functional.cross_entropy(scores, plan.targets, reduction="none") * plan.weights).sum()
        clock = _clock_loss(heads, middle, plan)
        total = total + weights.answer * answer + weights.clock * clock
    return Parts(total, answer, frame_loss, clock, ctc_logits)


def _clock_loss(heads: Heads, middle: Tensor, plan: Plan) -> Tensor:
    """Which window, which second within it, and which clip; of steps without sound nothing."""
    scores = heads.clock(_rows(middle, plan.clock_place)).float()
    known = plan.clock_s >= 0
    seconds = plan.clock_s.clamp(min=0)
    window = (seconds // WINDOW_S).clamp(max=NUM_CLOCK_WINDOWS - 1)
    coarse = functional.cross_entropy(scores[:, :NUM_CLOCK_WINDOWS], window, reduction="none")
    rest = scores[:, NUM_CLOCK_WINDOWS:]
    fine = functional.cross_entropy(rest[:, :WINDOW_S], seconds % WINDOW_S, reduction="none")
    clip = plan.clock_clip.clamp(max=NUM_CLIPS - 1)
    which = functional.cross_entropy(rest[:, WINDOW_S:], clip, reduction="none")
    return ((coarse + fine + which) * known).mean()


def ctc_loss(logits: Tensor, plan: Plan) -> Tensor:
    """Negative log-likelihood of `CTC_LOSS_FRAMES` frames of the windows that teach it; logits (N, 29).

    Counted by frames, not by characters: a step where hardly anyone speaks would otherwise outweigh all others.
    """
    if not len(plan.ctc_lengths):
        return logits.sum() * 0.0
    rows = _rows(logits, plan.ctc_frames.flatten()).view(*plan.ctc_frames.shape, -1)
    rows = rows.log_softmax(-1).transpose(0, 1)
    total = functional.ctc_loss(
        rows, plan.ctc_labels, plan.ctc_lengths, plan.ctc_label_lengths, reduction="sum", zero_infinity=True
    )
    return total * (CTC_LOSS_FRAMES / float(plan.ctc_lengths.sum()))


def sequences_of(plan: Plan, model: Flamingo) -> tuple[Sequences, Sequences]:
    """The encoder's and the decoder's."""
    encoder, decoder = model.config.encoder, model.config.decoder
    return (
        Sequences.of(
            plan.encoder_offsets, ENCODER_FRAMES_PER_WINDOW, plan.shape.num_frames, encoder.width // encoder.num_heads
        ),
        Sequences.of(plan.decoder_offsets, plan.shape.longest_tokens, plan.shape.num_tokens, decoder.head_dim),
    )

"""The speech model: phones of streamed text and the codes spoken so far to the codes of the next 40 ms.

After the paper's outline (appendix I: a decoder-only transformer over text and past codec tokens) with these
differences: text and speech are aligned by durations that the teacher engine tells (hard), never by attention; text
is phones; a code is FSQ levels, predicted in one pass, instead of 72 residual levels in four.

Shapes: B sequences, P phones, T codec frames, U = 4 T subframes, K groups of L levels' dimensions, D width.
A unit is a word with the pause after it; its phones see each other and all units before it, so that speech starts when
the first word is complete.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from audioflamingo.config import DecoderConfig
from audioflamingo.speech.attention import WindowTransformer
from audioflamingo.speech.codec import SUBFRAMES, CodecConfig
from audioflamingo.speech.phones import PHONES
from audioflamingo.speech.streaming import StreamState

NUM_MEL_BANDS = 80
MAX_POSITION = 32  # subframes from a phone's start, or to its end, that are told apart
Target = Literal["mel", "codes"]


def layers(width: int, num_layers: int, num_heads: int, ffn_width: int) -> DecoderConfig:
    """Shape of a stack of layers."""
    return DecoderConfig(
        vocab_size=1, width=width, num_layers=num_layers, num_heads=num_heads, num_kv_heads=num_heads,
        head_dim=width // num_heads, ffn_width=ffn_width, rope_theta=10_000.0,
    )  # fmt: skip


@dataclass(frozen=True)
class SpeechConfig:
    """Shapes of the whole voice.

    Attributes:
        target: "codes" of the codec, autoregressive; or "mel" frames, regressed, for a vocoder.
        text: layers over phones.
        frames: layers over codec frames.
        codec: of the codec, or of the vocoder, which is its decoder with another input.
        num_voices: that can be chosen.
        text_window: phones in sight.
        frame_window: codec frames in sight; also bounds the memory of a stream.
    """

    target: Target = "codes"
    text: DecoderConfig = field(default_factory=lambda: layers(192, 3, 4, 512))
    frames: DecoderConfig = field(default_factory=lambda: layers(320, 5, 5, 896))
    codec: CodecConfig = field(default_factory=CodecConfig)
    num_voices: int = 2
    text_window: int = 64
    frame_window: int = 200

    @property
    def feature_width(self) -> int:
        """Numbers that the decoder to sound is given for a codec frame."""
        return self.codec.code_width if self.target == "codes" else SUBFRAMES * NUM_MEL_BANDS


def embedded(target: Target = "codes") -> SpeechConfig:
    """The voice that comes with the package: 10 million parameters."""
    return SpeechConfig(target=target)


def paper_size() -> SpeechConfig:
    """The paper's size, 644 million parameters: frame layers of DiT-XL's width and depth."""
    return SpeechConfig(
        text=layers(768, 4, 12, 2_048),
        frames=layers(1_152, 28, 16, 4_608),
        codec=CodecConfig(frame_width=768, subframe_width=512, frame_layers=3, subframe_layers=3),
        num_voices=16,
        text_window=256,
        frame_window=750,
    )


@dataclass(frozen=True, eq=False)
class SpeechBatch:
    """Clips side by side, padded at their ends.

    Attributes:
        phones: (B, P) int64; padding is a pause of no duration.
        units: (B, P) int64 which unit each belongs to, never falling.
        durations: (B, P) int64 in subframes; each row's sum is at most U.
        voices: (B,) int64.
        history: (B, K L, T) levels of the codes, the own frame included; only for target "codes".
    """

    phones: Tensor
    units: Tensor
    durations: Tensor
    voices: Tensor
    history: Tensor | None = None


class SpeechModel(nn.Module):
    """Phones to durations, and phones with durations to codec frames."""

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        self.config = config
        text, frames = config.text.width, config.frames.width
        self.phone_embedding = nn.Embedding(len(PHONES), text)
        self.text_voice = nn.Embedding(config.num_voices, text)
        self.text_layers = WindowTransformer(config.text, config.text_window)
        self.duration_head = nn.Linear(text, 1)
        self.since_start = nn.Embedding(MAX_POSITION, text)
        self.until_end = nn.Embedding(MAX_POSITION, text)
        self.to_frames = nn.Linear(SUBFRAMES * text, frames)
        self.frame_voice = nn.Embedding(config.num_voices, frames)
        self.history = nn.Linear(config.codec.code_width, frames) if config.target == "codes" else None
        self.frame_layers = WindowTransformer(config.frames, config.frame_window)
        codes_out = config.codec.num_groups * sum(config.codec.levels)
        self.head = nn.Linear(frames, codes_out if config.target == "codes" else config.feature_width)

    def forward(self, batch: SpeechBatch, num_frames: int) -> tuple[Tensor, Tensor]:
        """Training: all at once.

        Returns:
            Predicted durations (B, P), as log(1 + subframes); and the head's output (B, T, out) for each codec frame:
            logits of each dimension's levels one after another, or mel frames.
        """
        hidden = self.read(batch.phones, batch.voices, batch.units)
        index, since, until = expand(batch.durations, num_frames * SUBFRAMES)
        at_subframes = torch.take_along_dim(hidden, index[..., None], dim=1) + self.place(since, until)
        past = None if batch.history is None else one_later(batch.history)
        return self.log_durations(hidden), self.speak(self.frame_input(at_subframes, batch.voices, past))

    def read(self, phones: Tensor, voices: Tensor, units: Tensor, state: StreamState | None = None) -> Tensor:
        """Phones (B, P) in context: (B, P, D). With a state, they are one new unit of the stream."""
        x = self.phone_embedding(phones) + self.text_voice(voices)[:, None]
        hidden: Tensor = self.text_layers(x, units, state)
        return hidden

    def log_durations(self, hidden: Tensor) -> Tensor:
        """(B, P) log(1 + subframes)."""
        out: Tensor = self.duration_head(hidden)[..., 0]
        return out

    def place(self, since: Tensor, until: Tensor) -> Tensor:
        """(..., D) for subframes since a phone's start and until its end, int64."""
        top = MAX_POSITION - 1
        out: Tensor = self.since_start(since.clamp(max=top)) + self.until_end(until.clamp(max=top))
        return out

    def frame_input(self, at_subframes: Tensor, voices: Tensor, past: Tensor | None) -> Tensor:
        """Inputs (B, T, D) of the frame layers.

        Args:
            at_subframes: (B, 4 T, text width).
            voices: (B,).
            past: (B, K L, T) levels of the frame before each; None for target "mel".
        """
        batch = at_subframes.shape[0]
        x: Tensor = self.to_frames(at_subframes.reshape(batch, -1, SUBFRAMES * at_subframes.shape[2]))
        x = x + self.frame_voice(voices)[:, None]
        if self.history is not None:
            assert past is not None, "codes are predicted from codes"
            x = x + self.history(past.transpose(1, 2))
        return x

    def speak(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        """Inputs (B, T, D) to the head's output (B, T, out)."""
        out: Tensor = self.head(self.frame_layers(x, None, state))
        return out

    def level_logits(self, out: Tensor) -> list[Tensor]:
        """The head's output (B, T, out) as one (B, T, K, levels) for each dimension of a group."""
        grouped = out.reshape(*out.shape[:2], self.config.codec.num_groups, -1)
        return list(torch.split(grouped, list(self.config.codec.levels), dim=-1))


def one_later(history: Tensor) -> Tensor:
    """(B, C, T) moved one frame later; the first frame has silence of all zeros before it."""
    return torch.cat([torch.zeros_like(history[..., :1]), history[..., :-1]], dim=-1)


def expand(durations: Tensor, num_subframes: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each subframe: its phone's index, and subframes since the phone's start and until its end.

    Args:
        durations: (B, P) int64.
        num_subframes: U; those after the last phone count as the last phone's.

    Returns:
        Three (B, U) int64.
    """
    ends = durations.cumsum(1)
    times = torch.arange(num_subframes, device=durations.device).expand(durations.shape[0], -1).contiguous()
    index = torch.searchsorted(ends, times, right=True).clamp(max=durations.shape[1] - 1)
    end = torch.take_along_dim(ends, index, 1)
    since = times - end + torch.take_along_dim(durations, index, 1)
    return index, since.clamp(min=0), (end - 1 - times).clamp(min=0)

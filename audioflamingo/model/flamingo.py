"""The whole model: encoder, projector, decoder, and the merge of audio embeddings into token embeddings.

Shapes: W windows, F mel frames, A audio tokens, N packed tokens, D decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audioflamingo.config import ModelConfig
from audioflamingo.errors import PromptError
from audioflamingo.model.attention import Packing
from audioflamingo.model.decoder import AttentionContext, CausalContext, Decoder
from audioflamingo.model.encoder import Encoder
from audioflamingo.model.fingerprint import Fingerprint
from audioflamingo.model.projector import Projector
from audioflamingo.model.rotary_time import rotate_in_time


class Flamingo(nn.Module):
    """Audio Flamingo 3 in any size. Callers never cast: inputs are brought to the weights' dtype and device here.

    Attributes:
        fingerprint: of the weights that it was loaded with, where they were changed since; else None.
    """

    fingerprint: Fingerprint | None = None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.projector = Projector(config.encoder.width, config.decoder.width)
        self.decoder = Decoder(config.decoder)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.norm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in; quantised weights are others."""
        return self.decoder.norm.weight.dtype

    def embed_audio(
        self, mel: Tensor, num_mel_frames: list[int], window_numbers: Sequence[int] | None = None
    ) -> tuple[Tensor, list[int]]:
        """Log-mel windows (W, bins, F) to decoder embeddings (sum of A, D) and A of each window; see `Encoder`.

        `window_numbers` are those of the windows within their sounds; None means that all are of one sound. Only a
        model with rotary time embedding looks at them.
        """
        features, num_audio_tokens = self.encode(mel, num_mel_frames, window_numbers)
        return self.projector(features), num_audio_tokens

    def encode(
        self, mel: Tensor, num_mel_frames: list[int], window_numbers: Sequence[int] | None = None
    ) -> tuple[Tensor, list[int]]:
        """Features (sum of A, encoder's width) before the projector; see `embed_audio`."""
        features, num_audio_tokens = self.encoder(mel, num_mel_frames)
        if self.config.time_rotary is not None:
            numbers = range(len(num_mel_frames)) if window_numbers is None else window_numbers
            features = rotate_in_time(features, num_audio_tokens, list(numbers), self.config.time_rotary)
        return features, num_audio_tokens

    def merge(self, ids: Tensor, audio_embeddings: Tensor | None) -> Tensor:
        """Token embeddings (N, D) of ids (N,) with every placeholder replaced, in order, by an audio embedding.

        Raises:
            PromptError: the counts of placeholders and of audio embeddings differ.
        """
        embeddings: Tensor = self.decoder.embed_tokens(ids.to(self.device))
        placeholders = ids.to(self.device) == self.config.audio_token_id
        num_placeholders = int(placeholders.sum())
        num_embeddings = 0 if audio_embeddings is None else audio_embeddings.shape[0]
        if num_placeholders != num_embeddings:
            raise PromptError(
                f"{num_placeholders} audio placeholders stand in the prompt but {num_embeddings} audio tokens came; "
                "build prompts with audioflamingo.prompt so that the two agree"
            )
        if audio_embeddings is not None and num_embeddings:
            embeddings = embeddings.index_put((placeholders,), audio_embeddings.to(embeddings))
        return embeddings

    def hidden_states(
        self,
        embeddings: Tensor,
        positions: Tensor,
        context: AttentionContext,
        rows: Tensor | None = None,
        *,
        is_spare: bool = False,
    ) -> Tensor:
        """(N, D) embeddings to (N, D) states after the last norm, or only to those of (R,) rows: (R, D).

        With `is_spare` nobody looks at the embeddings again, and they may be overwritten.
        """
        out: Tensor = self.decoder(embeddings, positions, context, rows, is_spare=is_spare)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) states to (..., V) logits."""
        out: Tensor = self.decoder.lm_head(hidden)
        return out

    def forward(
        self, ids: Tensor, lengths: Sequence[int], mel: Tensor | None = None, num_mel_frames: list[int] | None = None
    ) -> Tensor:
        """Logits of whole sequences without a cache: the plainest path, which every faster one must equal.

        Args:
            ids: (N,) token ids of all sequences, one after another, placeholders expanded.
            lengths: tokens of each sequence.
            mel: (W, bins, F) windows of all their sounds, in order, or None.
            num_mel_frames: valid mel frames of each window.

        Returns:
            (N, V) logits in the weights' dtype.
        """
        audio = None if mel is None else self.embed_audio(mel, num_mel_frames or [])[0]
        packing = Packing.of(lengths, self.device)
        hidden = self.hidden_states(self.merge(ids, audio), packing.positions, CausalContext(packing))
        return self.logits(hidden)

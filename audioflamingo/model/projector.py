"""The projector: two linear layers with an exact GELU between, from the encoder's width to the decoder's."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Projector(nn.Module):
    """Audio features to decoder embeddings."""

    def __init__(self, encoder_width: int, decoder_width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(encoder_width, decoder_width)
        self.linear_2 = nn.Linear(decoder_width, decoder_width)

    def forward(self, features: Tensor) -> Tensor:
        """(A, encoder width) to (A, decoder width)."""
        out: Tensor = self.linear_2(functional.gelu(self.linear_1(features)))
        return out

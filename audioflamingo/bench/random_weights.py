"""Models with seeded random weights, made where they are needed: never zeros, on which any machine runs faster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from audioflamingo.config import NANO, DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.model.encoder import sinusoids
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.skeleton import skeleton
from audioflamingo.model.weights.places import Order, take_places
from audioflamingo.model.weights.transfer import Place

SEED = 0
INIT_STD = 0.02
PIECE_VALUES = 1 << 24  # what is quantised at once; its fp32 copies are to stay small
TINY = ModelConfig(
    encoder=EncoderConfig(width=32, num_layers=2, num_heads=2, ffn_width=64),
    decoder=DecoderConfig(
        vocab_size=2048, width=64, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16, ffn_width=96
    ),
    audio_token_id=2045,
)
RANDOM_MODELS = {"random-8b": ModelConfig(), "random-nano": NANO, "random-tiny": TINY}
Named = Iterable[tuple[str, Tensor]]


def random_tensors(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """Our names and seeded tensors, one after another: norms 1, positions sinusoids, the rest normal."""
    generator = torch.Generator(device).manual_seed(SEED)
    for name, like in skeleton(config).state_dict().items():
        tensor = torch.empty(like.shape, dtype=dtype, device=device)
        if "embed_positions" in name:
            tensor.copy_(sinusoids(*like.shape))
        elif "norm" in name:
            tensor.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            tensor.normal_(0, INIT_STD, generator=generator)
        yield name, tensor


def random_state(config: ModelConfig, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """All of them."""
    return dict(random_tensors(config, device, dtype))


def assembled(config: ModelConfig, state: dict[str, Tensor]) -> Flamingo:
    """Our model on these very tensors."""
    model = skeleton(config).eval()
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(False)


def filled(config: ModelConfig, tensors: Named, order: Order, stored: torch.dtype) -> Flamingo:
    """Our model with copies of tensors, quantised on the way where the order says so.

    Args:
        config: its sizes.
        tensors: names and values in the dtype `stored`; each is let go before the next is asked for.
        order: how the model is to lie in memory.
        stored: the dtype of a checkpoint.
    """
    model = skeleton(config)
    places = take_places(model, order, dict.fromkeys(model.state_dict(), stored))
    for name, tensor in tensors:
        write(places[name], tensor)
    return model.eval().requires_grad_(False)


def write(place: Place, tensor: Tensor) -> None:
    """Put a whole tensor in its place, in pieces of whole units."""
    values = tensor.reshape(-1)
    step = max(1, PIECE_VALUES // place.unit) * place.unit
    for first in range(0, len(values), step):
        place.write(first, values[first : first + step])

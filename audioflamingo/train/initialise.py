"""First weights of a model that is trained from nothing."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from audioflamingo.model.encoder import sinusoids
from audioflamingo.model.flamingo import Flamingo

EMBEDDING_STD = 0.1


@torch.no_grad()
def initialise(model: Flamingo, seed: int) -> None:
    """Scaled normal weights, smaller where a layer writes to the residual stream, zero biases.

    The projector's output starts at the text embeddings' own size: the released architecture has no norm there.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d):
            _normal(module.weight, module.weight[0].numel() ** -0.5, generator)
            if module.bias is not None:
                module.bias.zero_()
    _normal(model.decoder.embed_tokens.weight, EMBEDDING_STD, generator)
    _normal(model.decoder.lm_head.weight, 0.5 * model.config.decoder.width**-0.5, generator)
    for name, parameter in model.named_parameters():
        if name.endswith(("out_proj.weight", "o_proj.weight", "fc2.weight", "down_proj.weight")):
            parameter.mul_(1 / math.sqrt(2 * model.config.decoder.num_layers))
    model.projector.linear_2.weight.mul_(EMBEDDING_STD / gelu_rms())
    table = sinusoids(model.config.encoder.max_positions, model.config.encoder.width)
    model.encoder.embed_positions.weight.copy_(table)


def _normal(weight: Tensor, std: float, generator: torch.Generator) -> None:
    weight.copy_(torch.randn(weight.shape, generator=generator) * std)


def gelu_rms() -> float:
    """Root mean square of GELU of a standard normal variable, which the projector's first layer gives."""
    points = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = torch.exp(-points.square() / 2) / math.sqrt(2 * math.pi)
    mean_square = (torch.nn.functional.gelu(points).square() * density).sum() * (points[1] - points[0])
    return math.sqrt(float(mean_square))

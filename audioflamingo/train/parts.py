"""Which parameters a stage trains, and the module that gives its loss. All other parameters stay as they are."""

from __future__ import annotations

from torch import nn

from audioflamingo.model.flamingo import Flamingo
from audioflamingo.train.captioner import Captioner, CaptionLoss
from audioflamingo.train.distributed import Processes
from audioflamingo.train.lean import make_lean
from audioflamingo.train.lora import add_lora
from audioflamingo.train.loss import AnswerLoss, recompute_activations
from audioflamingo.train.quantized import quantize_base
from audioflamingo.train.stages import Stage

FIXED = "encoder.embed_positions.weight"  # a table that the published checkpoints never train


def prepare(
    model: Flamingo, stage: Stage, *, processes: Processes | None = None, num_kept: int = 0
) -> AnswerLoss | CaptionLoss:
    """Freeze what the stage does not train, add what it needs, and return the loss as a module.

    Args:
        model: the base, changed in place.
        stage: what to train.
        processes: of the run, where there are several.
        num_kept: decoder layers, the last ones, that keep their activations although the stage recomputes.
    """
    model.requires_grad_(False)
    if stage.quantize is not None:
        quantize_base(model.decoder, stage.quantize)
    if stage.lora is not None:
        add_lora(model, stage.lora, seed=stage.seed)
    for part in stage.trains:
        if part in ("encoder", "projector", "decoder"):
            model.get_submodule(part).requires_grad_(True)
    model.encoder.embed_positions.weight.requires_grad_(False)
    if "decoder" not in stage.trains:
        make_lean(model.decoder)
    if stage.recomputes:
        recompute_activations(list(model.decoder.layers)[: len(model.decoder.layers) - num_kept])
        if "encoder" in stage.trains:
            recompute_activations(model.encoder.layers)
    loss: AnswerLoss | CaptionLoss
    if stage.captioner is not None:
        config = model.config
        captioner = Captioner(stage.captioner, config.encoder.width, config.decoder.vocab_size, stage.seed)
        loss = CaptionLoss(model, captioner.to(model.device, model.dtype))
    else:
        loss = AnswerLoss(
            model, always_listens=processes is not None and processes.shards, skips=True, processes=processes
        )
    loss.train()
    return loss


def trained(loss: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that change, by their names in the model; the caption decoder's begin with `captioner.`."""
    return {
        name.removeprefix("model."): parameter for name, parameter in loss.named_parameters() if parameter.requires_grad
    }

"""Which parameters a stage trains, and the module that gives its loss. All other parameters stay as they are."""

from __future__ import annotations

from torch import nn

from audioflamingo.model.flamingo import Flamingo
from audioflamingo.train.captioner import Captioner, CaptionLoss
from audioflamingo.train.lora import add_lora
from audioflamingo.train.loss import AnswerLoss, recompute_activations
from audioflamingo.train.stages import Stage

FIXED = "encoder.embed_positions.weight"  # a table that the published checkpoints never train


def prepare(model: Flamingo, stage: Stage, *, always_listens: bool = False) -> AnswerLoss | CaptionLoss:
    """Freeze what the stage does not train, add what it needs, and return the loss as a module.

    Args:
        model: the base, changed in place.
        stage: what to train.
        always_listens: see `AnswerLoss`.
    """
    model.requires_grad_(False)
    if stage.lora is not None:
        add_lora(model, stage.lora, seed=stage.seed)
    for part in stage.trains:
        if part in ("encoder", "projector", "decoder"):
            model.get_submodule(part).requires_grad_(True)
    model.encoder.embed_positions.weight.requires_grad_(False)
    if stage.recomputes:
        recompute_activations(model.decoder.layers)
        if "encoder" in stage.trains:
            recompute_activations(model.encoder.layers)
    loss: AnswerLoss | CaptionLoss
    if stage.captioner is not None:
        config = model.config
        captioner = Captioner(stage.captioner, config.encoder.width, config.decoder.vocab_size, stage.seed)
        loss = CaptionLoss(model, captioner.to(model.device, model.dtype))
    else:
        loss = AnswerLoss(model, always_listens=always_listens)
    loss.train()
    return loss


def trained(loss: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that change, by their names in the model; the caption decoder's begin with `captioner.`."""
    return {
        name.removeprefix("model."): parameter for name, parameter in loss.named_parameters() if parameter.requires_grad
    }

"""The embedded model's curriculum with one thing left out: what each stage and each teacher beside the answers is for.

`benchmarks/nano_ablation.py` trains all of them for the same short time on the same sound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from audioflamingo.train.nano_graphs import Mode
from audioflamingo.train.nano_recipe import NanoRecipe, Phase


def shortened(recipe: NanoRecipe, share: float) -> NanoRecipe:
    """The same recipe in a share of its time: its phases and the ramp of its augmentation, not its rates."""
    phases = tuple(replace(phase, from_s=share * phase.from_s) for phase in recipe.phases)
    return replace(recipe, phases=phases, ramp_s=share * recipe.ramp_s)


def without(recipe: NanoRecipe, name: str) -> NanoRecipe:
    """The recipe `from_nothing`, or one like it, without one of `LEFT_OUT`."""
    return LEFT_OUT[name](recipe)


def _encoder_alone(recipe: NanoRecipe) -> NanoRecipe:
    """The decoder joins at once; what was the encoder's time goes to that phase."""
    first, *others = recipe.phases[1:]
    return replace(recipe, phases=(replace(first, from_s=0.0), *others))


def _adaptor_stage(recipe: NanoRecipe) -> NanoRecipe:
    """Answers move the encoder as soon as there are any."""
    alone, joined, everything = recipe.phases
    return replace(recipe, phases=(alone, replace(everything, from_s=joined.from_s)))


def _listening(recipe: NanoRecipe) -> NanoRecipe:
    """Answers never move the encoder: characters, frames and the clock alone teach it."""
    return replace(recipe, phases=recipe.phases[:-1])


def _loss(name: str) -> Callable[[NanoRecipe], NanoRecipe]:
    def out(recipe: NanoRecipe) -> NanoRecipe:
        return replace(recipe, phases=tuple(_with_loss(phase, name, 0.0) for phase in recipe.phases))

    return out


def _with_loss(phase: Phase, name: str, weight: float) -> Phase:
    return replace(phase, mode=Mode(replace(phase.mode.weights, **{name: weight}), phase.mode.encoder_listens))


def _teachers(recipe: NanoRecipe) -> NanoRecipe:
    """Nothing but answers teaches; without them the encoder cannot learn alone."""
    whole = _encoder_alone(recipe)
    for name in ("ctc", "frames", "clock"):
        whole = _loss(name)(whole)
    return replace(whole, phases=(replace(whole.phases[-1], from_s=0.0),))


def _long(recipe: NanoRecipe) -> NanoRecipe:
    """No sound of more than 40 s."""
    return replace(recipe, long_share=0.0)


def _several_clips(recipe: NanoRecipe) -> NanoRecipe:
    """No conversation about more than one clip."""
    return replace(recipe, one_clip=True)


LEFT_OUT: dict[str, Callable[[NanoRecipe], NanoRecipe]] = {
    "encoder_alone": _encoder_alone,
    "adaptor_stage": _adaptor_stage,
    "listening": _listening,
    "characters": _loss("ctc"),
    "frames": _loss("frames"),
    "clock": _loss("clock"),
    "teachers": _teachers,
    "long": _long,
    "several_clips": _several_clips,
}
"""By what is left out."""

"""Sound events made by parametric synthesis: `KINDS` names them, `render` makes one.

Every kind has at least two independent algorithms ("variants"). The last is held out: training never hears it, so that
a test on it measures recognition of a synthesis family that the model has not met.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from audioflamingo.errors import OptionError
from audioflamingo.world.sounds import (
    birds,
    blasts,
    clicks,
    critters,
    horns,
    impacts,
    machines,
    mammals,
    people,
    signals,
    tones,
    vehicles,
    water,
    weather,
)
from audioflamingo.world.sounds.kinds import Kind, Recipe, Variant
from audioflamingo.world.sounds.synthesis import RATE, num_samples

__all__ = ["HELD_OUT_VARIANT", "KINDS", "PEAK", "TRAINING_VARIANTS", "VARIANTS", "Kind", "render", "render_by"]

PEAK = 0.9
SHORTEST_EVENT_S = 0.3
LONGEST_EVENT_S = 4.0
LONGEST_STEADY_S = 600.0

_MODULES = (
    mammals,
    birds,
    critters,
    signals,
    horns,
    impacts,
    blasts,
    water,
    weather,
    people,
    vehicles,
    machines,
    clicks,
    tones,
)
_RECIPES: dict[str, Recipe] = {recipe.kind.name: recipe for module in _MODULES for recipe in module.RECIPES}

KINDS: dict[str, Kind] = {name: recipe.kind for name, recipe in _RECIPES.items()}
VARIANTS: dict[str, tuple[Variant, ...]] = {name: recipe.variants for name, recipe in _RECIPES.items()}
HELD_OUT_VARIANT: dict[str, int] = {name: len(variants) - 1 for name, variants in VARIANTS.items()}
TRAINING_VARIANTS: dict[str, range] = {name: range(held_out) for name, held_out in HELD_OUT_VARIANT.items()}


def render(
    kind: str,
    rng: np.random.Generator,
    *,
    variant: int | None = None,
    duration_s: float | None = None,
    repeats: int | None = None,
) -> npt.NDArray[np.float32]:
    """Makes one natural event of a kind.

    Args:
        kind: a name in `KINDS`.
        rng: source of all variation; the same state gives the same samples.
        variant: index into `VARIANTS[kind]`; None draws one that training may use.
        duration_s: exact duration of a steady kind; longest duration of any other, which is faded out there.
            None draws a natural one: 0.3 to 4 s for single events.
        repeats: units in the event (barks in a burst); None draws a natural number.

    Returns:
        (N,) float32 mono samples at 16 kHz with a peak of `PEAK`.

    Raises:
        OptionError: the kind, the variant, the duration or the number of repeats is not allowed.
    """
    _recipe(kind)
    index = _variant_index(kind, variant, rng)
    return render_by(VARIANTS[kind][index], kind, rng, duration_s=duration_s, repeats=repeats)


def render_by(
    algorithm: Variant,
    kind: str,
    rng: np.random.Generator,
    *,
    duration_s: float | None = None,
    repeats: int | None = None,
) -> npt.NDArray[np.float32]:
    """The same by an algorithm that may be none of the kind's own (`more`)."""
    recipe = _recipe(kind)
    longest = _checked_duration(kind, duration_s)
    if recipe.kind.steady:
        n = num_samples(longest if longest is not None else rng.uniform(*recipe.unit_s))
        return _finish(algorithm(rng, n / RATE), n)
    limit = min(longest or LONGEST_EVENT_S, LONGEST_EVENT_S)
    return _event(recipe, algorithm, rng, limit, _checked_repeats(recipe, repeats, rng))


def _recipe(kind: str) -> Recipe:
    if kind not in _RECIPES:
        raise OptionError(f"no kind of sound is called {kind!r}; choose one of {', '.join(sorted(_RECIPES))}.")
    return _RECIPES[kind]


def _variant_index(kind: str, variant: int | None, rng: np.random.Generator) -> int:
    if variant is None:
        return int(rng.integers(len(TRAINING_VARIANTS[kind])))
    if not 0 <= variant < len(VARIANTS[kind]):
        raise OptionError(f"{kind} has no variant {variant}; choose 0 to {len(VARIANTS[kind]) - 1}.")
    return variant


def _checked_duration(kind: str, duration_s: float | None) -> float | None:
    if duration_s is not None and not SHORTEST_EVENT_S <= duration_s <= LONGEST_STEADY_S:
        raise OptionError(
            f"duration_s is {duration_s}; {kind} can be made from {SHORTEST_EVENT_S} s to {LONGEST_STEADY_S:.0f} s."
        )
    return duration_s


def _checked_repeats(recipe: Recipe, repeats: int | None, rng: np.random.Generator) -> int:
    if repeats is None:
        return int(rng.integers(1, recipe.most_repeats + 1))
    if not 1 <= repeats <= recipe.most_repeats:
        raise OptionError(f"repeats is {repeats}; {recipe.kind.name} takes 1 to {recipe.most_repeats}.")
    return repeats


def _event(
    recipe: Recipe, algorithm: Variant, rng: np.random.Generator, limit_s: float, repeats: int
) -> npt.NDArray[np.float32]:
    """One unit, or a burst of the same voice with small changes of pitch and level."""
    duration_s = min(float(rng.uniform(*recipe.unit_s)), limit_s)
    voice = int(rng.integers(2**62))
    unit = np.asarray(algorithm(np.random.default_rng(voice), duration_s), dtype=np.float64)
    pieces: list[npt.NDArray[np.float64]] = [unit]
    for _ in range(repeats - 1):
        gap = np.zeros(num_samples(float(rng.uniform(*recipe.gap_s))))
        again = _varied(unit, rng)
        if sum(map(len, pieces)) + len(gap) + len(again) > limit_s * RATE:
            break
        pieces += [gap, again]
    whole = np.concatenate(pieces)
    return _finish(whole, max(len(whole), num_samples(SHORTEST_EVENT_S)))


def _varied(unit: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """The same sound a little faster or slower, louder or softer."""
    n = round(len(unit) / rng.uniform(0.94, 1.06))
    again = np.interp(np.linspace(0.0, len(unit) - 1.0, n), np.arange(len(unit)), unit)
    return np.asarray(again * rng.uniform(0.6, 1.0))


def _finish(x: npt.NDArray[np.floating], n: int) -> npt.NDArray[np.float32]:
    """Exactly `n` samples without offset, with edges that do not click, at the common peak."""
    out = np.zeros(n)
    num = min(n, len(x))
    out[:num] = x[:num] - np.mean(x[:num])
    edge = min(80, num // 4)
    out[:edge] *= np.linspace(0.0, 1.0, edge)
    out[num - edge : num] *= np.linspace(1.0, 0.0, edge)
    peak = float(np.abs(out).max())
    assert 0.0 < peak < np.inf, "a variant made silence or something that is not a number"
    return np.asarray(out * (PEAK / peak), dtype=np.float32)

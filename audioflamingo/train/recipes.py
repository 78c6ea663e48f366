"""Training recipes: functions that return a whole configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from audioflamingo.config import NANO, ModelConfig
from audioflamingo.train.features import Augmentation
from audioflamingo.train.step import StepPlan


@dataclass(frozen=True)
class Recipe:
    """How a model is trained from nothing within a budget of time.

    All moments are shares of the budget, so that the same recipe runs for seconds in a test and for minutes for real.

    Attributes:
        model: shapes.
        budget_s: seconds of training in all, over all resumed pieces.
        batch_s: seconds of sound a step.
        short_until: until then only clips up to `short_s`.
        short_s: see above.
        decoder_from: until then the encoder learns alone, by characters and events.
        encoder_listens_from: until then the decoder's loss does not reach the encoder.
        augment_from: augmentation is ramped in from here ...
        augment_to: ... to here.
        encoder_rate: peak learning rate of the encoder and its heads.
        decoder_rate: peak learning rate of projector and decoder.
        warmup: share of its own time in which a rate rises.
        augmentation: at full strength.
        seed: of weights, clips and batches.
    """

    model: ModelConfig = NANO
    budget_s: float = 1_080.0
    batch_s: float = 1_000.0
    short_until: float = 0.08
    short_s: float = 6.0
    decoder_from: float = 0.2
    encoder_listens_from: float = 0.27
    augment_from: float = 0.06
    augment_to: float = 0.3
    encoder_rate: float = 1.5e-3
    decoder_rate: float = 1.5e-3
    warmup: float = 0.02
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(equaliser=0.5, warp=0.1, time_masks=2, frequency_masks=2)
    )
    seed: int = 20261124

    def plan(self, progress: float) -> StepPlan:
        """What a step trains at this share of the budget."""
        if progress < self.decoder_from:
            return StepPlan(decoder=False)
        return StepPlan(ctc_weight=0.5, encoder_listens=progress >= self.encoder_listens_from)

    def rates(self, progress: float) -> dict[str, float]:
        """Learning rates at this share of the budget: a short rise, then half a cosine down to a hundredth."""
        own = (progress - self.decoder_from) / (1 - self.decoder_from)
        return {
            "encoder": self.encoder_rate * self._shape(progress),
            "decoder": self.decoder_rate * self._shape(own) if own >= 0 else 0.0,
        }

    def augmentation_at(self, progress: float) -> Augmentation | None:
        """How strongly batches are changed at this share of the budget."""
        share = (progress - self.augment_from) / max(self.augment_to - self.augment_from, 1e-9)
        return None if share <= 0 else self.augmentation.scaled(min(share, 1.0))

    def _shape(self, progress: float) -> float:
        if progress < self.warmup:
            return max(progress, 1e-3) / self.warmup
        done = min((progress - self.warmup) / (1 - self.warmup), 1.0)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


def nano(budget_s: float = 1_080.0, batch_s: float = 1_000.0) -> Recipe:
    """The embedded model, from nothing."""
    return Recipe(budget_s=budget_s, batch_s=batch_s)

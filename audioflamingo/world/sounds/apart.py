"""Two more algorithms of many kinds, for training alone, written with no knowledge of the held-out ones.

Each starts from what happens in the thing that sounds: shocks that arrive from along a lightning, bubbles that ring by
their size, a latch that falls into its plate. Size, material, pace, place and distance vary widely. See `more`.
"""

from __future__ import annotations

from audioflamingo.world.sounds.apart_blasts import BLASTS
from audioflamingo.world.sounds.apart_devices import DEVICES
from audioflamingo.world.sounds.apart_impacts import IMPACTS
from audioflamingo.world.sounds.apart_water import WATER
from audioflamingo.world.sounds.kinds import Variant

APART: dict[str, tuple[Variant, ...]] = {**BLASTS, **DEVICES, **IMPACTS, **WATER}
"""By the kind's name."""

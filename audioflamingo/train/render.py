"""The plain mixture of scenes: transcripts, single sounds, pairs of them, speech over sound, and nothing."""

from __future__ import annotations

from audioflamingo.world.scenes import (
    Dice,
    Scene,
    Source,
    empty_scene,
    sound_scene,
    speech_over_sound_scene,
    speech_scene,
)

# Shares of scenes; spoken ones are the longest and the hardest, so they are most of the time.
MIXTURE: dict[str, float] = {
    "speech": 0.42,
    "speech_long": 0.06,
    "speech_over_sound": 0.08,
    "one_sound": 0.22,
    "two_sounds": 0.17,
    "empty": 0.05,
}
CLEAN_SHARE = 0.2  # of the scenes: no channel but a mild gain


def draw_scene(dice: Dice) -> Scene:
    """A scene of the training side of a kind drawn from `MIXTURE`."""
    strength = 0.0 if dice.plain.random() < CLEAN_SHARE else dice.plain.uniform(0.3, 1.0)
    kind = dice.plain.choices(list(MIXTURE), list(MIXTURE.values()))[0]
    return scene_of(kind, Source("train", strength=strength), dice)


def scene_of(kind: str, source: Source, dice: Dice) -> Scene:
    """A scene of one kind of `MIXTURE`."""
    if kind == "speech":
        return speech_scene(source, dice)
    if kind == "speech_long":
        return speech_scene(source, dice, num_sentences=dice.plain.randint(2, 8))
    if kind == "speech_over_sound":
        return speech_over_sound_scene(source, dice)
    if kind == "empty":
        return empty_scene(dice)
    return sound_scene(source, dice, num_events=1 if kind == "one_sound" else 2)

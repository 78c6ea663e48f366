"""Who speaks in a scene: distinct voices with everything about them that can be heard, and moods as rendered.

A mood here is a way of rendering (rate, pitch, range of the pitch, loudness, brightness), not an acted feeling.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from audioflamingo.world.tract import ENGINE as TRACT
from audioflamingo.world.tract import draw_voice
from audioflamingo.world.voices import (
    ESPEAK_ACCENTS,
    ESPEAK_FEMALE,
    ESPEAK_MALE,
    FESTIVAL_VOICES,
    FIXED_PITCH,
    FLITE_VOICES,
    Sex,
    Speaker,
)

FLITE_SHARE = 0.3
FLITE_WEIGHTS = {"cmu_us_slt": 2, "cmu_us_kal": 1, "cmu_us_kal16": 1, "cmu_us_awb": 1}
SLOW, NORMAL, FAST = (0.68, 0.78), (0.92, 1.1), (1.35, 1.5)
LOW, HIGH = 0.78, 1.28  # factors on the pitch that are heard as another height
PACES = {"slow": SLOW, "normal": NORMAL, "fast": FAST}
UNCLEAR_SEX = ("whisper", "whisperf", "grandma", "grandpa", "aunty")  # variants whose sex is hard to hear


@dataclass(frozen=True)
class Mood:
    """Factors on a voice's rate, pitch and liveliness, its loudness in dB, and the slope that it adds to 8 kHz in dB.

    Strong enough that two moods of voices nobody knows are not nearly the same.
    """

    rate: float
    pitch: float
    liveliness: float
    loudness_db: float
    tilt_db: float = 0.0


MOODS = {
    "calm": Mood(0.9, 1.0, 0.8, 0.0),
    "excited": Mood(1.45, 1.4, 1.5, 3.0, 2.0),
    "sad": Mood(0.66, 0.84, 0.25, -5.0, -8.0),
    "angry": Mood(1.2, 0.85, 2.4, 7.0, 12.0),
}


@dataclass(frozen=True)
class Voice:
    """One person of a scene.

    Attributes:
        name: within the scene, "s1", "s2", ...
        speaker: engine, voice and settings.
        pace: "slow", "normal" or "fast".
        mood: a key of `MOODS`.
    """

    name: str
    speaker: Speaker
    pace: str = "normal"
    mood: str = "calm"

    @property
    def sex(self) -> Sex:
        """As the voice is described by its makers."""
        return self.speaker.sex

    @property
    def person(self) -> str:
        """The noun for the speaker: "woman" or "man"."""
        return "woman" if self.sex == "female" else "man"

    @property
    def loudness_db(self) -> float:
        """Relative to ordinary speech."""
        return MOODS[self.mood].loudness_db

    @property
    def tilt_db(self) -> float:
        """How much brighter the mood makes the voice at 8 kHz than at 0."""
        return MOODS[self.mood].tilt_db

    def rendered(self) -> Speaker:
        """The settings with the mood applied."""
        mood, own = MOODS[self.mood], self.speaker
        return replace(
            own, rate=own.rate * mood.rate, pitch=own.pitch * mood.pitch, liveliness=own.liveliness * mood.liveliness
        )

    def pitched(self, factor: float) -> Voice:
        """The same person, higher or lower."""
        return replace(self, speaker=replace(self.speaker, pitch=self.speaker.pitch * factor))

    def in_mood(self, mood: str) -> Voice:
        """The same person in another mood."""
        return replace(self, mood=mood)


def draw_cast(
    rng: random.Random, engines: tuple[str, ...], sexes: tuple[Sex | None, ...], *,
    paces: tuple[str, ...] = ("normal",), tract_share: float = 0.0,
) -> tuple[Voice, ...]:  # fmt: skip
    """Distinct voices, one for each entry of `sexes` (None: either); a share of them are speakers of `tract`."""
    cast: list[Voice] = []
    for index, sex in enumerate(sexes):
        pace = rng.choice(paces)
        taken = {voice.speaker.voice for voice in cast}
        drawn: Sex = "female" if rng.random() < 0.5 else "male"
        speaker = _draw(rng, engines, sex or drawn, PACES[pace], tract_share)
        for _ in range(50):
            if speaker.voice not in taken:
                break
            speaker = _draw(rng, engines, speaker.sex, PACES[pace], tract_share)
        cast.append(Voice(f"s{index + 1}", speaker, pace))
    return tuple(cast)


def _draw(
    rng: random.Random, engines: tuple[str, ...], sex: Sex, pace: tuple[float, float], tract_share: float
) -> Speaker:
    """A voice of one sex; an engine without such voices is passed over."""
    if tract_share and rng.random() < tract_share:
        voice = draw_voice(rng, clear=True)
        return Speaker(TRACT, voice, sex, rng.uniform(*pace), rng.uniform(0.9, 1.1), rng.uniform(0.8, 1.2))
    able = [engine for engine in engines if engine == "espeak-ng" or sex in _voices(engine).values()] or list(engines)
    engine = able[0]
    if len(able) > 1:
        engine = (
            "flite" if "flite" in able and rng.random() < FLITE_SHARE else rng.choice([e for e in able if e != "flite"])
        )
    rate, pitch, liveliness = rng.uniform(*pace), rng.uniform(0.9, 1.1), rng.uniform(0.8, 1.2)
    if engine == "espeak-ng":
        variants = [name for name in (ESPEAK_FEMALE if sex == "female" else ESPEAK_MALE) if name not in UNCLEAR_SEX]
        return Speaker(engine, f"{rng.choice(ESPEAK_ACCENTS)}+{rng.choice(variants)}", sex, rate, pitch, liveliness)
    voices = _voices(engine)
    able_to_move = [name for name in sorted(voices) if name not in FIXED_PITCH] or sorted(voices)
    fitting = [name for name in able_to_move if voices[name] == sex] or able_to_move
    name = rng.choices(fitting, [FLITE_WEIGHTS.get(one, 1) for one in fitting])[0]
    return Speaker(engine, name, voices[name], rate, pitch, liveliness)


def _voices(engine: str) -> dict[str, Sex]:
    return FLITE_VOICES if engine == "flite" else FESTIVAL_VOICES

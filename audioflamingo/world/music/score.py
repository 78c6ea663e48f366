"""A piece of music on paper: parts with notes, and the facts from which they were written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from audioflamingo.world.music.theory import Mode, chord_name, key_name, numeral

Role = Literal["melody", "second voice", "chords", "bass", "drums"]
Texture = Literal["monophonic", "homophonic", "polyphonic"]
Contour = Literal["rising", "falling", "arch", "wave"]
Dynamics = Literal["soft", "loud", "getting louder", "getting softer"]
TempoChange = Literal["steady", "faster", "slower"]
Articulation = Literal["legato", "staccato"]

TEMPO_RATIO = {"steady": 1.0, "faster": 1.4, "slower": 0.7}
"""Tempo of the second half over that of the first."""


@dataclass(frozen=True)
class Note:
    """One note; times in beats from the start, velocity from 0 to 1."""

    onset: float
    duration: float
    pitch: int
    velocity: float


@dataclass(frozen=True)
class Part:
    """What one instrument plays."""

    role: Role
    instrument: str
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Facts:
    """What a piece is; a composer turns this into notes.

    Attributes:
        tonic: pitch class of the key.
        tempo_bpm: beats a minute at the start.
        beats_per_bar: metre, 2, 3 or 4.
        style: such as "waltz".
        degrees: scale degree of the chord of each bar.
        instruments: by role.
        late: the role that enters at half of the piece, if any.
        modulation: semitones by which the second half is moved; 0 for none.
    """

    tonic: int
    mode: Mode
    tempo_bpm: int
    beats_per_bar: int
    style: str
    degrees: tuple[int, ...]
    instruments: dict[Role, str]
    texture: Texture
    contour: Contour
    dynamics: Dynamics
    articulation: Articulation
    tempo_change: TempoChange = "steady"
    late: Role | None = None
    modulation: int = 0

    @property
    def num_bars(self) -> int:
        """One chord each."""
        return len(self.degrees)

    @property
    def num_beats(self) -> int:
        """From the first beat to the end of the last bar."""
        return self.num_bars * self.beats_per_bar

    @property
    def half_beat(self) -> int:
        """Where the second half begins: the first beat of a bar."""
        return self.num_bars // 2 * self.beats_per_bar

    def time_s(self, beat: float) -> float:
        """When a beat falls, in seconds from the start."""
        first = min(beat, self.half_beat)
        rest = max(beat - self.half_beat, 0.0) / TEMPO_RATIO[self.tempo_change]
        return (first + rest) * 60.0 / self.tempo_bpm


@dataclass(frozen=True)
class Score:
    """A piece: facts and notes."""

    facts: Facts
    parts: tuple[Part, ...]

    @property
    def duration_s(self) -> float:
        """Until the end of the last bar; notes may ring on a little."""
        return self.facts.time_s(self.facts.num_beats)

    def truth(self) -> dict[str, Any]:
        """Everything as plain JSON values; note times in seconds from the start of the piece."""
        facts = self.facts
        return {
            "key": key_name(facts.tonic, facts.mode),
            "tonic": facts.tonic,
            "mode": facts.mode,
            "tempo_bpm": facts.tempo_bpm,
            "beats_per_bar": facts.beats_per_bar,
            "style": facts.style,
            "chords": [chord_name(facts.tonic, facts.mode, degree) for degree in facts.degrees],
            "numerals": [numeral(facts.mode, degree) for degree in facts.degrees],
            "texture": facts.texture,
            "contour": facts.contour,
            "dynamics": facts.dynamics,
            "articulation": facts.articulation,
            "tempo_change": facts.tempo_change,
            "modulation": facts.modulation,
            "late": facts.instruments.get(facts.late) if facts.late else None,
            "half_s": round(facts.time_s(facts.half_beat), 3),
            "parts": [self._part(part) for part in self.parts],
        }

    def _part(self, part: Part) -> dict[str, Any]:
        time_s = self.facts.time_s
        notes = [
            [round(time_s(n.onset), 3), round(time_s(n.onset + n.duration), 3), n.pitch, round(n.velocity, 3)]
            for n in part.notes
        ]
        return {"role": part.role, "instrument": part.instrument, "notes": notes}

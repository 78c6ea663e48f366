"""Whose turn it is: end of turn, interruption, false interruption, and what to prefill meanwhile. Plain Python.

Fed with one verdict of the speech detector a step, it answers with actions. Nothing here waits, sleeps or knows
threads, so every case is a scripted timeline in a test. Defaults follow the usual real-time interface: 300 ms of sound
kept from before the onset, 500 ms of silence end a turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audioflamingo.config import WINDOW_S
from audioflamingo.errors import OptionError

State = Literal["idle", "user", "thinking", "speaking", "paused"]
ActionKind = Literal["begin_turn", "window", "listen", "end_turn", "pause", "resume", "cancel"]


@dataclass(frozen=True)
class TurnOptions:
    """Times in milliseconds.

    Attributes:
        onset_ms: so much speech makes a turn begin.
        silence_ms: so much silence ends it.
        listen_ms: so much silence makes it likely that it ends: it can be read ahead.
        prefix_ms: sound kept from before the onset.
        pause_ms: so much speech while we speak pauses our sound at once.
        confirm_ms: so much speech makes it an interruption.
        resume_ms: so much silence makes it a false one, and our sound goes on.
        max_turn_ms: a turn is ended after so long whatever is heard.
    """

    onset_ms: int = 60
    silence_ms: int = 500
    listen_ms: int = 160
    prefix_ms: int = 300
    pause_ms: int = 60
    confirm_ms: int = 300
    resume_ms: int = 400
    max_turn_ms: int = 600_000

    def __post_init__(self) -> None:
        wrong = [name for name, value in vars(self).items() if value <= 0]
        if wrong:
            raise OptionError(f"{', '.join(wrong)} must be above 0 ms")
        if self.confirm_ms < self.pause_ms:
            raise OptionError(f"confirm_ms is {self.confirm_ms}; it must be pause_ms ({self.pause_ms}) or more")


@dataclass(frozen=True)
class Action:
    """What to do now.

    Attributes:
        kind: "begin_turn": the user began at `start_ms`; "window": the user's sound up to `end_ms` makes another full
            window of 30 s and can be encoded; "listen": the same for all of the turn, which will end at `end_ms` if
            the user goes on being silent; "end_turn": answer what was said from `start_ms` to `end_ms`; "pause" and
            "resume" our sound; "cancel": stop it and the answer, cut what was not heard from the history.
        time_ms: when it was decided.
        start_ms: see `kind`.
        end_ms: see `kind`.
    """

    kind: ActionKind
    time_ms: int
    start_ms: int = 0
    end_ms: int = 0


class Turns:
    """The state machine of one conversation.

    Attributes:
        state: "idle": nobody speaks; "user": the user does; "thinking": the answer is awaited; "speaking": our sound
            plays; "paused": it is held because the user may have begun to speak.
    """

    def __init__(self, options: TurnOptions | None = None) -> None:
        self.options = options or TurnOptions()
        self.state: State = "idle"
        self._time_ms = 0
        self._speech_ms = 0  # of the run of speech that is going on
        self._silence_ms = 0  # of the run of silence
        self._start_ms = 0  # of the turn, its prefix included
        self._speech_end_ms = 0
        self._onset_of_turn_ms = 0
        self._earliest_ms = 0  # a turn's prefix does not reach into the turn before
        self._num_windows = 0
        self._listened_ms = 0  # the end of speech up to which "listen" was said
        self._is_cut = False  # the turn was ended while the user still spoke
        self._is_deaf = False  # to the rest of a run of speech whose turn was ended or dropped from outside

    def step(self, is_speech: bool, duration_ms: int, hangover_ms: int = 0) -> list[Action]:
        """What follows from the next `duration_ms` of the user's microphone.

        Args:
            is_speech: the detector's verdict on it.
            duration_ms: of it.
            hangover_ms: silence at the end of a run of speech that the detector still called speech; it counts as
                silence once the run is over.
        """
        self._time_ms += duration_ms
        self._is_deaf = self._is_deaf and is_speech
        is_speech = is_speech and not self._is_deaf
        self._speech_ms = self._speech_ms + duration_ms if is_speech else 0
        before_ms = self._silence_ms or hangover_ms
        self._silence_ms = 0 if is_speech else before_ms + duration_ms
        if is_speech and self.state in ("user", "paused"):
            self._speech_end_ms = self._time_ms
        handlers = {
            "idle": self._idle, "user": self._user, "thinking": self._thinking, "speaking": self._speaking,
            "paused": self._paused,
        }  # fmt: skip
        return handlers[self.state]()

    def answer_begins(self) -> None:
        """The first packet of the answer is about to be played. An answer that comes too late is not spoken."""
        if self.state == "thinking":
            self.state = "speaking"

    def answer_ends(self) -> None:
        """The last packet was played. While the user may be interrupting, that is no longer an interruption."""
        if self.state in ("thinking", "speaking"):
            self.state = "idle"
        elif self.state == "paused":
            self.state = "user"

    def end_now(self) -> list[Action]:
        """The user's turn is over by other means than silence, such as a button; nothing where there is none.

        What is said on in the same breath begins no turn.
        """
        if self.state != "user":
            return []
        self._is_deaf = True
        return [self._end(is_cut=self._silence_ms < self.options.silence_ms)]

    def drop_turn(self) -> None:
        """The user's turn is not wanted: nobody answers it, and the next one does not reach back into it."""
        self._is_deaf = True
        if self.state in ("user", "thinking"):
            self.state = "idle"
        self._earliest_ms = self._time_ms
        self._speech_ms = 0

    @property
    def may_play(self) -> bool:
        """Whether our sound may be heard now."""
        return self.state == "speaking"

    def _idle(self) -> list[Action]:
        if self._speech_ms < self.options.onset_ms:
            return []
        self._begin(self._onset_ms())
        return [self._action("begin_turn", self._start_ms)]

    def _user(self) -> list[Action]:
        actions = self._new_windows()
        length_ms = self._time_ms - self._start_ms
        if self._silence_ms >= self.options.silence_ms or length_ms >= self.options.max_turn_ms:
            actions.append(self._end(is_cut=self._silence_ms < self.options.silence_ms))
        elif self._silence_ms >= self.options.listen_ms and self._listened_ms != self._speech_end_ms:
            self._listened_ms = self._speech_end_ms
            actions.append(self._action("listen", self._start_ms, self._speech_end_ms))
        return actions

    def _thinking(self) -> list[Action]:
        """The user goes on before we began to speak: it was one turn, so the old answer is dropped and it continues."""
        self._is_cut = self._is_cut and self._silence_ms == 0
        if self._is_cut or self._speech_ms < self.options.onset_ms:
            return []
        self.state = "user"
        self._speech_end_ms = self._time_ms
        return [self._action("cancel"), self._action("begin_turn", self._start_ms)]

    def _speaking(self) -> list[Action]:
        if self._speech_ms < self.options.pause_ms:
            return []
        self._begin(self._onset_ms())
        self.state = "paused"
        return [self._action("pause")]

    def _paused(self) -> list[Action]:
        if self._speech_end_ms - self._start_ms - self._prefix_ms() >= self.options.confirm_ms:
            self.state = "user"
            return [self._action("cancel"), self._action("begin_turn", self._start_ms)]
        if self._silence_ms >= self.options.resume_ms:
            self.state = "speaking"
            return [self._action("resume")]
        return []

    def _end(self, *, is_cut: bool) -> Action:
        self.state = "thinking"
        self._earliest_ms = self._time_ms
        self._is_cut = is_cut
        self._speech_ms = 0
        end_ms = self._time_ms if is_cut else self._speech_end_ms
        return self._action("end_turn", self._start_ms, max(end_ms, self._start_ms))

    def _onset_ms(self) -> int:
        return self._time_ms - self._speech_ms

    def _prefix_ms(self) -> int:
        return self._onset_of_turn_ms - self._start_ms

    def _begin(self, onset_ms: int) -> None:
        self.state = "user"
        self._onset_of_turn_ms = onset_ms
        self._start_ms = max(onset_ms - self.options.prefix_ms, self._earliest_ms)
        self._speech_end_ms = self._time_ms
        self._num_windows = 0

    def _new_windows(self) -> list[Action]:
        """Full windows that the running turn has gained; they are encoded while the user still speaks."""
        num_full = (self._time_ms - self._start_ms) // (WINDOW_S * 1000)
        fresh = range(self._num_windows + 1, num_full + 1)
        self._num_windows = num_full
        ends = (self._start_ms + number * WINDOW_S * 1000 for number in fresh)
        return [self._action("window", self._start_ms, end_ms) for end_ms in ends]

    def _action(self, kind: ActionKind, start_ms: int = 0, end_ms: int = 0) -> Action:
        return Action(kind, self._time_ms, start_ms, end_ms)

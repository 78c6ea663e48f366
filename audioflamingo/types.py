"""The few frozen values that cross rooms: sounds, messages, prompts, sampling options, streamed deltas and replies.

Shape legend used across the package: B sequences, W windows, F mel frames, S encoder frames, A audio tokens, T tokens,
D width, H heads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:  # numpy would be most of the time that importing the package takes
    import numpy as np
    import numpy.typing as npt

    from audioflamingo.errors import FlamingoError

SAMPLE_RATE_HZ = 16_000

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "stop_string", "error"]
LongAudio = Literal["error", "truncate", "split"]


@dataclass(frozen=True, eq=False)
class Audio:
    """A mono sound at 16 kHz.

    Attributes:
        samples: (N,) float32, nominally within [-1, 1].
        name: what errors and reports call it, usually the file's name.
    """

    samples: npt.NDArray[np.float32]
    name: str = "audio"

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ

    @cached_property
    def key(self) -> str:
        """Hex digest of the samples: equal sounds have equal keys, whatever their names."""
        samples = self.samples
        return hashlib.sha256(samples.data if samples.flags.c_contiguous else samples.tobytes()).hexdigest()

    def equals(self, other: Audio) -> bool:
        """Whether both have the same samples; hashed, which takes time, only where their lengths leave it open."""
        return self is other or (len(self.samples) == len(other.samples) and self.key == other.key)


@dataclass(frozen=True)
class Message:
    """One turn of a conversation: text and sounds in the order in which they are said."""

    role: Role
    content: tuple[str | Audio, ...]


@dataclass(frozen=True)
class Span:
    """Where one sound stands in a prompt: positions [start, start + num_tokens) hold its audio tokens."""

    start: int
    num_tokens: int
    audio_index: int


@dataclass(frozen=True, eq=False)
class Prompt:
    """Token ids with the sounds to be merged into them.

    Attributes:
        ids: (T,) token ids; each audio token is one `<sound>` placeholder.
        spans: where each sound stands, in order of position. One sound may stand in several places.
        audios: the distinct sounds, indexed by `Span.audio_index`.
    """

    ids: tuple[int, ...]
    spans: tuple[Span, ...] = ()
    audios: tuple[Audio, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Number of positions that the prompt takes in the decoder."""
        return len(self.ids)

    @property
    def num_audio_tokens(self) -> int:
        """How many of them are audio tokens."""
        return sum(span.num_tokens for span in self.spans)


class TokenRule(Protocol):
    """What one reply has to keep to, token by token: a schema, an end to thoughts. One object serves one reply."""

    def restrict(self, scores: Any) -> Any:
        """Logits, a float32 tensor (V,), with every token that may not come now at -inf; at least one stays."""

    def accept(self, token: int) -> None:
        """Take the token that was chosen."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The default is greedy and therefore the same every time.

    Attributes:
        max_new_tokens: most tokens of an answer.
        temperature: 0 is greedy; above it, logits are divided by it.
        top_k: keep the k likeliest tokens; 0 keeps all.
        top_p: keep the smallest set of tokens whose probability reaches p; 1 keeps all.
        repetition_penalty: divides positive and multiplies negative logits of tokens seen before; 1 is off.
        seed: of the random choice; the same seed gives the same answer.
        stop: the answer ends before the first of these strings.
        use_adapter: whether the engine's adapter is on for this reply.
        rule: makes the reply's `TokenRule`, if it has one.
    """

    max_new_tokens: int = 1024
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    use_adapter: bool = False
    rule: Callable[[], TokenRule] | None = None


@dataclass(frozen=True)
class Beams:
    """How an answer is searched for, rather than written token by token.

    Attributes:
        num: beginnings of the answer that go on side by side, at least two.
        length_penalty: whole answers are compared by their log-probability over their length to this power.
    """

    num: int
    length_penalty: float = 1.0


@dataclass(frozen=True)
class Usage:
    """What an answer cost."""

    prompt_tokens: int
    audio_tokens: int
    completion_tokens: int
    audio_s: float


@dataclass(frozen=True)
class Delta:
    """A piece of an answer as it comes.

    Attributes:
        index: which conversation of the batch it belongs to.
        text: new text, never half a character; may be empty.
        token_ids: the tokens that were decoded since the last delta.
        finish_reason: set on the last delta of an answer only.
        usage: set on the last delta only.
        thoughts: new text of the model's reasoning, which precedes the answer and is never part of `text`.
        error: why the answer ended before it was complete; set where the finish reason is "error", and only then.
        notes: what came to pass while it was answered and its author should know of; on the last delta only.
    """

    index: int
    text: str
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    thoughts: str = ""
    error: FlamingoError | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """A whole answer.

    Attributes:
        text: the answer without special tokens.
        token_ids: its tokens, the end token included where one came.
        finish_reason: "stop" at the model's own end, "length" at max_new_tokens, "stop_string" at a stop string.
        usage: what it cost.
        notes: everything done to the request that its author should know of, such as a truncation.
        thoughts: the model's reasoning, where it was asked to think; never part of `text`.
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    notes: tuple[str, ...] = field(default=())
    thoughts: str = ""

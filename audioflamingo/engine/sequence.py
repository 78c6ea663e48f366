"""One request in the engine: a prompt, how to sample, what has come so far, and its place in the cache. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from audioflamingo.engine.blocks import BLOCK_TOKENS
from audioflamingo.errors import FlamingoError
from audioflamingo.types import Delta, FinishReason, Prompt, Sampling, Usage

if TYPE_CHECKING:
    from audioflamingo.engine.content import SoundKeys


@dataclass(frozen=True, eq=False)
class Piece:
    """One window of a sound in a prompt: positions [start, start + num_tokens) hold its audio tokens.

    Attributes:
        start: first position.
        num_tokens: positions, at least one.
        samples: (N,) float32 at 16 kHz.
        number: of the window within its sound.
        is_numbered: whether the model hears it otherwise by that number.
        sound_keys: of all windows of its sound.
    """

    start: int
    num_tokens: int
    samples: Any
    number: int
    is_numbered: bool
    sound_keys: SoundKeys

    @cached_property
    def key(self) -> bytes:
        """Names the window's content, and its number where the model looks at that; the first one takes a while."""
        content = self.sound_keys.take()[self.number]
        return content + self.number.to_bytes(4, "little") if self.is_numbered else content

    @property
    def end(self) -> int:
        """The first position after it."""
        return self.start + self.num_tokens


@dataclass(eq=False)
class Sequence:
    """One prompt on its way to its answer.

    Attributes:
        index: what its deltas carry: which prompt of a call it is, or a number of the caller's own.
        prompt: token ids and sounds.
        sampling: how its tokens are chosen.
        max_positions: positions that the decoder has; prompt and answer together never take more.
        pieces: windows of its sounds, in order of position.
        generated: tokens decoded so far, the end token included where one came.
        finish_reason: None until the answer is complete.
        error: why there is no complete answer, where the finish reason is "error".
        is_cancelled: nobody waits for it any more.
        is_listening: its sounds are being encoded beside others' answers; its prompt is read afterwards.
        blocks: of the cache, in order of position.
        block_keys: of its first blocks, as many as were asked for so far.
        num_cached: its first positions, whose keys and values are in the cache.
        num_reused: positions of its prompt that others had left in the cache when it was first let in.
    """

    index: int
    prompt: Prompt
    sampling: Sampling
    max_positions: int
    pieces: tuple[Piece, ...] = ()
    generated: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    error: FlamingoError | None = None
    is_cancelled: bool = False
    is_listening: bool = False
    blocks: list[int] = field(default_factory=list)
    block_keys: list[bytes] = field(default_factory=list)
    num_cached: int = 0
    num_reused: int = 0

    @property
    def num_prompt_tokens(self) -> int:
        """Positions that the prompt takes."""
        return self.prompt.num_tokens

    @property
    def num_generated(self) -> int:
        """Tokens decoded so far."""
        return len(self.generated)

    @property
    def num_tokens(self) -> int:
        """Prompt and answer together."""
        return self.prompt.num_tokens + len(self.generated)

    @property
    def max_tokens(self) -> int:
        """Most positions that it will ever take."""
        return min(self.num_prompt_tokens + self.sampling.max_new_tokens, self.max_positions)

    @property
    def last_token(self) -> int:
        """The token that the next decode step takes in."""
        return self.generated[-1]

    @property
    def is_decoding(self) -> bool:
        """Whether all but its last token is in the cache, and that one was generated."""
        return bool(self.generated) and self.num_cached == self.num_tokens - 1

    @property
    def is_finished(self) -> bool:
        """Whether the answer is complete, or never will be."""
        return self.finish_reason is not None or self.is_cancelled

    @property
    def usage(self) -> Usage:
        """What it cost so far."""
        return Usage(
            prompt_tokens=self.num_prompt_tokens,
            audio_tokens=self.prompt.num_audio_tokens,
            completion_tokens=self.num_generated,
            audio_s=sum(audio.duration_s for audio in self.prompt.audios),
        )

    def ids(self, start: int, end: int) -> tuple[int, ...]:
        """Token ids of positions [start, end), prompt and answer."""
        num_prompt = self.num_prompt_tokens
        own = self.generated[max(0, start - num_prompt) : max(0, end - num_prompt)]
        return (*self.prompt.ids[start:end], *own) if own else self.prompt.ids[start:end]

    def runs(self, num_tokens: int) -> list[tuple[int, int]]:
        """(first slot, positions) of the stretches of memory that hold the first `num_tokens` positions, in order."""
        runs: list[list[int]] = []
        for place in range(-(-num_tokens // BLOCK_TOKENS)):
            block = self.blocks[place]
            if place and block == self.blocks[place - 1] + 1:
                runs[-1][1] += BLOCK_TOKENS
            else:
                runs.append([block * BLOCK_TOKENS, BLOCK_TOKENS])
        runs[-1][1] -= -num_tokens % BLOCK_TOKENS
        return [(first, size) for first, size in runs]

    def slot(self, position: int) -> int:
        """Where a position's key and value lie."""
        return self.blocks[position // BLOCK_TOKENS] * BLOCK_TOKENS + position % BLOCK_TOKENS

    def fail(self, error: FlamingoError) -> Delta:
        """End without a complete answer; returns the delta that says so."""
        self.finish_reason, self.error = "error", error
        return Delta(self.index, "", (), "error", self.usage, error=error)

    def delta(self, text: str, num_new_tokens: int) -> Delta:
        """The piece of the answer that the last `num_new_tokens` tokens gave."""
        new = tuple(self.generated[self.num_generated - num_new_tokens :])
        if not self.is_finished:
            return Delta(self.index, text, new)
        return Delta(self.index, text, new, self.finish_reason, self.usage)

"""One request in the engine: a prompt, how to sample, and what has come so far. No torch in here."""

from __future__ import annotations

from dataclasses import dataclass, field

from audioflamingo.types import Delta, FinishReason, Prompt, Sampling, Usage


@dataclass(eq=False)
class Sequence:
    """One prompt on its way to its answer.

    Attributes:
        index: which prompt of the call it is; deltas carry it.
        prompt: token ids and sounds.
        sampling: how its tokens are chosen.
        max_positions: positions that the decoder has; prompt and answer together never take more.
        generated: tokens decoded so far, the end token included where one came.
        finish_reason: None until the answer is complete.
    """

    index: int
    prompt: Prompt
    sampling: Sampling
    max_positions: int
    generated: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None

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
        return self.num_prompt_tokens + self.num_generated

    @property
    def max_tokens(self) -> int:
        """Most positions that it will ever take, which is what the scheduler reserves."""
        return min(self.num_prompt_tokens + self.sampling.max_new_tokens, self.max_positions)

    @property
    def last_token(self) -> int:
        """The token that the next decode step takes in."""
        return self.generated[-1]

    @property
    def is_finished(self) -> bool:
        """Whether the answer is complete."""
        return self.finish_reason is not None

    @property
    def audio_keys(self) -> set[str]:
        """Keys of the sounds in the prompt."""
        return {self.prompt.audios[span.audio_index].key for span in self.prompt.spans}

    @property
    def usage(self) -> Usage:
        """What it cost so far."""
        return Usage(
            prompt_tokens=self.num_prompt_tokens,
            audio_tokens=self.prompt.num_audio_tokens,
            completion_tokens=self.num_generated,
            audio_s=sum(audio.duration_s for audio in self.prompt.audios),
        )

    def delta(self, text: str, num_new_tokens: int) -> Delta:
        """The piece of the answer that the last `num_new_tokens` tokens gave."""
        new = tuple(self.generated[self.num_generated - num_new_tokens :])
        if not self.is_finished:
            return Delta(self.index, text, new)
        return Delta(self.index, text, new, self.finish_reason, self.usage)

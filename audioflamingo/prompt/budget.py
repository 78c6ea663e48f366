"""How many tokens a prompt may take, and how many of them a sound is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audioflamingo.audio import WINDOW_SAMPLES, num_audio_tokens
from audioflamingo.config import MAX_NEW_TOKENS, MAX_PROMPT_TOKENS, DecoderConfig
from audioflamingo.errors import OptionError, PromptError
from audioflamingo.types import Audio, Prompt

AudioRounding = Literal["exact", "nvidia"]


ROUNDING_TOKENS = 10  # NVIDIA's code rounds each window's count to this multiple, halves to even


@dataclass(frozen=True)
class Budget:
    """Limits on tokens, kept before anything is computed.

    Attributes:
        max_prompt_tokens: most positions of a prompt, audio tokens included.
        max_new_tokens: most tokens of the answer, which need positions, too.
        max_positions: positions that the decoder has.
    """

    max_prompt_tokens: int = MAX_PROMPT_TOKENS
    max_new_tokens: int = MAX_NEW_TOKENS
    max_positions: int = DecoderConfig.max_positions

    def __post_init__(self) -> None:
        """Check that the limits leave room for at least one token of prompt and answer each.

        Raises:
            OptionError: they do not.
        """
        if self.max_prompt_tokens < 1 or self.max_new_tokens < 1:
            raise OptionError(
                f"max_prompt_tokens is {self.max_prompt_tokens} and max_new_tokens {self.max_new_tokens}; "
                "both must be at least 1"
            )
        if self.max_new_tokens >= self.max_positions:
            raise OptionError(
                f"max_new_tokens is {self.max_new_tokens:,}, but the model has {self.max_positions:,} positions "
                "for prompt and answer together; lower it"
            )

    @property
    def prompt_limit(self) -> int:
        """Most tokens of a prompt, given that its answer needs positions, too."""
        return min(self.max_prompt_tokens, self.max_positions - self.max_new_tokens)

    def check_sounds(self, num_audio_tokens: int) -> None:
        """Refuse sounds that do not fit even without text.

        Raises:
            PromptError: with the count and the remedy.
        """
        if num_audio_tokens > self.prompt_limit:
            raise PromptError(f"the prompt's sounds alone take {num_audio_tokens:,} tokens; {self._remedy()}")

    def check(self, num_tokens: int, num_audio_tokens: int) -> None:
        """Refuse a prompt that does not fit.

        Raises:
            PromptError: with the counts and the remedy.
        """
        if num_tokens > self.prompt_limit:
            raise PromptError(
                f"the prompt takes {num_tokens:,} tokens ({num_audio_tokens:,} of them audio); {self._remedy()}"
            )

    def _remedy(self) -> str:
        if self.prompt_limit == self.max_prompt_tokens:
            raised = f"raise max_prompt_tokens (the model has {self.max_positions:,} positions)"
        else:
            raised = f"lower max_new_tokens ({self.max_new_tokens:,} of the model's {self.max_positions:,} positions)"
        return f"at most {self.prompt_limit:,} fit. Shorten the sounds or the text, or {raised}"


def describe_budget(prompt: Prompt, budget: Budget) -> str:
    """One line on what a prompt takes and what is left."""
    return (
        f"{prompt.num_tokens:,} of {budget.prompt_limit:,} prompt tokens: {prompt.num_audio_tokens:,} audio in "
        f"{len(prompt.spans)} place(s) and {prompt.num_tokens - prompt.num_audio_tokens:,} text; "
        f"up to {budget.max_new_tokens:,} tokens of answer; {budget.max_positions:,} positions"
    )


def count_audio_tokens(audio: Audio, rounding: AudioRounding = "exact") -> int:
    """Positions that a sound takes in a prompt.

    Args:
        audio: the sound.
        rounding: "exact" counts the embeddings that cover the sound. "nvidia" rounds each window's count to a
            multiple of ten, halves to even, as NVIDIA's code does; where that is more than the exact count, the
            model must take the following embeddings of the window, which cover its padding.

    Raises:
        PromptError: the sound is too short for a single token.
        OptionError: there is no such rounding.
    """
    num_samples = len(audio.samples)
    if rounding == "exact":
        count = num_audio_tokens(num_samples)
    elif rounding == "nvidia":
        num_full, rest = divmod(num_samples, WINDOW_SAMPLES)
        count = num_full * _rounded(num_audio_tokens(WINDOW_SAMPLES)) + _rounded(num_audio_tokens(rest) if rest else 0)
    else:
        raise OptionError(f"audio_rounding is {rounding!r}; allowed are 'exact' and 'nvidia'")
    if count < 1:
        raise PromptError(
            f"{audio.name} is {audio.duration_s:.3f} s, too short to give an audio token with "
            f"audio_rounding={rounding!r}; give a longer sound (0.3 s is enough)"
        )
    return count


def _rounded(num_tokens: int) -> int:
    return round(num_tokens / ROUNDING_TOKENS) * ROUNDING_TOKENS

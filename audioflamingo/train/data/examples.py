"""A row as the model reads it: the prompt of inference, the answers behind it, and which tokens are learnt.

Every prompt comes from `audioflamingo.prompt`, so that training and inference cannot differ. Learnt are the words of
the assistant and the `<|im_end|>` behind each answer; nothing else ever is (facts of the released trainer: the same).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from audioflamingo.audio import num_audio_tokens, num_windows
from audioflamingo.prompt import Budget, ChatTemplate, PromptStyle, build
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.train.data.rows import Row, TrainingDataError
from audioflamingo.train.data.sounds import load_sound
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, Message, Prompt, Span

_TAG = re.compile(r"<sound(?:-([0-9]{1,6}))?>", re.IGNORECASE)
# Published rows write "<sound>\nquestion"; how a prompt parts sound and text is the style's business alone.
_LINE_BREAKS = re.compile(r"(?:[ \t]*\n[ \t]*)?(<sound(?:-[0-9]{1,6})?>)(?:[ \t]*\n[ \t]*)?", re.IGNORECASE)
_LEADING_TAGS = re.compile(r"(?:\s*<sound(?:-[0-9]{1,6})?>)+\s*", re.IGNORECASE)
_STUB = Audio(np.zeros(1_280, np.float32), "stub")
_STUB_TOKENS = num_audio_tokens(len(_STUB.samples))


@dataclass(frozen=True, eq=False)
class Example:
    """One training sequence.

    Attributes:
        id: the row's.
        ids: (T,) token ids, placeholders expanded, from the system's turn to the last answer's end.
        is_target: (T,) whether a token is learnt.
        spans: places of the sounds in `ids`.
        audios: the distinct sounds, indexed by `Span.audio_index`.
    """

    id: str
    ids: tuple[int, ...]
    is_target: tuple[bool, ...]
    spans: tuple[Span, ...] = ()
    audios: tuple[Audio, ...] = ()

    @property
    def num_targets(self) -> int:
        """How many tokens are learnt."""
        return sum(self.is_target)


@dataclass(frozen=True)
class Size:
    """What a row costs: positions in the decoder, and the audio tokens among them."""

    num_tokens: int
    num_audio_tokens: int


@dataclass(frozen=True)
class ExampleMaker:
    """Rows to examples for one checkpoint.

    Attributes:
        tokenizer: the checkpoint's.
        template: the checkpoint's.
        max_tokens: longest sequence, answers included.
        max_windows: most windows of 30 s of one sound.
        style: of the prompt; None leaves it to the checkpoint, as at inference.
    """

    tokenizer: Tokenizer
    template: ChatTemplate
    max_tokens: int
    max_windows: int
    style: PromptStyle | None = None

    def measure(self, row: Row, durations_s: Sequence[float]) -> Size:
        """Size of a row, from the lengths of its sounds alone; its conversation is checked on the way.

        Raises:
            FlamingoError: the row cannot become an example.
        """
        lengths = [round(duration_s * SAMPLE_RATE_HZ) for duration_s in durations_s]
        for path, num_samples in zip(row.sounds, lengths, strict=True):
            self._check_windows(path.name, num_samples)
        prompt, mask = self._write(row, [_STUB] * len(lengths))
        audio = [num_audio_tokens(lengths[sound]) for sound in _order(row)]
        num_tokens = len(mask) - _STUB_TOKENS * len(prompt.spans) + sum(audio)
        self._check_tokens(num_tokens)
        return Size(num_tokens, sum(audio))

    def make(self, row: Row) -> Example:
        """The example of a row, its sounds decoded.

        Raises:
            FlamingoError: the row cannot become an example.
        """
        sounds = [load_sound(source) for source in row.sounds]
        for sound in sounds:
            self._check_windows(sound.name, len(sound.samples))
        prompt, mask = self._write(row, sounds)
        self._check_tokens(len(mask))
        return Example(row.id, prompt.ids, mask, prompt.spans, prompt.audios)

    def _write(self, row: Row, sounds: Sequence[Audio]) -> tuple[Prompt, tuple[bool, ...]]:
        messages = as_conversation(row, sounds)
        prompt = self._prompt(messages[:-1])
        last = self._answer_ids(messages[-1])
        mask = [False] * len(prompt.ids)
        for turn, message in enumerate(messages[:-1]):
            if message.role == "assistant":
                start, end = self._place(messages[:turn], prompt.ids)
                mask[start:end] = [True] * (end - start)
        ids = (*prompt.ids, *last)
        return Prompt(ids, prompt.spans, prompt.audios), (*mask, *[True] * len(last))

    def _prompt(self, messages: Sequence[Message]) -> Prompt:
        budget = Budget(max_prompt_tokens=1 << 24, max_new_tokens=1, max_positions=(1 << 24) + 1)
        return build(messages, self.tokenizer, self.template, style=self.style, budget=budget)

    def _answer_ids(self, message: Message) -> list[int]:
        (text,) = message.content
        assert isinstance(text, str)
        return [*self.tokenizer.encode_plain(text), self.tokenizer.im_end]

    def _place(self, before: Sequence[Message], ids: tuple[int, ...]) -> tuple[int, int]:
        """Where an earlier answer and its end stand in the whole prompt."""
        asked = self._prompt(before).ids
        if ids[: len(asked)] != asked or self.tokenizer.im_end not in ids[len(asked) :]:
            raise TrainingDataError(
                "an earlier answer is not found in the whole prompt: this checkpoint's chat template rewrites history; "
                "split the conversation into rows of one answer"
            )
        return len(asked), ids.index(self.tokenizer.im_end, len(asked)) + 1

    def _check_windows(self, name: str, num_samples: int) -> None:
        if num_windows(num_samples) > self.max_windows:
            raise TrainingDataError(
                f"{name} is {num_samples / SAMPLE_RATE_HZ:.1f} s; this recipe takes at most {self.max_windows * 30} s"
            )
        if not num_audio_tokens(num_samples):
            raise TrainingDataError(f"{name} is {num_samples} samples, too short for one audio token")

    def _check_tokens(self, num_tokens: int) -> None:
        if num_tokens > self.max_tokens:
            raise TrainingDataError(f"it takes {num_tokens:,} tokens; this recipe takes at most {self.max_tokens:,}")


def as_conversation(row: Row, sounds: Sequence[Audio]) -> tuple[Message, ...]:
    """A row as messages: each sound belongs to the turn that names it first.

    Plain `<sound>` tags take the row's sounds in turn. `<sound-k>` names the k-th sound of the row, from 1; where the
    plain tags are fewer than the sounds, they leave those out that are named so.
    Where nothing is tagged, all sounds come first in the first human turn.

    Raises:
        TrainingDataError: tags and sounds do not fit.
    """
    tagger = _Tagger(sounds, iter(_order(row)))
    is_tagged = _has_tags(row)
    messages: list[Message] = []
    for role, text in row.turns:
        own: tuple[Audio, ...] = ()
        if role == "user":
            if not is_tagged:
                text, is_tagged = "<sound>" * len(sounds) + text, True
            own, text = tagger.turn(text)
        messages.append(Message(role, (*own, text.strip())))
    return tuple(messages)


class _Tagger:
    """Renumbers tags by the order in which sounds are first named, which is how prompts count them."""

    def __init__(self, sounds: Sequence[Audio], order: Iterator[int]) -> None:
        self._sounds, self._order = sounds, order
        self._numbers: dict[int, int] = {}

    def turn(self, text: str) -> tuple[tuple[Audio, ...], str]:
        """The sounds that a human turn brings, and its text."""
        num_before = len(self._numbers)
        text = _TAG.sub(lambda _: self._renamed(next(self._order)), _without_blanks(text))
        return tuple(self._sounds[sound] for sound in list(self._numbers)[num_before:]), text

    def _renamed(self, sound: int) -> str:
        return f"<sound-{self._numbers.setdefault(sound, len(self._numbers) + 1)}>"


def _without_blanks(text: str) -> str:
    """A turn without line breaks around its tags, and without any blanks around those it begins with."""
    leading = _LEADING_TAGS.match(text)
    end = leading.end() if leading else 0
    return "".join(text[:end].split()) + _LINE_BREAKS.sub(r"\1", text[end:]).strip()


def _has_tags(row: Row) -> bool:
    return any(role == "user" and _TAG.search(text) for role, text in row.turns)


def _order(row: Row) -> list[int]:
    """Index into the row's sounds for every tag, in order.

    Raises:
        TrainingDataError: tags and sounds do not fit.
    """
    num_sounds = len(row.sounds)
    tags = [tag for role, text in row.turns if role == "user" for tag in _TAG.finditer(text)]
    if not tags:
        return list(range(num_sounds))
    named = {int(tag[1]) - 1 for tag in tags if tag[1]}
    num_plain = sum(not tag[1] for tag in tags)
    if any(not 0 <= k < num_sounds for k in named):
        raise TrainingDataError(f"it has a <sound-{max(named) + 1}> but {num_sounds} sound(s)")
    # Either the plain tags are all the sounds, and numbers refer back; or numbers name sounds of their own.
    plain = [k for k in range(num_sounds) if num_plain == num_sounds or k not in named]
    if num_plain != len(plain):
        raise TrainingDataError(
            f"it has {num_plain} <sound> placeholder(s) for {len(plain)} sound(s); they must be equal"
        )
    rest = iter(plain)
    return [int(tag[1]) - 1 if tag[1] else next(rest) for tag in tags]

"""From turns to token ids in which every sound is still one placeholder.

The template writes the conversation as one string, and encoding that whole string is what the model saw in training.
Texts that spell control tokens are the exception: they are kept out of the string behind random marks, and come back
as ordinary characters once the template's own control tokens have been found. Nothing else changes, for an encoder
cuts its text at control tokens anyway.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from audioflamingo.errors import CheckpointError
from audioflamingo.prompt.placeholders import Slot, Turn
from audioflamingo.prompt.template import ChatTemplate
from audioflamingo.tokenizer import SOUND, Tokenizer


def encode_turns(
    turns: Sequence[Turn],
    tokenizer: Tokenizer,
    template: ChatTemplate,
    *,
    template_places_sounds: bool,
    continue_final: bool,
) -> tuple[list[int], list[int]]:
    """Token ids of a conversation, and which sound each `<sound>` among them stands for.

    Args:
        turns: the conversation.
        tokenizer: the checkpoint's.
        template: the checkpoint's.
        template_places_sounds: whether a turn that starts with its only sound leaves the form to the template.
        continue_final: whether the last turn stays open, instead of a new one being opened for the assistant.

    Raises:
        CheckpointError: the template loses sounds or the text to continue.
        PromptError: the template refuses the conversation, or a text is not valid Unicode.
    """
    hides_text = any(tokenizer.has_special(text) for turn in turns for text in turn.texts)
    writing = _Writing(template, hides_text=hides_text, template_places_sounds=template_places_sounds)
    string = writing.render(turns, continue_final=continue_final)
    ids = _encode(writing.pieces(string), tokenizer)
    if ids.count(tokenizer.sound) != len(writing.sounds) or len(writing.sounds) != sum(len(t.slots) for t in turns):
        raise CheckpointError(
            f"the chat template kept {len(writing.sounds)} of {sum(len(t.slots) for t in turns)} sounds, "
            f"and {ids.count(tokenizer.sound)} {SOUND} tokens were encoded; its files do not fit together"
        )
    return ids, writing.sounds


class _Writing:
    """One conversation on its way through a template.

    Attributes:
        sounds: the sound of each slot in the order in which they were found in the string.
    """

    def __init__(self, template: ChatTemplate, *, hides_text: bool, template_places_sounds: bool) -> None:
        self.sounds: list[int] = []
        self._template = template
        self._hides_text = hides_text
        self._template_places_sounds = template_places_sounds and template.takes_items
        self._mark = f"mark{secrets.token_hex(8)}"  # cannot be guessed, so no text can hold one
        self._hidden: list[str] = []
        self._placed_by_template: list[int] = []

    def render(self, turns: Sequence[Turn], *, continue_final: bool) -> str:
        """The conversation as a string with marks in it."""
        written = [{"role": turn.role, "content": self._content(turn)} for turn in turns]
        if not continue_final:
            return self._template.render(written, add_generation_prompt=True)
        end = f"{self._mark}e."
        written[-1]["content"] = _with_end(written[-1]["content"], f"{end} ")
        string = self._template.render(written, add_generation_prompt=False)
        if string.count(end) != 1:
            raise CheckpointError("the chat template does not keep the last message's text, so it cannot be continued")
        before, _, after = string.partition(end)
        # A template that strips texts would have stripped the end of this one too, had the mark not been there.
        return before if after.startswith(" ") else before.rstrip()

    def pieces(self, string: str) -> Iterator[tuple[bool, str]]:
        """Pairs of whether a text was hidden, and the text. Marks of sounds become `<sound>`."""
        by_template = iter(self._placed_by_template)
        shown, done = "", 0
        for found in re.finditer(f"{self._mark}([ts])([0-9]+)\\.|{re.escape(SOUND)}", string):
            shown += string[done : found.start()]
            done = found.end()
            if found[1] == "t":
                yield False, shown
                yield True, self._hidden[int(found[2])]
                shown = ""
            else:
                self.sounds.append(int(found[2]) if found[1] else next(by_template, -1))
                shown += SOUND
        yield False, shown + string[done:]

    def _content(self, turn: Turn) -> Any:
        by_template = self._template_places_sounds and len(turn.slots) == 1 and isinstance(turn.parts[0], Slot)
        parts = turn.parts[1:] if by_template else turn.parts
        text = "".join(f"{self._mark}s{part.sound}." if isinstance(part, Slot) else self._text(part) for part in parts)
        if not self._template.takes_items:
            return text
        items = [{"type": "text", "text": text}] if text else []
        if by_template:
            self._placed_by_template.append(turn.slots[0].sound)
            return [{"type": "audio"}, *items]
        return items

    def _text(self, text: str) -> str:
        core = text.strip()
        if not self._hides_text or not core:
            return text
        self._hidden.append(core)
        at = text.index(core)  # blanks at the ends stay visible, for the template may strip them
        return f"{text[:at]}{self._mark}t{len(self._hidden) - 1}.{text[at + len(core) :]}"


def _with_end(content: Any, end: str) -> Any:
    if isinstance(content, str):
        return content + end
    return [*content[:-1], {**content[-1], "text": content[-1]["text"] + end}]


def _encode(pieces: Iterator[tuple[bool, str]], tokenizer: Tokenizer) -> list[int]:
    cut: list[int | str] = []
    for hidden, text in pieces:
        for part in [text] if hidden else tokenizer.split_special(text):
            if isinstance(part, str) and cut and isinstance(cut[-1], str):
                cut[-1] += part  # merges may reach across, as in the whole string
            else:
                cut.append(part)
    ids: list[int] = []
    for part in cut:
        ids += [part] if isinstance(part, int) else tokenizer.encode_plain(part)
    return ids

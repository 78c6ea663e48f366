"""From messages to a `Prompt`: token ids with one placeholder per audio token, and where each sound stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from audioflamingo.errors import OptionError
from audioflamingo.prompt.budget import AudioRounding, Budget, count_audio_tokens
from audioflamingo.prompt.messages import as_messages, check_turns
from audioflamingo.prompt.placeholders import place_sounds, with_newlines
from audioflamingo.prompt.render import encode_turns
from audioflamingo.prompt.template import ChatTemplate, PromptStyle
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.types import Audio, Message, Prompt, Span

DEFAULT_BUDGET = Budget()


def build(
    messages: Sequence[Message | Mapping[str, Any]] | Message | str,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    *,
    style: PromptStyle | None = None,
    audio_rounding: AudioRounding = "exact",
    budget: Budget = DEFAULT_BUDGET,
    continue_final: bool = False,
    placeholders: bool = True,
) -> Prompt:
    """Write a conversation as the model reads it.

    Args:
        messages: the conversation, in any form that `as_messages` takes.
        tokenizer: the checkpoint's.
        template: the checkpoint's.
        style: "hf" puts text right behind a sound; "nvidia" puts a newline between them and drops blanks around
            newlines. None takes the checkpoint's own.
        audio_rounding: how audio tokens are counted, see `count_audio_tokens`.
        budget: limits on tokens.
        continue_final: continue the last message, which is the assistant's, instead of answering the user's.
        placeholders: whether `<sound>` and `<sound-k>` in texts place sounds, see `place_sounds`.

    Raises:
        PromptError: messages, placeholders and budget do not fit together.
        CheckpointError: the chat template fails on the conversation.
        OptionError: there is no such style or rounding.
    """
    style = template.default_style if style is None else style
    if style not in get_args(PromptStyle):
        raise OptionError(f"style is {style!r}; allowed are {', '.join(get_args(PromptStyle))}")
    conversation = as_messages(messages)
    check_turns(conversation, continue_final)
    turns, sounds = place_sounds(conversation, placeholders=placeholders)
    if style == "nvidia":
        finished = len(turns) - continue_final  # an answer to be continued stays as it is
        turns = (*map(with_newlines, turns[:finished]), *turns[finished:])
    counts = [count_audio_tokens(sound, audio_rounding) for sound in sounds]
    num_audio = sum(counts[slot.sound] for turn in turns for slot in turn.slots)
    boundaries = tokenizer.sound_boundaries
    budget.check_sounds(num_audio)
    ids, slot_sounds = encode_turns(
        turns, tokenizer, template, template_places_sounds=style == "hf", continue_final=continue_final
    )
    num_boundaries = len(boundaries or ()) * len(slot_sounds)
    budget.check(len(ids) - len(slot_sounds) + num_audio + num_boundaries, num_audio)
    return _expanded(ids, tokenizer.sound, [(sounds[sound], counts[sound]) for sound in slot_sounds], boundaries)


def _expanded(
    ids: Sequence[int], sound_id: int, slots: Sequence[tuple[Audio, int]], boundaries: tuple[int, int] | None
) -> Prompt:
    """Repeat each placeholder once per audio token, between the boundaries if any; equal sounds become one."""
    before, behind = (boundaries[:1], boundaries[1:]) if boundaries else ((), ())
    expanded: list[int] = []
    spans: list[Span] = []
    audios: list[Audio] = []
    waiting = iter(slots)
    for token_id in ids:
        if token_id != sound_id:
            expanded.append(token_id)
            continue
        audio, num_tokens = next(waiting)
        index = next((place for place, one in enumerate(audios) if one.equals(audio)), len(audios))
        if index == len(audios):
            audios.append(audio)
        expanded += before
        spans.append(Span(len(expanded), num_tokens, index))
        expanded += [sound_id] * num_tokens
        expanded += behind
    return Prompt(tuple(expanded), tuple(spans), tuple(audios))

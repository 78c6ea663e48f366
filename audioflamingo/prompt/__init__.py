"""From messages to token ids and the places of sounds. The only room that counts audio tokens.

Data goes one way: `messages` checks, `placeholders` gives every sound its place, `template` and `render` write and
encode, `budget` counts and refuses, `build` puts it together.
"""

from audioflamingo.prompt.budget import AudioRounding, Budget, count_audio_tokens, describe_budget
from audioflamingo.prompt.build import build
from audioflamingo.prompt.messages import as_messages
from audioflamingo.prompt.phrases import (
    CAPTION_PROMPT,
    SYSTEM_PROMPT,
    THINK_SUFFIX,
    TRANSCRIBE_PROMPT,
    strip_transcription,
)
from audioflamingo.prompt.spoken import may_say_no_speech, no_speech_note, spoken_words, with_note
from audioflamingo.prompt.template import (
    CHAT_TEMPLATE,
    ChatML,
    ChatTemplate,
    JinjaTemplate,
    PromptStyle,
    load_template,
)

__all__ = [
    "CAPTION_PROMPT",
    "CHAT_TEMPLATE",
    "SYSTEM_PROMPT",
    "THINK_SUFFIX",
    "TRANSCRIBE_PROMPT",
    "AudioRounding",
    "Budget",
    "ChatML",
    "ChatTemplate",
    "JinjaTemplate",
    "PromptStyle",
    "as_messages",
    "build",
    "count_audio_tokens",
    "describe_budget",
    "load_template",
    "may_say_no_speech",
    "no_speech_note",
    "spoken_words",
    "strip_transcription",
    "with_note",
]

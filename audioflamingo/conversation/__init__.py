"""Conversations with memory: turns, sounds at any of them, what is left out when the context is full, and their files.

`chat` is what a program uses, `fit` decides what the model still sees, `file` saves and loads, `stream` is an answer as
it comes.
"""

from audioflamingo.conversation.chat import Chat
from audioflamingo.conversation.examples import with_examples
from audioflamingo.conversation.model import ChatModel, PromptSize
from audioflamingo.conversation.stream import Stream

__all__ = ["Chat", "ChatModel", "PromptSize", "Stream", "with_examples"]

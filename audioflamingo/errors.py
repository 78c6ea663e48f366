"""What a user is told when something cannot be done: one line with what came, what is allowed, and the remedy.

Every error raised on purpose for a user derives from `FlamingoError`; the shell prints its text and exits with 2.
Anything else that surfaces is a bug of ours.
"""


class FlamingoError(ValueError):
    """Base of all errors that are meant for users."""


class AudioError(FlamingoError):
    """A sound cannot be read, is empty, is broken, or is too long."""


class PromptError(FlamingoError):
    """Messages, placeholders or the token budget do not fit together."""


class CheckpointError(FlamingoError):
    """A checkpoint is incomplete, inconsistent, or not of this architecture."""


class OptionError(FlamingoError):
    """An option has a value that is not allowed."""


class AnswerError(FlamingoError):
    """The model's answer does not tell what was asked for."""

"""Errors in the shell's words: remedies that name an argument of the Python API name the flag, or what the shell has.

Errors come from rooms that know nothing of a shell. What they call an option is translated here, once, where they are
printed; a remedy that the shell does not have is replaced by one that it has.
"""

from __future__ import annotations

import re

from audioflamingo.errors import CheckpointError

LONGEST_SPLIT_S = 24 * 3_600.0
"""Longest sound that is read where it is answered in parts or cut; 5.5 GB of samples."""

_REMEDIES = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (
            r"Cut it, or raise max_duration_s",
            f"Cut it; with --long-audio split or truncate up to {LONGEST_SPLIT_S:.0f} s are read",
        ),
        (r", or pass placeholders=False if it is ordinary text", ", or leave its brackets out if it is ordinary text"),
        (r", or raise max_prompt_tokens \([^)]*\)", ""),
        (r"\('af3-think' gets the released one\), or load_model\(\.\.\., thinking=FOLDER\)", "(--model af3-think)"),
        (r"Open it yourself and pass the open file", "Pipe it in, with - in its place"),
        (r"^(temperature|seed|stop) is\b", r"--\1 is"),
        (r"\bthink=True\b", "--think"),
        (r"\bmax_thought_tokens is (\d+)", r"--think=\1"),
        (r"\b[Pp]ass long_audio='truncate' or 'split'", "Give --long-audio truncate or --long-audio split"),
        (r"\b[Pp]ass long_audio='(\w+)'", r"give --long-audio \1"),
        (r"\blong_audio='(\w+)'", r"--long-audio \1"),
    )
)
_IN_CHAT = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (
            r"\b[Gg]ive --long-audio truncate or --long-audio split, or cut the file",
            "Bring in a shorter one, or start the chat with --long-audio truncate or split",
        ),
        (r"Cut it; with --long-audio", "Bring in a shorter one; a chat that is started with --long-audio"),
        (r"(up to \d+ s) are read", r"takes \1"),
        (r"\bgive --long-audio", "start the chat with --long-audio"),
        (r"--think=(\d+)", r"/think \1"),
        (r"^--think\b", "/think on"),
        (r"\blower --max-new-tokens", "start the chat with a lower --max-new-tokens"),
        (r"begin a new conversation", "begin a new one, or take turns back with /undo"),
    )
)
"""What a remedy becomes inside a conversation, where no flag can be given any more."""
_NAMES = re.compile(r"(?<![\w'-])(?:max_new_tokens|top_k|top_p|repetition_penalty|num_beams|length_penalty)(?![\w'])")


def told(error: Exception) -> str:
    """What an error says, for somebody at a shell."""
    text = str(error)
    if isinstance(error, CheckpointError):
        return text  # what it names stands in a file, not on the command line
    for pattern, words in _REMEDIES:
        text = pattern.sub(words, text)
    return _NAMES.sub(lambda found: f"--{found[0].replace('_', '-')}", text)


def told_in_chat(error: Exception) -> str:
    """What an error says, for somebody inside `flamingo chat`: a flag is given to the next one, commands work now."""
    text = told(error)
    if isinstance(error, CheckpointError):
        return text
    for pattern, words in _IN_CHAT:
        text = pattern.sub(words, text)
    return text

"""Errors at the shell: remedies name what the shell has."""

import numpy as np
import pytest

from audioflamingo import Audio, FlamingoError, Message, OptionError
from audioflamingo.audio import limit, load
from audioflamingo.cli.wording import LONGEST_SPLIT_S, told, told_in_chat
from audioflamingo.engine.options import Options
from audioflamingo.model.weights import resolve
from audioflamingo.prompt import Budget
from audioflamingo.prompt.placeholders import place_sounds
from audioflamingo.think.thinking import Thinking
from audioflamingo.tokenizer import Tokenizer

SOUND = Audio(np.zeros(61 * 16_000, dtype=np.float32), "long.wav")


def error_of(call):
    with pytest.raises(FlamingoError) as error:
        call()
    return told(error.value)


@pytest.mark.parametrize(
    ("call", "remedy"),
    [
        (lambda: limit(SOUND, max_windows=2), "Give --long-audio truncate or --long-audio split, or cut the file."),
        (
            lambda: load(SOUND, max_duration_s=60),
            f"Cut it; with --long-audio split or truncate up to {LONGEST_SPLIT_S:.0f} s",
        ),
        (
            lambda: place_sounds([Message("user", ("a <sound>",))], placeholders=True),
            "or leave its brackets out if it is ordinary text",
        ),
        (lambda: Budget(9, 1, 10).check(20, 0), "Shorten the sounds or the text"),
        (lambda: Budget(9, 5, 10).check(20, 0), "lower --max-new-tokens (5 of"),
        (lambda: Options().updated({"top_k": -1}), "--top-k is -1"),
        (lambda: Options().updated({"temperature": 1e9}), "--temperature is 1000000000.0"),
        (lambda: Options().updated({"seed": 1 << 70}), "--seed is"),
        (lambda: Options().updated({"stop": ("",)}), "--stop is"),
        (lambda: Options().updated({"num_beams": 99}), "--num-beams is 99, allowed: 1 (off) to 32"),
        (lambda: Options().updated({"length_penalty": 2}), "--length-penalty is 2, but --num-beams is 1"),
        (
            lambda: Options().updated({"think": True, "max_new_tokens": 9, "max_thought_tokens": 10}),
            "--think=10 of --max-new-tokens 9, allowed: fewer",
        ),
        (
            lambda: Thinking(None, Tokenizer.from_folder(resolve("nano")), None).ready(),
            "--think, but this model has no thinking adapter",
        ),
    ],
)
def test_remedies(call, remedy):
    text = error_of(call)
    assert remedy in text
    for name in (
        "max_duration_s",
        "placeholders=",
        "long_audio",
        "max_prompt_tokens",
        "load_model",
        "max_new_tokens",
        "thought_tokens",
    ):
        assert name not in text


@pytest.mark.parametrize(
    ("call", "remedy"),
    [
        (
            lambda: limit(SOUND, max_windows=2),
            "Bring in a shorter one, or start the chat with --long-audio truncate or split.",
        ),
        (
            lambda: load(SOUND, max_duration_s=60),
            "Bring in a shorter one; a chat that is started with --long-audio split or truncate takes up to 86400 s.",
        ),
        (lambda: Budget(9, 5, 10).check(20, 0), "start the chat with a lower --max-new-tokens (5 of"),
        (
            lambda: Options().updated({"think": True, "max_new_tokens": 9, "max_thought_tokens": 10}),
            "/think 10 of --max-new-tokens 9, allowed: fewer",
        ),
        (
            lambda: Thinking(None, Tokenizer.from_folder(resolve("nano")), None).ready(),
            "/think on, but this model has no thinking adapter",
        ),
    ],
)
def test_remedies_inside_a_chat(call, remedy):
    with pytest.raises(FlamingoError) as error:
        call()
    assert remedy in told_in_chat(error.value)


def test_what_is_no_remedy_stays():
    assert told(OptionError("my_max_new_tokens is 3 and 'top_k' a name")) == "my_max_new_tokens is 3 and 'top_k' a name"

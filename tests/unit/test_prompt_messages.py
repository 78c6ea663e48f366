import numpy as np
import pytest

from audioflamingo.errors import PromptError
from audioflamingo.prompt import as_messages
from audioflamingo.prompt.messages import MAX_MESSAGES, MAX_TEXT_CHARS, check_turns
from audioflamingo.types import Audio, Message

SOUND = Audio(np.zeros(1600, np.float32), "a.wav")
EXPECTED = (Message("user", (SOUND, "What?")),)


@pytest.mark.parametrize(
    "conversation",
    [
        EXPECTED,
        list(EXPECTED),
        EXPECTED[0],
        [{"role": "user", "content": [SOUND, "What?"]}],
        {"role": "user", "content": (SOUND, "What?")},
        [{"role": "user", "content": [{"type": "audio", "audio": SOUND}, {"type": "text", "text": "What?"}]}],
        [{"role": "user", "content": [{"audio": SOUND}, {"text": "What?"}]}],
    ],
)
def test_convenient_forms(conversation):
    assert as_messages(conversation) == EXPECTED
    assert as_messages(as_messages(conversation)) == EXPECTED


def test_single_values_as_content():
    assert as_messages("What?") == (Message("user", ("What?",)),)
    assert as_messages([{"role": "user", "content": "What?"}]) == (Message("user", ("What?",)),)
    assert as_messages([{"role": "user", "content": SOUND}]) == (Message("user", (SOUND,)),)
    assert as_messages([{"role": "user", "content": {"text": "What?"}}]) == (Message("user", ("What?",)),)


@pytest.mark.parametrize(
    ("conversation", "match"),
    [
        ([], "conversation is empty"),
        (None, "conversation is empty"),
        (7, "conversation is empty"),
        ([7], "message 1 is int 7"),
        ([{"role": "user"}], "expected a Message or a dict"),
        ([{"role": "tool", "content": "x"}], "role 'tool'; allowed are system, user, assistant"),
        ([{"role": ["user"], "content": "x"}], r"role \['user'\]"),
        ([Message("robot", ("x",))], "role 'robot'"),
        ([{"role": "user", "content": None}], "NoneType None as content"),
        ([Message("user", (None,))], "NoneType None in its content"),
        ([{"role": "user", "content": [b"x"]}], "bytes b'x' in its content"),
        ([{"role": "user", "content": [{"type": "image", "image": "x"}]}], "the type 'image'"),
        ([{"role": "user", "content": [{"type": "audio", "text": "x"}]}], "the type 'audio'"),
        ([{"role": "user", "content": [{"type": "audio", "audio": "a.wav"}]}], "load the file first"),
        ([{"role": "user", "content": [{"text": 3}]}], "int 3 in its content"),
    ],
)
def test_what_is_refused(conversation, match):
    with pytest.raises(PromptError, match=match):
        as_messages(conversation)


def test_sizes_are_bounded():
    assert as_messages("x" * MAX_TEXT_CHARS)
    with pytest.raises(PromptError, match="1,000,001 characters"):
        as_messages([{"role": "user", "content": ["x" * MAX_TEXT_CHARS, "x"]}])
    with pytest.raises(PromptError, match="4,097 messages"):
        as_messages([Message("user", ("x",))] * (MAX_MESSAGES + 1))


def test_errors_stay_on_one_short_line():
    with pytest.raises(PromptError) as caught:
        as_messages([{"role": "user", "content": [b"\n" * 10_000]}])
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


SYSTEM, USER, ASSISTANT = (Message(role, ("x",)) for role in ("system", "user", "assistant"))


def test_whose_turn_it_is():
    check_turns([SYSTEM, USER], continue_final=False)
    check_turns([USER, ASSISTANT, USER], continue_final=False)
    check_turns([USER, ASSISTANT], continue_final=True)


@pytest.mark.parametrize(
    ("messages", "continue_final", "match"),
    [
        ([SYSTEM], False, "last message is of the system"),
        ([USER, ASSISTANT], False, "pass continue_final=True"),
        ([USER], True, "but it is of the user"),
        ([USER, Message("assistant", ("",))], True, "with text"),
        ([Message("user", ())], False, "message 1 of the user is empty"),
        ([USER, ASSISTANT, Message("user", ("", ""))], False, "message 3 of the user is empty"),
    ],
)
def test_wrong_turns(messages, continue_final, match):
    with pytest.raises(PromptError, match=match):
        check_turns(messages, continue_final)

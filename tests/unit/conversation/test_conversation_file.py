"""A conversation's file that somebody edited, by hand or by accident: it loads, or there is one clear line."""

import contextlib
import copy
import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioflamingo.conversation.file import MAX_FILE_BYTES, load_messages, save_messages
from audioflamingo.errors import AudioError, FlamingoError, PromptError
from audioflamingo.prompt.messages import as_messages, check_turns
from audioflamingo.prompt.placeholders import place_sounds
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, Message

DOG = Audio(np.linspace(-0.5, 0.5, 2_000, dtype=np.float32), "dog.wav")
RAIN = Audio(np.linspace(0.5, -0.5, 3_000, dtype=np.float32), "rain.wav")
TALK = (
    Message("system", ("Be brief.",)),
    Message("user", (DOG, RAIN, "Which is louder, <sound-2> or <sound-1>?")),
    Message("assistant", ("The second.",)),
    Message("user", ("And <sound-1>?",)),
    Message("assistant", ("A dog.",)),
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("talk") / "talk.json"
    save_messages(path, TALK, 1)
    return path


def same(messages, others):
    def told(some):
        return [(one.role, [part if isinstance(part, str) else (part.key, part.name) for part in one.content])
                for one in some]  # fmt: skip

    return told(messages) == told(others)


def test_what_is_saved_is_loaded(saved):
    messages, num_pinned = load_messages(saved)
    assert same(messages, TALK)
    assert num_pinned == 1


def loaded_or_refused(path):
    """Loads; what loads can be gone on with, and what does not says why in one line that names the place."""
    refused = None
    try:
        messages, num_pinned = load_messages(path)
    except (PromptError, AudioError) as error:
        refused = str(error)
    if refused is not None:
        assert "\n" not in refused
        assert len(refused) < 1_000
        assert path.name in refused
        return None
    assert 0 <= num_pinned <= len(messages)
    next_turn = (*as_messages(messages), Message("user", ("And now?",))) if messages else ()
    if next_turn:
        check_turns(next_turn, continue_final=False)
        place_sounds(next_turn, placeholders=True)
        "".join(part for one in messages for part in one.content if isinstance(part, str)).encode()
        save_messages(path.with_name("again.json"), messages, num_pinned)
        assert same(load_messages(path.with_name("again.json"))[0], messages)
    return messages


def places_of(value, place=()):
    """Every place in a JSON value, as a path of keys and indices."""
    yield place
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in entries:
        yield from places_of(one, (*place, key))


odd = st.sampled_from(
    [None, True, False, 0, -1, 1.0, 1e308, 10**400, "", "user", "system", "text", "audio", "<sound>", "<sound-9>",
     "\ud800", "\x00\x1b[2J\n", "x" * 2_000_000, "../../../etc/passwd", "/dev/zero", "0" * 64 + ".wav", [], {}, [[]],
     [{"type": "text"}], {"type": "audio"}, {"type": "text", "text": ""}, {"role": "user", "content": []},
     {"role": "assistant", "content": [{"type": "text", "text": "<sound-1>"}]}, DOG.key + ".wav", RAIN.key + ".wav"]
)  # fmt: skip
json_values = odd | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=8), some, max_size=3),
    max_leaves=8,
)


def edited(values, place, edit, new):
    """The values with one of: replaced, removed, doubled, renamed, moved to the front; at a place."""
    if not place:
        return new
    *before, last = place
    holder = values
    for key in before:
        holder = holder[key]
    if edit == "replace":
        holder[last] = new
    elif edit == "remove":
        del holder[last]
    elif isinstance(holder, dict):
        holder[str(new)[:40] if edit == "rename" else "extra"] = holder.pop(last)
    elif edit == "double":
        holder.insert(last, holder[last])
    else:
        holder.insert(0, holder.pop(last))
    return values


@settings(max_examples=400)
@given(st.data(), st.integers(1, 3))
def test_edited_values(saved, tmp_path_factory, data, num_edits):
    values = json.loads(saved.read_text())
    for _ in range(num_edits):
        places = list(places_of(values))
        place = places[data.draw(st.integers(0, len(places) - 1))]
        edit = data.draw(st.sampled_from(["replace", "remove", "double", "rename", "move"]))
        with contextlib.suppress(KeyError, IndexError, TypeError):
            values = edited(values, place, edit, copy.deepcopy(data.draw(json_values)))
    path = saved.with_name("edited.json")
    path.write_text(json.dumps(values), encoding="utf-8")
    folder = saved.with_name("edited.json.sounds")
    if not folder.exists():
        shutil.copytree(saved.with_name("talk.json.sounds"), folder)
    loaded_or_refused(path)


@settings(max_examples=200)
@given(st.data())
def test_edited_bytes(saved, data):
    content = saved.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 40)))
    path = saved.with_name("talk_edited.json")
    path.write_bytes(content[:start] + data.draw(st.binary(max_size=12) | st.just(b"\xef\xbb\xbf")) + content[end:])
    loaded_or_refused(path)


EDITS = {
    "no JSON": lambda values: "hello",
    "another format": lambda values: values | {"format": "chatml"},
    "a later version": lambda values: values | {"version": 2},
    "a version that is true": lambda values: values | {"version": True},
    "messages lost": lambda values: {key: one for key, one in values.items() if key != "messages"},
    "too much pinned": lambda values: values | {"num_pinned": 6},
    "pinned by a word": lambda values: values | {"num_pinned": "one"},
    "too many messages": lambda values: values | {"messages": values["messages"] * 1_000},
    "an unknown role": lambda values: with_message(values, 1, role="boss"),
    "a role that is a list": lambda values: with_message(values, 1, role=["user"]),
    "content as a text": lambda values: with_message(values, 1, content="hello"),
    "no content": lambda values: with_message(values, 1, content=[]),
    "an empty question": lambda values: with_message(values, 3, content=[{"type": "text", "text": ""}]),
    "an unknown item": lambda values: with_message(values, 3, content=[{"type": "image", "file": "x.png"}]),
    "a path": lambda values: with_sound(values, "../../etc/passwd"),
    "a sound that is not there": lambda values: with_sound(values, "0" * 64 + ".wav"),
    "a sound that nobody said": lambda values: with_message(values, 3, content=[{"type": "text", "text": "<sound-3>"}]),
    "too many placeholders": lambda values: with_message(values, 3, content=[{"type": "text", "text": "<sound>"}]),
    "half a character": lambda values: with_message(values, 3, content=[{"type": "text", "text": "\ud83d"}]),
    "an endless text": lambda values: with_message(values, 3, content=[{"type": "text", "text": "x" * 1_000_001}]),
    "the first message taken out": lambda values: values | {"messages": values["messages"][2:]},
}


def with_message(values, index, **new):
    messages = [dict(one) for one in values["messages"]]
    messages[index] |= new
    return values | {"messages": messages}


def with_sound(values, file):
    return with_message(values, 1, content=[{"type": "audio", "file": file}])


@pytest.mark.parametrize("edit", EDITS)
def test_edits_that_make_no_conversation(saved, edit):
    path = saved.with_name("bad.json")
    path.write_text(json.dumps(EDITS[edit](json.loads(saved.read_text()))))
    shutil.copytree(saved.with_name("talk.json.sounds"), path.with_name("bad.json.sounds"), dirs_exist_ok=True)
    assert loaded_or_refused(path) is None


@pytest.mark.parametrize("edit", ["an answer improved", "a sound renamed", "a later addition", "a bell in a name"])
def test_edits_that_are_allowed(saved, edit):
    values = json.loads(saved.read_text())
    if edit == "an answer improved":
        values["messages"][2]["content"][0]["text"] = "The first."
    elif edit == "a sound renamed":
        values["messages"][1]["content"][0]["name"] = "cat.wav"
    elif edit == "a bell in a name":
        values["messages"][1]["content"][0]["name"] = "\x07\n\x1b]0;title"
    else:
        values["comment"] = values["messages"][0]["comment"] = "mine"
    path = saved.with_name("good.json")
    path.write_text(json.dumps(values))
    shutil.copytree(saved.with_name("talk.json.sounds"), path.with_name("good.json.sounds"), dirs_exist_ok=True)
    messages = loaded_or_refused(path)
    assert messages is not None
    assert all(part.name.isprintable() for one in messages for part in one.content if isinstance(part, Audio))


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "absent", "/dev/zero"):
        with pytest.raises(PromptError, match=r"no regular file|No such file"):
            load_messages(path)


def test_a_sound_is_read_once_and_all_together_are_bounded(tmp_path, monkeypatch):
    path = tmp_path / "talk.json"
    second = Audio(np.full(SAMPLE_RATE_HZ, 0.1, np.float32), "one second")
    other = Audio(np.full(SAMPLE_RATE_HZ, 0.2, np.float32), "another")
    save_messages(path, [Message("user", (second, second, second, "What?")), Message("user", (other, "What?"))], 0)
    (first, again, _, _), _ = (one.content for one in load_messages(path)[0])
    assert first is again
    monkeypatch.setattr("audioflamingo.conversation.file.MAX_SOUNDS_S", 1.5)
    with pytest.raises(AudioError, match=r"lasts 1\.0 s; at most 0\.5 s are read"):
        load_messages(path)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    long = Message("user", ("x" * MAX_FILE_BYTES,))
    half = Message("user", ("\ud800",))
    for messages in ([long], [half]):
        with pytest.raises(FlamingoError):
            save_messages(tmp_path / "talk.json", messages, 0)
    with pytest.raises(PromptError, match="cannot be saved"):
        save_messages(tmp_path, TALK, 0)
    assert [one.name for one in tmp_path.iterdir() if not one.is_dir()] == []


@pytest.mark.parametrize("content", [b"RIFF\xff\xfe", b"[]", b'{"format": "mine"}', b"\n"])
def test_a_file_of_another_kind_is_never_replaced(tmp_path, content):
    path = tmp_path / "my.wav"
    path.write_bytes(content)
    with pytest.raises(PromptError, match=r"my\.wav: a file that is no conversation is there.*Name another file"):
        save_messages(path, TALK, 1)
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["my.wav"]


def test_an_own_file_and_an_empty_one_are_replaced(tmp_path):
    path = tmp_path / "talk.json"
    path.touch()
    save_messages(path, TALK[:1], 1)
    save_messages(path, TALK, 1)
    assert same(load_messages(path)[0], TALK)


def test_folders_that_are_not_there_are_made(tmp_path):
    file = tmp_path / "new" / "talks" / "talk.json"
    save_messages(file, [Message("user", ("Hello?",))], 0)
    assert load_messages(file) == ((Message("user", ("Hello?",)),), 0)

"""Conversations: twenty turns equal one prompt, forks, files, and what is left out."""

import json

import pytest

from audioflamingo import Audio, AudioError, Message, PromptError
from audioflamingo.conversation import with_examples

SHORT = {"max_new_tokens": 4}


@pytest.fixture(scope="module")
def sound(noise):
    return lambda seed=0, duration_s=0.3: Audio(noise(duration_s, seed), f"clip{seed}.wav")


def test_twenty_turns_with_eight_sounds_equal_one_prompt(model, sound):
    chat = model.chat(**SHORT)
    written = []
    for turn in range(20):
        new = [sound(turn)] if turn % 3 == 0 else [sound(100)] if turn == 1 else []
        question = f"Question {turn}?" if turn != 10 else "Is <sound-2> louder than <sound:clip9.wav>?"
        reply = chat.ask(question, new)
        sent = question.replace("<sound:clip9.wav>", "<sound-5>")
        written.append(Message("user", (*new, sent)))
        assert model.generate([written], **SHORT)[0] == reply
        written.append(Message("assistant", (reply.text,)))
    assert len(chat.sounds) == 8
    assert chat.messages == tuple(written)


def test_names_point_at_sounds(model, sound):
    chat = model.chat(**SHORT)
    chat.ask("What?", [sound(1), sound(2)])
    chat.ask("Is <sound:clip2> louder?")
    assert chat.messages[2].content == ("Is <sound-2> louder?",)
    with pytest.raises(PromptError, match=r"1 clip1\.wav, 2 clip2\.wav"):
        chat.ask("Is <sound:clip7> louder?")
    with pytest.raises(PromptError, match=r"2 sounds are called 'clip2\.wav'"):
        chat.ask("Is <sound:clip2.wav> louder?", Audio(sound(3).samples, "clip2.wav"))
    with pytest.raises(PromptError, match="<sound-3>"):
        chat.ask("And <sound-3>?")
    assert len(chat.messages) == 4


def test_undo_and_fork(model, sound):
    chat = model.chat("Be brief.", **SHORT)
    chat.ask("What?", sound(1))
    fork = chat.fork()
    first = chat.ask("And then?")
    assert fork.ask("And then?") == first
    fork.ask("More?")
    assert len(chat.messages) == 5
    assert chat.undo()
    assert chat.ask("And then?") == first
    assert chat.undo()
    assert chat.undo()
    assert not chat.undo()
    assert [message.role for message in chat.messages] == ["system"]


def test_a_saved_conversation_goes_on_as_if_nothing_had_happened(model, sound, tmp_path):
    chat = model.chat("Be brief.", **SHORT)
    chat.ask("What?", [sound(1), sound(2)])
    chat.ask("Again: <sound-1>?", sound(1))
    chat.save(tmp_path / "talk.json")
    other = model.chat(**SHORT)
    other.load(tmp_path / "talk.json")
    assert other.ask("And <sound:clip2.wav>?") == chat.ask("And <sound:clip2.wav>?")
    assert len(list((tmp_path / "talk.json.sounds").iterdir())) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.update(version=9), "version 1"),
        (lambda values: values.update(messages={}), "must be a list"),
        (lambda values: values.update(num_pinned=99), "num_pinned"),
        (lambda values: values["messages"][0].update(role="boss"), "message 1 needs a role"),
        (lambda values: values["messages"][0].update(content="text"), "message 1 needs"),
        (lambda values: values["messages"][0]["content"][0].update(file="../../etc/passwd"), "expected KEY.wav"),
        (lambda values: values["messages"][0]["content"][0].update(file="0" * 64 + ".wav"), "does not exist"),
        (lambda values: values["messages"][0]["content"].append(3), "neither text nor a sound"),
    ],
)  # fmt: skip
def test_a_file_edited_by_hand(model, sound, tmp_path, change, message):
    chat = model.chat(**SHORT)
    chat.ask("What?", sound(1))
    path = tmp_path / "talk.json"
    chat.save(path)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    before = chat.messages
    with pytest.raises((PromptError, AudioError), match=f"(?i){message}"):
        chat.load(path)
    assert chat.messages == before


def test_a_sound_that_was_exchanged_is_noticed(model, sound, tmp_path):
    chat = model.chat(**SHORT)
    chat.ask("What?", [sound(1), sound(2)])
    chat.save(tmp_path / "talk.json")
    first, second = sorted((tmp_path / "talk.json.sounds").iterdir())
    first.write_bytes(second.read_bytes())
    with pytest.raises(AudioError, match="not the sound that was saved"):
        chat.load(tmp_path / "talk.json")


def test_a_full_context_leaves_out_the_oldest_and_says_so(model, sound):
    chat = model.chat("Be brief.", **SHORT)
    chat.ask("First?", sound(1, 1))
    chat.ask("Second?", sound(2, 1))
    chat.ask("Third?", sound(3, 1))
    assert chat.budget().num_audio_tokens == 75
    sent = [*chat.messages[:1], *chat.messages[3:5], Message("user", ("Is <sound-1> the louder one?",))]
    limit = model.measure(sent, **SHORT).num_tokens
    reply = chat.ask("Is <sound-2> the louder one?", max_prompt_tokens=limit)
    assert "question 1, 3" in reply.notes[0]
    assert "2 sound(s)" in reply.notes[0]
    assert model.generate([sent], **SHORT)[0].text == reply.text
    assert len(chat.messages) == 9
    streamed = chat.stream("Is <sound-2> the louder one?", max_prompt_tokens=limit)
    assert "left out" in streamed.notes[0]
    with pytest.raises(PromptError, match="even without its earlier exchanges"):
        chat.ask("x" * 200, max_prompt_tokens=60)


def test_a_question_that_fits_loses_nothing(model, sound):
    chat = model.chat(**SHORT)
    chat.ask("First?", sound(1))
    assert chat.ask("Second?").notes == ()


def test_examples_in_one_call_and_in_a_conversation(model, sound):
    examples = [(sound(1), "A dog."), (sound(2), "Rain.")]
    written = (*with_examples("What?", examples), Message("user", (sound(3), "What?")))
    assert len(written) == 5
    reply = model.ask(sound(3), "What?", examples=examples, **SHORT)
    assert reply == model.generate([written], **SHORT)[0]
    chat = model.chat(examples=with_examples("What?", examples), **SHORT)
    assert chat.ask("What?", sound(3)) == reply
    chat.undo()
    assert len(chat.messages) == 4
    with pytest.raises(PromptError, match="example 1"):
        model.ask(sound(3), "What?", examples=[sound(1)])

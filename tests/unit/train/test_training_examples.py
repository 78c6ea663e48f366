import re

import numpy as np
import pytest
from tiny_training import TOKENIZER, maker, turns, write_wav

from audioflamingo.errors import FlamingoError
from audioflamingo.prompt import build, load_template
from audioflamingo.train.data.examples import as_conversation
from audioflamingo.train.data.rows import parse_row
from audioflamingo.types import Audio, Message


def row(folder, conversation, sounds=()):
    return parse_row({"id": "r", "sound": list(sounds), "conversations": conversation}, folder, "here")


def learnt(example):
    """What is in the loss, masked text as dots, audio tokens as one mark."""
    pieces = [
        TOKENIZER.decode([token], skip_special=False) if learns else "."
        for token, learns in zip(example.ids, example.is_target, strict=True)
    ]
    return re.sub(r"\.+", " ... ", "".join(pieces)).strip()


@pytest.fixture
def sounds(tmp_path):
    for i, duration_s in enumerate((0.5, 0.7, 0.9)):
        write_wav(tmp_path / f"{i}.wav", duration_s, seed=i)
    return tmp_path


def test_only_answers_and_their_ends_are_learnt(base, sounds):
    conversation = turns("<sound>\nWhat is it?", "Rain begins", "And then?", "Birds, they're twice")
    conversation = [{"from": "system", "value": "You describe."}, *conversation]
    example = maker(base).make(row(sounds, conversation, ["0.wav"]))
    shown = learnt(example)
    print(shown)
    assert shown == "... Rain begins<|im_end|> ... Birds, they're twice<|im_end|>"


def test_the_prompt_is_that_of_inference(base, sounds):
    for style in ("hf", "nvidia"):
        example = maker(base, style=style).make(row(sounds, turns("<sound>\nWhat is it?", "Rain."), ["0.wav"]))
        asked = Message("user", (example.audios[0], "What is it?"))
        prompt = build([asked], TOKENIZER, load_template(base), style=style)
        num_answer = example.num_targets
        assert example.ids[:-num_answer] == prompt.ids
        assert example.ids[-num_answer:] == (*TOKENIZER.encode_plain("Rain."), TOKENIZER.im_end)
        assert example.spans == prompt.spans


def test_control_tokens_in_rows_are_ordinary_text(base, sounds):
    example = maker(base).make(row(sounds, turns("Say <|im_end|>", "It is <|im_end|> there", "Again", "<sound>")))
    assert sum(token == TOKENIZER.im_end for token in example.ids) == 5  # system, two of the user, two answers
    assert TOKENIZER.sound not in example.ids
    assert learnt(example) == "... It is <|im_end|> there<|im_end|> ... <sound><|im_end|>"


def durations(example):
    return [round(example.audios[span.audio_index].duration_s, 1) for span in example.spans]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("<sound> a <sound> b", "x", "<sound> c", "y"), [0.5, 0.7, 0.9]),
        (("<sound-2> a <sound-1> b <sound-3>", "x"), [0.7, 0.5, 0.9]),
        (("<sound> a <sound-3>", "x", "<sound-3> or <sound>?", "y"), [0.5, 0.9, 0.9, 0.7]),
        (("<sound-3> <sound-3>", "x", "<sound><sound> <sound-1>", "y"), None),
        (("no tag", "x"), [0.5, 0.7, 0.9]),
    ],
)
def test_sounds_stand_where_their_tags_are(base, sounds, texts, expected):
    made = row(sounds, turns(*texts), ["0.wav", "1.wav", "2.wav"])
    if expected is None:  # sound 1 is named by number, so two plain tags want one sound
        with pytest.raises(FlamingoError, match="placeholder"):
            maker(base).make(made)
        return
    assert durations(maker(base).make(made)) == expected


def test_a_turn_gets_the_sounds_that_it_names_first(sounds):
    audios = [Audio(np.zeros(2_000, np.float32), str(i)) for i in range(2)]
    messages = as_conversation(row(sounds, turns("<sound-2>?", "x", "And <sound-1> <sound-2>", "y"), "ab"), audios)
    assert [[part.name for part in m.content if isinstance(part, Audio)] for m in messages] == [["1"], [], ["0"], []]
    assert messages[2].content[-1] == "And <sound-2> <sound-1>"


def test_measure_agrees_with_what_is_made(base, sounds):
    made = row(sounds, turns("<sound> a <sound>", "x y", "<sound-2>", "z"), ["0.wav", "1.wav"])
    example = maker(base).make(made)
    size = maker(base).measure(made, [audio.duration_s for audio in example.audios])
    assert size.num_tokens == len(example.ids) == len(example.is_target)
    assert size.num_audio_tokens == sum(span.num_tokens for span in example.spans)


def test_too_many_tokens_are_refused(base, sounds):
    made = row(sounds, turns("<sound> a", "x"), ["0.wav"])
    num_tokens = len(maker(base).make(made).ids)
    assert maker(base, max_tokens=num_tokens).make(made)
    with pytest.raises(FlamingoError, match="takes at most"):
        maker(base, max_tokens=num_tokens - 1).make(made)

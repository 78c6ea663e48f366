"""Beam search through the API, on the embedded model: transformers' answers, in every way of asking."""

from pathlib import Path

import numpy as np
import pytest
import torch

from audioflamingo import Audio, FlamingoError, Message, load_audio, load_model
from audioflamingo.cli.main import main
from audioflamingo.longform import transcribe_long
from audioflamingo.longform.pieces import pieces_of
from audioflamingo.model.weights.locate import NANO_FOLDER
from audioflamingo.prompt import TRANSCRIBE_PROMPT

EXAMPLES = Path(__file__).parents[2] / "examples"
QUESTION = "What do you hear?"
ASKED = [
    ("unheard_voice.wav", TRANSCRIBE_PROMPT),
    ("man_over_rain.wav", TRANSCRIBE_PROMPT),
    ("phone_then_knock.flac", QUESTION),
    ("dog_then_bell.wav", "Describe the sound in detail."),
]
MOST_TOKENS = 40


@pytest.fixture(scope="module")
def nano():
    return load_model("nano", device="cpu")


@pytest.fixture(scope="module")
def reference():
    from transformers import AudioFlamingo3ForConditionalGeneration

    return AudioFlamingo3ForConditionalGeneration.from_pretrained(
        NANO_FOLDER, dtype=torch.float32, local_files_only=True
    ).eval()


@pytest.fixture(scope="module")
def processor():
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(NANO_FOLDER, local_files_only=True)


@pytest.fixture(scope="module")
def voice():
    return load_audio(EXAMPLES / "man_over_rain.wav")


@pytest.mark.parametrize(
    ("file", "question"), [ASKED[0], *(pytest.param(*asked, marks=pytest.mark.slow) for asked in ASKED[1:])]
)
@torch.no_grad()
def test_answers_are_those_of_transformers(nano, reference, processor, file, question):
    sound = load_audio(EXAMPLES / file)
    content = [{"type": "audio", "audio": sound.samples}, {"type": "text", "text": question}]
    inputs = processor.apply_chat_template(
        [[{"role": "user", "content": content}]], tokenize=True, add_generation_prompt=True, return_dict=True
    )
    num_prompt_tokens = inputs["input_ids"].shape[1]
    for num_beams, others in ((1, {}), (3, {}), (4, {"length_penalty": -1.0})):
        found = reference.generate(
            **inputs, num_beams=num_beams, early_stopping=False, do_sample=False, max_new_tokens=MOST_TOKENS, **others
        )
        reply = nano.ask(sound, question, num_beams=num_beams, max_new_tokens=MOST_TOKENS, **others)
        assert reply.token_ids == tuple(found[0, num_prompt_tokens:].tolist())
        assert reply.text == processor.decode(found[0, num_prompt_tokens:], skip_special_tokens=True)


def test_one_beam_is_no_beams(nano, voice):
    assert nano.ask(voice, QUESTION, num_beams=1) == nano.ask(voice, QUESTION)


def test_no_whole_answer_that_is_found_is_less_likely_than_the_greedy_one(nano, voice):
    greedy = nano.ask(voice, TRANSCRIBE_PROMPT)
    found = nano.ask(voice, TRANSCRIBE_PROMPT, num_beams=4)
    assert found.text != greedy.text  # a voice that is hard to understand
    first, second = nano.score([Message("user", (voice, TRANSCRIBE_PROMPT))], [found.text, greedy.text])
    assert first.token_ids == found.token_ids
    assert first.mean > second.mean


def test_a_stream_gives_it_whole(nano, voice):
    message = [Message("user", (voice, QUESTION))]
    with nano.stream(message, num_beams=3) as stream:
        (delta,) = stream
    reply = nano.answer(message, num_beams=3)
    assert (delta.text, delta.token_ids, delta.usage) == (reply.text, reply.token_ids, reply.usage)


def test_each_of_a_batch_may_have_its_own(nano, voice):
    message = [Message("user", (voice, QUESTION))]
    each = [{"num_beams": 3}, {}, {"num_beams": 2, "length_penalty": 0.0}]
    assert nano.generate([message] * 3, each=each) == [nano.answer(message, **own) for own in each]
    bad = nano.generate([message] * 2, each=[{"num_beams": 99}, {"num_beams": 2}], errors="return")
    assert isinstance(bad[0], FlamingoError)
    assert bad[1] == nano.answer(message, num_beams=2)


def test_the_verb_searches_as_the_model_does(nano, capsys):
    file = EXAMPLES / "unheard_voice.wav"
    words = ["transcribe", str(file), "--device", "cpu", "--num-beams"]
    assert main([*words, "3", "--length-penalty", "0.5"]) == 0
    assert capsys.readouterr().out == nano.transcribe(file, num_beams=3, length_penalty=0.5).text + "\n"
    assert main([*words, "2", "--temperature", "0.7"]) == 2
    assert "beams follow what is likeliest: give temperature 0 with them" in capsys.readouterr().err


def test_a_conversation_goes_on(nano, voice):
    chat = nano.chat(num_beams=2)
    assert chat.ask(QUESTION, audio=voice).text == nano.ask(voice, QUESTION, num_beams=2).text


def test_pieces_of_a_long_sound_are_searched_each(nano, voice):
    pause = np.zeros(8_000, np.float32)
    times = int(nano.lengths.at_once_s / voice.duration_s) + 1
    long = Audio(np.concatenate([voice.samples, pause] * times), "long")
    lengths = nano.lengths
    pieces = [piece for _, piece in pieces_of(long, lengths.piece_s, lengths.overlap_s)]
    alone = [nano.ask(piece, TRANSCRIBE_PROMPT, num_beams=2) for piece in pieces]
    spoken = nano.transcribe(long, num_beams=2)
    assert spoken.token_ids == sum((reply.token_ids for reply in alone), ())
    assert spoken.token_ids != nano.transcribe(long).token_ids
    assert transcribe_long(nano, long, num_beams=2) == spoken.transcript
    short = nano.transcribe(voice, num_beams=2)
    assert short.token_ids == nano.ask(voice, TRANSCRIBE_PROMPT, num_beams=2).token_ids


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"num_beams": 0}, "num_beams is 0, allowed: 1 .off. to 32"),
        ({"num_beams": 1000}, "num_beams is 1000, allowed: 1 .off. to 32"),
        ({"num_beams": 4, "temperature": 0.7}, "give temperature 0"),
        ({"num_beams": 4, "think": True}, "think came too"),
        ({"num_beams": 4, "choices": ["yes", "no"]}, "choices came too"),
        ({"num_beams": 4, "schema": {"type": "object"}}, "schema came too"),
        ({"num_beams": 4, "stop": "."}, "stop came too"),
        ({"num_beams": 4, "max_prompt_tokens": 20}, "at most 20 fit"),
    ],
)
def test_what_cannot_go_with_beams_is_told_in_one_line(nano, voice, options, told):
    with pytest.raises(FlamingoError, match=told) as caught:
        nano.ask(voice, QUESTION, **options)
    assert "\n" not in str(caught.value)

import json

import pytest

from audioflamingo.engine.options import Options, checkpoint_options
from audioflamingo.errors import CheckpointError, OptionError
from audioflamingo.types import Beams

POSITIONS = 32_768


def test_an_unknown_option_lists_the_allowed_ones():
    with pytest.raises(OptionError, match=r"unknown option beams; allowed: max_new_tokens, temperature, .*long_audio"):
        Options().updated({"beams": 4})


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ({"temperature": "hot"}, "a number"),
        ({"temperature": True}, "a number"),
        ({"top_k": 1.5}, "a whole number"),
        ({"max_new_tokens": None}, "a whole number"),
        ({"stop": [1]}, "strings"),
        ({"stop": ""}, "not empty"),
        ({"long_audio": "skip"}, "'error', 'truncate', 'split'"),
        ({"style": "vicuna"}, "'hf', 'nvidia'"),
        ({"max_new_tokens": -5}, "at least 1"),
        ({"max_windows": 0}, "at least 1"),
        ({"seed": -1}, "0 or more"),
        ({"top_p": 1.01}, "at most 1"),
        ({"num_beams": 0}, "1 (off) to 32"),
        ({"num_beams": 1000}, "1 (off) to 32"),
        ({"num_beams": True}, "a whole number"),
        ({"num_beams": 2.0}, "a whole number"),
        ({"length_penalty": "long"}, "a number"),
        ({"length_penalty": float("nan"), "num_beams": 2}, "-5 to 5"),
        ({"length_penalty": 6, "num_beams": 2}, "-5 to 5"),
        ({"length_penalty": 2.0}, "give both"),
    ],
)
def test_wrong_values_say_what_came_and_what_is_allowed(given, allowed):
    with pytest.raises(OptionError) as caught:
        Options().updated(given)
    assert allowed in str(caught.value)
    assert next(iter(given)) in str(caught.value)


def test_one_stop_string_or_several():
    assert Options().updated({"stop": "a"}).stop == ("a",)
    assert Options().updated({"stop": ["a", "b"]}).sampling.stop == ("a", "b")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"temperature": 0.5}, "give temperature 0"),
        ({"think": True}, "think came too"),
        ({"schema": {"type": "object"}}, "schema came too"),
        ({"choices": ["a", "b"]}, "choices came too"),
        ({"stop": ["a"]}, "stop came too"),
    ],
)
def test_what_beams_do_without(given, told):
    with pytest.raises(OptionError, match=told):
        Options().updated({"num_beams": 2, **given})
    assert Options().updated({"num_beams": 1, **given}).beams is None


def test_beams_only_where_there_are_several():
    assert Options().beams is None
    assert Options().updated({"num_beams": 3, "length_penalty": 0}).beams == Beams(3, 0)


def write(folder, values):
    (folder / "generation_config.json").write_text(values if isinstance(values, str) else json.dumps(values))
    return checkpoint_options(folder, POSITIONS)


def test_without_the_file_answers_are_greedy(tmp_path):
    assert checkpoint_options(tmp_path, POSITIONS) == Options()


def test_sampling_only_where_the_checkpoint_asks_for_it(tmp_path):
    stated = {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05}
    assert write(tmp_path, {"do_sample": True, **stated}) == Options(**stated)
    assert write(tmp_path, {"do_sample": False, **stated}) == Options(repetition_penalty=1.05)


def test_what_the_checkpoint_leaves_open_is_the_references_default(tmp_path):
    assert write(tmp_path, {"do_sample": True}) == Options(temperature=1.0, top_k=50)


def test_a_small_decoder_keeps_room_for_the_prompt(tmp_path):
    assert checkpoint_options(tmp_path, 256).max_new_tokens == 128


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"do_sample": true, "temperature": -1}', '{"repetition_penalty": "x"}']
)
def test_a_broken_file_is_named(tmp_path, content):
    with pytest.raises(CheckpointError, match=r"generation_config\.json"):
        write(tmp_path, content)

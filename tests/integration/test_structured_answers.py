"""Structured answers from the API, streamed and whole, with thoughts and without, and from the shell."""

import json
import subprocess
import sys
from pathlib import Path

import pydantic
import pytest

from audioflamingo import FlamingoError, OptionError, load_audio, load_model
from audioflamingo.cli.main import main
from audioflamingo.structured import SchemaError

SOUND = Path(__file__).parents[2] / "examples" / "dog_then_bell.wav"
SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "maxLength": 6}, "count": {"enum": [0, 1, 2, 3]}},
    "required": ["label", "count"],
    "additionalProperties": False,
}  # fmt: skip


class Sound(pydantic.BaseModel):
    label: str = pydantic.Field(max_length=6)
    count: int = pydantic.Field(ge=0, le=9)


def test_streamed_is_valid_and_equal_to_whole(model, noise):
    messages = [{"role": "user", "content": "What?"}]
    reply = model.answer(messages, schema=SCHEMA)
    assert set(json.loads(reply.text)) == {"label", "count"}
    assert reply.finish_reason == "stop"
    assert "".join(delta.text for delta in model.stream(messages, schema=json.dumps(SCHEMA))) == reply.text


def test_as_an_object(model, noise):
    found = model.extract(noise(1), "What?", Sound, sample_rate_hz=16_000)
    assert isinstance(found, Sound)
    assert set(model.extract(noise(1), "What?", SCHEMA, sample_rate_hz=16_000)) == {"label", "count"}


def test_sampled_answers_are_valid_too(model):
    for seed in range(5):
        assert model.extract(None, "What?", Sound, temperature=2.0, seed=seed).count >= 0


def test_beside_plain_requests_in_one_batch(model):
    plain, structured = model.generate(["What?", "What?"], each=[{}, {"schema": SCHEMA}])
    assert plain == model.ask(None, "What?")
    assert structured == model.ask(None, "What?", schema=SCHEMA)


def test_a_budget_that_ends_before_the_schema_is_met(model):
    with pytest.raises(SchemaError, match="max_new_tokens"):
        model.ask(None, "What?", schema=SCHEMA, max_new_tokens=3)
    with pytest.raises(SchemaError), model.stream("What?", schema=SCHEMA, max_new_tokens=3) as stream:
        list(stream)
    found = model.generate(["What?"], schema=SCHEMA, max_new_tokens=3, errors="return")
    assert isinstance(found[0], FlamingoError)


def test_a_split_sound_has_several_answers(model, noise):
    with pytest.raises(OptionError, match="split"):
        model.ask(noise(65), "What?", sample_rate_hz=16_000, schema=SCHEMA, max_windows=1, long_audio="split")


def test_from_the_shell(checkpoint, write_wav, tmp_path):
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    words = [
        "extract",
        str(write_wav()),
        "What?",
        "--schema",
        str(tmp_path / "schema.json"),
        "--model",
        str(checkpoint),
    ]
    done = subprocess.run([sys.executable, "-m", "audioflamingo", *words], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout)) == {"label", "count"}


def open_ended(**properties):
    """A schema of an object all of whose properties are required."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


OPEN_ENDED = {
    "integer": open_ended(kind={"enum": ["dog", "bell", "speech"]}, n={"type": "integer"}),
    "strings": open_ended(labels={"type": "array", "items": {"type": "string"}}),
}


@pytest.mark.parametrize("kind", OPEN_ENDED)
def test_the_embedded_model_comes_to_an_end_within_its_budget(kind):
    model = load_model("nano", device="cpu")
    sound, schema = load_audio(SOUND), OPEN_ENDED[kind]
    question = "Which sounds do you hear?"
    for budget in (40, 120):
        found = model.extract(sound, question, schema, max_new_tokens=budget)
        assert list(found) == schema["required"]
        thoughtful = model.ask(sound, question, schema=schema, max_new_tokens=budget + 60, think=True)
        assert list(json.loads(thoughtful.text)) == schema["required"]
        assert thoughtful.thoughts
    assert len(str(abs(found.get("n", 0)))) <= 15  # digits: a minus is none


def test_nothing_unfinished_is_printed(tmp_path, capsys):
    (tmp_path / "schema.json").write_text(json.dumps(OPEN_ENDED["strings"]))
    words = ["extract", str(SOUND), "What?", "--schema", str(tmp_path / "schema.json"), "--device", "cpu"]
    assert main([*words, "--max-new-tokens", "6"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "max-new-tokens" in err
    assert main([*words, "--max-new-tokens", "40"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["labels"]

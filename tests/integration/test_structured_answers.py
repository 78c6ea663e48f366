"""Structured answers from the API, streamed and whole, with thoughts and without, and from the shell."""

import json
import subprocess
import sys

import pydantic
import pytest

from audioflamingo import FlamingoError, OptionError
from audioflamingo.structured import SchemaError

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

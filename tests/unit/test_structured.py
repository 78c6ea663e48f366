"""Schemas with the embedded model's tokenizer and with one of the released size: nothing but valid JSON comes out."""

import json
import sys
import time
from pathlib import Path

import pydantic
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from audioflamingo.engine.options import Options
from audioflamingo.engine.schema import MAX_SCHEMA_CHARS, as_schema
from audioflamingo.engine.schema_limits import MAX_CHARS, MAX_DIGITS, MAX_INTEGER, MAX_ITEMS, limited
from audioflamingo.errors import OptionError
from audioflamingo.model.weights import resolve
from audioflamingo.structured import SchemaError, Structured, parse_answer
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.types import Delta

sys.path.append(str(Path(__file__).parent))
from small_tokenizer import with_specials

EVENTS = {
    "type": "object",
    "properties": {
        "events": {
            "type": "array",
            "maxItems": 3,
            "items": {
                "type": "object",
                "properties": {
                    "label": {"enum": ["dog", "rain", "speech"]},
                    "start_s": {"type": "number", "minimum": 0, "maximum": 600},
                },
                "required": ["label", "start_s"],
                "additionalProperties": False,
            },
        },
        "note": {"type": "string", "maxLength": 12},
    },
    "required": ["events", "note"],
    "additionalProperties": False,
}


class Event(pydantic.BaseModel):
    label: str = pydantic.Field(max_length=8)
    count: int = pydantic.Field(ge=0, le=9)


@pytest.fixture(scope="module")
def nano():
    tokenizer = Tokenizer.from_folder(resolve("nano"))
    return Structured(tokenizer, tokenizer.vocab_size), tokenizer, tokenizer.vocab_size


@pytest.fixture(scope="module")
def large():
    """A vocabulary as large as Qwen2.5's, the head padded beyond it."""
    values = json.loads(with_specials().to_str())
    vocabulary = values["model"]["vocab"]
    words = (f"w{number:x}" for number in range(151_672 - len(vocabulary) - len(values["added_tokens"])))
    vocabulary |= {word: len(vocabulary) + len(values["added_tokens"]) + place for place, word in enumerate(words)}
    tokenizer = Tokenizer(Backend.from_str(json.dumps(values)))
    return Structured(tokenizer, 151_936), tokenizer, 151_936


def random_answer(setup, schema, seed, max_tokens=400):
    """What a model with random logits says under the schema; text and whether it ended by itself."""
    structured, tokenizer, num_logits = setup
    rule = structured.rule(schema)()
    generator = torch.Generator().manual_seed(seed)
    ids = []
    while len(ids) < max_tokens:
        scores = rule.restrict(torch.randn(num_logits, generator=generator))
        token = int(scores.argmax())
        assert scores[token] > -torch.inf
        rule.accept(token)
        if token in tokenizer.eos_ids:
            return tokenizer.decode(ids), True
        ids.append(token)
    return tokenizer.decode(ids), False


@pytest.mark.parametrize("setup", ["nano", "large"])
@settings(max_examples=15)
@given(seed=st.integers(0, 2**31))
def test_random_logits_give_valid_answers(setup, seed, request):
    setup = request.getfixturevalue(setup)
    schema = as_schema(EVENTS)
    text, is_complete = random_answer(setup, schema, seed)
    assert is_complete
    values = json.loads(setup[0].check(text, schema))
    assert set(values) == {"events", "note"}
    assert len(values["events"]) <= 3
    for event in values["events"]:
        assert event["label"] in ("dog", "rain", "speech")
        assert 0 <= event["start_s"] <= 600


def test_pydantic_classes(nano):
    schema = as_schema(Event)
    text, _ = random_answer(nano, schema, 0)
    event = parse_answer(text, Event)
    assert isinstance(event, Event)
    assert parse_answer(text, schema) == event.model_dump()


def test_an_answer_that_ends_too_early_is_an_error(nano):
    schema = as_schema(EVENTS)
    text, is_complete = random_answer(nano, schema, 0, max_tokens=5)
    assert not is_complete
    with pytest.raises(SchemaError, match="max_new_tokens"):
        nano[0].check(text, schema)
    for bad in ("", "{}", text + "x", '{"events":[],"note":"' + "x" * 13 + '"}'):
        with pytest.raises(SchemaError):
            nano[0].check(bad, schema)
    deltas = [Delta(0, '{"events":'), Delta(0, "[]", finish_reason="length")]
    checked = nano[0].checked(deltas, schema)
    assert next(checked) == deltas[0]
    with pytest.raises(SchemaError):
        next(checked)


def test_a_character_that_nfc_takes_apart_counts_once(nano):
    schema = as_schema({"type": "string", "maxLength": 1})
    assert nano[0].check('"\u09dd"', schema) == '"\u09dd"'
    with pytest.raises(SchemaError):
        nano[0].check('"\u09a2\u09bc"', schema)


@pytest.mark.parametrize(
    "schema",
    [{"type": "strin"}, {"$ref": "https://example.org/x.json"}, {"type": "string", "minLength": 5, "maxLength": 2}],
)
def test_schemas_that_cannot_be_used(nano, schema):
    with pytest.raises(OptionError, match="schema cannot be used") as error:
        nano[0].rule(as_schema(schema))
    assert "\n" not in str(error.value)


CHOICES = ("yes", "yes, a dog", "no", "(A) ein Hund", "犬")


@pytest.mark.parametrize("setup", ["nano", "large"])
@settings(max_examples=25)
@given(seed=st.integers(0, 2**31))
def test_random_logits_give_one_of_the_choices(setup, seed, request):
    setup = request.getfixturevalue(setup)
    text, is_complete = random_answer(setup, CHOICES, seed)
    assert is_complete
    assert setup[0].check(text, CHOICES) in CHOICES


def test_the_likeliest_choice_is_taken_and_then_the_end(nano):
    structured, tokenizer, num_logits = nano
    for choice in CHOICES:
        rule = structured.rule(CHOICES)()
        for token in (*tokenizer.encode_plain(choice), *tokenizer.eos_ids[:1], *tokenizer.eos_ids[:1]):
            wanted = torch.zeros(num_logits)
            wanted[token] = 1.0
            assert int(rule.restrict(wanted).argmax()) == token
            rule.accept(token)


def test_a_choice_that_was_cut_is_an_error(nano):
    with pytest.raises(SchemaError, match="before a choice; raise max_new_tokens"):
        nano[0].check("ye", CHOICES)


@pytest.mark.parametrize("given", ["yes", [1], ["a", "a"], ["a", ""], [str(number) for number in range(5000)]])
def test_what_are_no_choices(given):
    with pytest.raises(OptionError, match="choices"):
        Options().updated({"choices": given})


def test_choices_beside_a_schema():
    with pytest.raises(OptionError, match="one of them"):
        Options().updated({"choices": ["a"], "schema": EVENTS})


@pytest.mark.parametrize("given", [3, "{", "[]", {"a": {1}}, {"a": "x" * MAX_SCHEMA_CHARS}])
def test_what_is_no_schema(given):
    with pytest.raises(OptionError, match="schema"):
        as_schema(given)


@pytest.mark.parametrize(
    ("given", "what"), [("[]", "JSON list"), ("3", "JSON number"), ("null", "JSON null"), ([], "list"), (3, "int")]
)
def test_what_came_instead_of_a_schema_is_said(given, what):
    with pytest.raises(OptionError, match=f"^schema is a {what}, allowed: a JSON schema, which is an object"):
        as_schema(given)


def test_a_large_vocabulary_costs_little(large):
    schema = as_schema(EVENTS)
    random_answer(large, schema, 0)
    rule = large[0].rule(schema)()
    scores = torch.zeros(large[2])
    started = time.perf_counter()
    for _ in range(20):
        rule.restrict(scores)
    assert (time.perf_counter() - started) / 20 < 0.02  # a shared machine; a decode step of the 8 B takes about as long


OPEN_ENDED = {
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "string": {"type": "string"},
    "strings": {"type": "array", "items": {"type": "string"}},
    "anything": {},
    "either": {"anyOf": [{"type": "null"}, {"type": "string", "minLength": 3}, {"type": "array", "minItems": 2}]},
    "events": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "label": {"enum": ["dog", "rain"]},
                "start_s": {"type": "number"},
                "note": {"type": "string"},
            },
            "required": ["label", "start_s", "note"],
            "additionalProperties": False,
        },
    },
    "free object": {"type": "object", "additionalProperties": {"type": "integer"}},
}


@pytest.mark.parametrize("kind", OPEN_ENDED)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**31), room=st.integers(70, 260), is_greedy=st.booleans(), is_endless=st.booleans())
def test_an_answer_ends_within_its_room(nano, kind, seed, room, is_greedy, is_endless):
    """Also that of a model that never closes anything by itself, and of one whose tokens are drawn."""
    structured, tokenizer, num_logits = nano
    schema = as_schema({"type": "object", "properties": {"it": OPEN_ENDED[kind]}, "required": ["it"],
                        "additionalProperties": False})  # fmt: skip
    rule = structured.rule(schema, room)()
    generator = torch.Generator().manual_seed(seed)
    closing = torch.tensor([bool(set(tokenizer.decode([token])) & set('"]}')) for token in range(num_logits)])
    ids = []
    while len(ids) < room:
        logits = torch.randn(num_logits, generator=generator)
        scores = rule.restrict(logits.masked_fill(closing, -50.0) if is_endless else logits)
        token = int(scores.argmax() if is_greedy else torch.multinomial(scores.softmax(-1), 1, generator=generator))
        rule.accept(token)
        if token in tokenizer.eos_ids:
            break
        ids.append(token)
    assert set(json.loads(structured.check(tokenizer.decode(ids), schema))) == {"it"}


def test_what_has_no_end_of_its_own_gets_one(nano):
    structured, tokenizer, num_logits = nano
    rule = structured.rule(as_schema({"type": "integer"}))()
    digit = tokenizer.encode_plain("7")[0]
    wanted = torch.zeros(num_logits)
    wanted[digit] = 1.0
    said = []
    while len(said) < 20 and not set(said) & set(tokenizer.eos_ids):
        said.append(int(rule.restrict(wanted).argmax()))
        rule.accept(said[-1])
    assert said[:-1] == [digit] * MAX_DIGITS


LIMITS = [
    ({"type": "integer"}, {"type": "integer", "maximum": MAX_INTEGER, "minimum": -MAX_INTEGER}),
    ({"type": "integer", "minimum": 10**20}, {"type": "integer", "minimum": 10**20, "maximum": 10**20}),
    ({"type": "integer", "minimum": 0, "maximum": 9}, {"type": "integer", "minimum": 0, "maximum": 9}),
    ({"type": ["string", "null"]}, {"type": ["string", "null"], "maxLength": MAX_CHARS}),
    ({"type": "string", "minLength": 300}, {"type": "string", "minLength": 300, "maxLength": 300}),
    ({"type": "string", "pattern": "^a+$"}, {"type": "string", "pattern": "^a+$"}),
    ({"enum": [{"type": "string"}]}, {"enum": [{"type": "string"}]}),
    ({"type": "string", "allOf": [{"minLength": 999}]}, {"type": "string", "allOf": [{"minLength": 999}]}),
    (
        {"properties": {"type": {"type": "string"}}},
        {"properties": {"type": {"type": "string", "maxLength": MAX_CHARS}}},
    ),
    (
        {"type": "array", "items": {"type": "string"}},
        {"type": "array", "items": {"type": "string", "maxLength": MAX_CHARS}, "maxItems": MAX_ITEMS},
    ),
    ({"items": False, "type": "array", "maxItems": 50}, {"items": False, "type": "array", "maxItems": 50}),
]


@pytest.mark.parametrize(("given", "expected"), LIMITS)
def test_limits_are_added_where_a_schema_states_none(given, expected):
    assert json.loads(limited(json.dumps(given))) == expected


def test_limits_that_do_not_go_together_with_a_schema_are_left_out(nano):
    schema = as_schema({"anyOf": [{"type": "string"}], "minLength": 300})
    text, _ = random_answer(nano, schema, 0, max_tokens=20)
    assert text.startswith('"')

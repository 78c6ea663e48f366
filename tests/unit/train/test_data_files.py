import json
import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import maker, turns, write_rows, write_wav

from audioflamingo.errors import FlamingoError
from audioflamingo.train.data import TrainingDataError, load_corpus, parse_mixture, read_registry, read_rows
from audioflamingo.train.data.rows import parse_row

GOOD = {"id": "a", "sound": "x.wav", "duration": 1.5, "conversations": turns("<sound>\nWhat?", "Rain.")}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_lists_and_lines_give_the_same_rows(tmp_path):
    rows = [GOOD, {"id": 7, "sound": ["y.wav", "z.wav"], "conversations": turns("<sound><sound>Same?", "No.")}]
    lines = read_rows(write(tmp_path / "a.jsonl", rows))[0]
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    listed = read_rows(tmp_path / "a.json")[0]
    assert [(r.id, r.sounds, r.turns, r.duration_s) for r in lines] == [
        (r.id, r.sounds, r.turns, r.duration_s) for r in listed
    ]
    assert [row.id for row in lines] == ["a", "7"]
    assert lines[0].sounds == (tmp_path / "x.wav",)
    assert lines[0].turns == (("user", "<sound>\nWhat?"), ("assistant", "Rain."))


def test_a_row_may_have_no_sound_and_a_system_turn(tmp_path):
    system = [{"from": "system", "value": "Be brief."}, *turns("Hi", "Hello")]
    for extra in ({}, {"sound": None}):
        row = parse_row({"id": "t", "conversations": system, **extra}, tmp_path, "here")
        assert row.sounds == ()
        assert row.turns[0] == ("system", "Be brief.")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"conversations": turns("a", "b", "c")}, "ends with a human"),
        ({"conversations": turns("a")}, "alternate"),
        ({"conversations": [*turns("a", "b"), *turns("c", "d")[1:]]}, "alternate"),
        ({"conversations": list(reversed(turns("a", "b")))}, "alternate"),
        ({"conversations": turns("a", " \n")}, "turn 2 is empty"),
        ({"conversations": []}, "expected a list of turns"),
        ({"conversations": [{"from": "robot", "value": "x"}]}, "expected from"),
        ({"duration": float("inf")}, "duration"),
        ({"duration": -1}, "duration"),
        ({"duration": 1e12}, "duration"),
        ({"duration": "long"}, "duration"),
        ({"sound": 3}, "its sound is 3"),
        ({"sound": ["a.wav", None]}, "its sound"),
        ({"sound": ["a.wav"] * 65}, "at most 64"),
        ({"id": {}}, "its id"),
    ],
)
def test_bad_rows_say_why(tmp_path, change, reason):
    with pytest.raises(TrainingDataError, match=reason):
        parse_row(GOOD | change, tmp_path, "here")


def test_bad_lines_do_not_take_the_others_with_them(tmp_path):
    good = json.dumps(GOOD).encode()
    file = tmp_path / "mixed.jsonl"
    lines = [good, b"{not json", b'{"id": "\xff"}', good, b"[]", b"", good.replace(b'"a"', b'"b"')]
    file.write_bytes(b"\n".join(lines))
    rows, bad = read_rows(file)
    assert [row.id for row in rows] == ["a", "b"]
    assert [row.origin for row in bad] == [f"mixed.jsonl:{n}" for n in (2, 3, 4, 5)]
    assert [word in row.reason for word, row in zip(("JSON", "UTF-8", "used before", "object"), bad, strict=True)]
    assert all(row.reason for row in bad)


@pytest.mark.parametrize("content", [b"", b"[]", b"[1, 2", b'["\xff\xfe"]', b"[" * 100_000])
def test_broken_files_are_one_error(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(TrainingDataError, match=r"x\.json"):
        read_rows(tmp_path / "x.json")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "x.jsonl"
    path.write_bytes(content)
    with suppress(FlamingoError):
        rows, bad = read_rows(path)
        assert len(rows) + len(bad) >= 1


def test_mixtures_multiply_and_nest(tmp_path):
    for name in "abc":
        write(tmp_path / f"{name}.json", [GOOD])
    (tmp_path / "sets.json").write_text(json.dumps({"A": "a.json", "B": "b.json", "AB": "A*2 + B#50", "C": "c.json"}))
    registry = read_registry(tmp_path / "sets.json")
    parts = parse_mixture("AB*3+C#10+A", registry)
    assert [(p.path.name, p.repeats, p.share) for p in parts] == [
        ("a.json", 6, 1.0), ("b.json", 3, 0.5), ("c.json", 1, 0.1), ("a.json", 1, 1.0),
    ]  # fmt: skip
    assert parse_mixture(str(tmp_path / "a.json"))[0].path == tmp_path / "a.json"


@pytest.mark.parametrize("text", ["A*0", "A*1.5", "A#0", "A#101", "A*", "", "A++B", "nobody", "loop", "A*999999", "#5"])
def test_wrong_mixtures_are_refused(tmp_path, text):
    write(tmp_path / "a.json", [GOOD])
    registry = {"A": str(tmp_path / "a.json"), "B": str(tmp_path / "a.json"), "loop": "loop2*2", "loop2": "loop"}
    with pytest.raises(TrainingDataError):
        parse_mixture(text, registry)


def test_corpus_repeats_shares_and_lists_bad_rows(tmp_path, base):
    rows = write_rows(tmp_path, 200)
    with rows.open("a") as file:
        file.write(json.dumps(GOOD | {"id": "gone", "sound": "gone.wav"}) + "\n")
        file.write(
            json.dumps({"id": "count", "sound": "s0.wav", "conversations": turns("<sound> <sound>?", "x")}) + "\n"
        )
    parts = parse_mixture("A*2+A#10", {"A": str(rows)})
    corpus = load_corpus(parts, maker(base), tmp_path / "bad.jsonl")
    assert len(corpus.samples) == 2 * 200 + 20
    assert corpus.num_rows == 202
    listed = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(row["id"], row["origin"]) for row in listed] == [("gone", "rows.jsonl:201"), ("count", "rows.jsonl:202")]
    assert "does not exist" in listed[0]["reason"]
    assert "placeholder" in listed[1]["reason"]


def test_more_than_one_percent_of_bad_rows_stops_the_run(tmp_path, base):
    rows = write_rows(tmp_path, 8)
    (tmp_path / "s0.wav").write_bytes((tmp_path / "s0.wav").read_bytes()[:1_000])
    with pytest.raises(TrainingDataError, match=r"1 of 8 rows.*rows.jsonl:1.*bad.jsonl"):
        load_corpus(parse_mixture(str(rows)), maker(base), tmp_path / "bad.jsonl")
    assert os.path.exists(tmp_path / "bad.jsonl")


def test_sounds_longer_than_the_recipe_takes_are_bad_rows_not_cut(tmp_path, base):
    write_wav(tmp_path / "long.wav", 31.0, rate_hz=8_000)
    file = write(tmp_path / "x.jsonl", [{"id": "l", "sound": "long.wav", "conversations": turns("<sound>?", "x")}])
    with pytest.raises(TrainingDataError, match=r"31.0 s; this recipe takes at most 30 s"):
        load_corpus(parse_mixture(str(file)), maker(base))
    corpus = load_corpus(parse_mixture(str(file)), maker(base, max_windows=2))
    assert corpus.samples[0].size.num_audio_tokens == 750 + 25

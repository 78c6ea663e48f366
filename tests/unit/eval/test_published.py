"""Rows from the files of published benchmarks, in small; what is missing is told."""

import json
import subprocess
import sys

import pytest

from audioflamingo.errors import FlamingoError
from audioflamingo.eval.judging import metric_of
from audioflamingo.eval.published import BENCHMARKS, Given, write_rows
from audioflamingo.train.data.nvidia_json import read_rows


def made(name, tmp_path, table=None, suffix=".csv", **more):
    path = None
    if table is not None:
        path = tmp_path / f"table{suffix}"
        path.write_text(table if isinstance(table, str) else json.dumps(table))
    told = write_rows(BENCHMARKS[name](Given(path, tmp_path, **more)), tmp_path / "out.jsonl")
    return told, read_rows(tmp_path / "out.jsonl")[0] if (tmp_path / "out.jsonl").exists() else []


def sounds(tmp_path, *names):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()


def judged_by(rows):
    return [metric_of(row.turns[0][1], row.turns[1][1]) for row in rows]


def test_librispeech(tmp_path):
    sounds(tmp_path, "61/70968/61-70968-0000.flac", "61/70968/61-70968-0002.flac")
    (tmp_path / "61/70968/61-70968.trans.txt").write_text(
        "61-70968-0000 HE BEGAN\n61-70968-0001 GONE\n61-70968-0002 A\n"
    )
    told, rows = made("librispeech", tmp_path)
    assert told.endswith("2 rows; 1 records were left out: the sound of 61-70968-0001 is not there")
    assert [(row.id, row.turns[1][1]) for row in rows] == [("61-70968-0000", "HE BEGAN"), ("61-70968-0002", "A")]
    assert rows[0].sounds[0].name == "61-70968-0000.flac"
    assert judged_by(rows) == ["words", "words"]


def test_clotho(tmp_path):
    sounds(tmp_path, "evaluation/Rain on a roof.wav")
    table = 'file_name,caption_1,caption_2\nRain on a roof.wav,Rain falls.,"It rains, hard."\n'
    _, (row,) = made("clotho", tmp_path, table)
    assert row.references == ("Rain falls.", "It rains, hard.")
    assert row.turns[1][1] == "Rain falls."
    assert judged_by([row]) == ["caption"]


def test_audiocaps_by_any_name_of_a_sound(tmp_path):
    sounds(tmp_path, "Yabc.wav", "12.flac", "ghi_30.m4a", "jkl.wav")
    lines = [
        "11,abc,10,A dog.",
        "12,def,20,Rain.",
        "13,abc,10,A hound.",
        "14,ghi,30,Wind.",
        "15,jkl,5,A bell.",
        "16,m,1,A.",
    ]
    told, rows = made("audiocaps", tmp_path, "\n".join(["audiocap_id,youtube_id,start_time,caption", *lines]))
    assert [(row.id, row.references) for row in rows] == [
        ("abc", ("A dog.", "A hound.")), ("def", ("Rain.",)), ("ghi", ("Wind.",)), ("jkl", ("A bell.",)),
    ]  # fmt: skip
    assert "the sound of m is not there" in told


def test_clotho_aqa_keeps_what_all_agree_on(tmp_path):
    sounds(tmp_path, "a.wav")
    said = [("Is it raining?", "yes yes Yes"), ("Is it loud?", "yes no yes"), ("What animal?", "dog dog dog")]
    lines = [f"a.wav,{question},{one},yes" for question, answers in said for one in answers.split()]
    _, rows = made("clotho-aqa", tmp_path, "\n".join(["file_name,QuestionText,answer,confidence", *lines]))
    assert [row.turns[1][1] for row in rows] == ["yes", "dog"]
    assert judged_by(rows) == ["yes_no", "open"]


def test_choices_by_kind(tmp_path):
    sounds(tmp_path, "audio/a.wav", "audio/b.wav")
    records = [
        {"id": "1", "audio_id": "./audio/a.wav", "question": "?", "choices": ["Rain", "Wind"], "answer": "Wind",
         "task": "sound"},
        {"id": "2", "audio_path": "b.wav", "question": "Key?", "choices": ["C", "D"], "answer": "C", "task": "music/x"},
        {"id": "3", "audio_id": "a.wav", "question": "Key?", "choices": ["C", "D"], "answer": "E", "task": "sound"},
        {"id": "4", "audio_id": "a.wav", "question": "Key?", "choices": ["C"], "answer": "C", "task": "sound"},
    ]  # fmt: skip
    told, _ = made("choices", tmp_path, records, ".json", by="task")
    assert "2 records were left out: record 2: its answer 'E' is not exactly one of its choices; record 3 has" in told
    (sound,), _ = read_rows(tmp_path / "out-sound.jsonl")
    (music,), _ = read_rows(tmp_path / "out-music_x.jsonl")
    assert sound.turns[1][1] == "(B) Wind"
    assert sound.turns[0][1].endswith("(A) Rain\n(B) Wind")
    assert music.sounds[0] == (tmp_path / "audio/b.wav").resolve()
    assert judged_by([sound, music]) == ["choice", "choice"]


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        ("clotho", None, "give it with --table"),
        ("clotho", "a,b\n1,2\n", "a record has no 'file_name'; it has: a, b"),
        ("clotho", "", "no row could be made; no record was found"),
        ("clotho", "file_name,caption_1\nx.wav,Rain.\n", "the sound of x.wav is not there"),
        ("librispeech", None, "no row could be made"),
    ],
)
def test_what_is_not_the_benchmark(tmp_path, name, table, message):
    with pytest.raises(FlamingoError, match=message):
        made(name, tmp_path, table)


def test_the_command(tmp_path):
    sounds(tmp_path, "a.wav")
    (tmp_path / "t.json").write_text("[1")
    words = [sys.executable, "-m", "audioflamingo.eval.published", "choices", "--sounds", str(tmp_path)]
    words += ["--table", str(tmp_path / "t.json"), "--out", str(tmp_path / "out.jsonl")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "t.json cannot be read" in done.stderr
    record = {"audio": "a.wav", "question": "Which?", "choices": ["Rain", "Wind"], "answer": "Rain"}
    (tmp_path / "t.json").write_text(json.dumps(record))
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'out.jsonl'}: 1 rows\n"

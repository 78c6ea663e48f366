"""Which answers are asked for, by what each is judged, and where a caption's references come from."""

import io
import json
import tarfile

import pytest

from audioflamingo.errors import FlamingoError
from audioflamingo.eval.items import group_of, items_of
from audioflamingo.eval.judge import Judge
from audioflamingo.train.data.mixtures import parse_mixture
from audioflamingo.train.data.rows import TrainingDataError, parse_row

DESCRIBE = "Describe the audio in one sentence."


def row(key, sound, *turns, **more):
    told = [{"from": "human" if place % 2 == 0 else "gpt", "value": turn} for place, turn in enumerate(turns)]
    return {"id": key, "sound": sound, "conversations": told, **more}


def read(tmp_path, rows, name="set.json", **more):
    (tmp_path / name).write_text(json.dumps(rows))
    return items_of(parse_mixture(str(tmp_path / name)), 20, with_sounds=False, **more)


def told(found):
    return [(item.row.id, item.metric, item.references) for item in found.items]


def test_references_are_listed_in_a_row_with_its_own_answer_or_without(tmp_path):
    found = read(
        tmp_path,
        [
            row("with", "a.wav", DESCRIBE, "A dog.", references=["A hound.", "A dog.", "A hound."]),
            row("without", "b.wav", DESCRIBE, "Rain.", references=["It rains."]),
            row("alone", "c.wav", DESCRIBE, "Wind."),
        ],
    )
    assert told(found) == [
        ("with", "caption", ("A hound.", "A dog.", "A hound.")),
        ("without", "caption", ("Rain.", "It rains.")),
        ("alone", "caption", ("Wind.",)),
    ]


def test_rows_that_ask_the_same_about_the_same_sounds_are_one_caption(tmp_path):
    rows = [
        row("1", "a.wav", DESCRIBE, "A dog."),
        row("2", "b.wav", DESCRIBE, "Rain."),
        row("3", "a.wav", DESCRIBE, "A dog barks.", references=["A hound barks."]),
        row("4", "a.wav", "Write a caption.", "Barking."),
        row("5", "a.wav", DESCRIBE, "A dog."),
        row("6", None, DESCRIBE, "Nothing."),
        row("7", None, DESCRIBE, "Nothing at all."),
    ]
    found = read(tmp_path, rows)
    assert told(found) == [
        ("1", "caption", ("A dog.", "A dog barks.", "A hound barks.", "A dog.")),
        ("2", "caption", ("Rain.",)),
        ("4", "caption", ("Barking.",)),
        ("6", "caption", ("Nothing.",)),
        ("7", "caption", ("Nothing at all.",)),
    ]
    assert found.num_rows == 7
    few = read(tmp_path, rows, max_rows=2)
    assert told(few) == told(found)[:2]  # the further references, too
    by_words = read(tmp_path, rows, metric="open")
    assert [item.row.id for item in by_words.items] == [one["id"] for one in rows]
    assert not any(item.references for item in by_words.items)


@pytest.mark.parametrize(
    ("key", "question", "answer", "metric"),
    [
        ("1", "Describe the audio in one sentence.", "Rain.", "caption"),
        ("1", "Please describe the audio in detail", "Rain.", "caption"),
        ("1", "Write an audio caption describing the sound.", "Rain.", "caption"),
        ("1", "Describe the sound.", "Rain.", "caption"),
        ("1", "Describe the sound of the bell.", "Dull.", "open"),
        ("1", "What do you hear?", "Rain.", "open"),
        ("1", "Is this caption right: rain?", "No.", "yes_no"),
        ("caption-test_known-3-0000001-0", "Depict everything that can be heard.", "Rain.", "caption"),
        ("counting-test_known-3-0000001-0", "Depict everything that can be heard.", "Rain.", "open"),
    ],
)
def test_what_is_a_caption(tmp_path, key, question, answer, metric):
    assert read(tmp_path, [row(key, "a.wav", question, answer)]).items[0].metric == metric


def test_several_true_answers_make_a_caption_unless_another_metric_fits(tmp_path):
    found = read(
        tmp_path,
        [
            row("1", "a.wav", "What do you hear?", "Rain.", references=["It rains."]),
            row("2", "a.wav", "Does it rain?", "Yes.", references=["Yes.", "Sure."]),
        ],
    )
    assert [item.metric for item in found.items] == ["caption", "yes_no"]
    (note,) = [note for note in Judge(found.items).notes() if "references that are not" in note]
    assert note.startswith("1 rows")


@pytest.mark.parametrize(
    ("references", "reason"),
    [
        ([], r"its references are \[\], expected a list of texts"),
        ("Rain.", "its references are 'Rain.', expected a list"),
        (["Rain.", 3], "expected a list of texts"),
        (["Rain.", " "], "expected a list of texts"),
        ({"a": "Rain."}, "expected a list of texts"),
        (["Rain."] * 1_001, "it has 1,001 references, at most 1,000"),
    ],
)
def test_references_of_another_form(tmp_path, references, reason):
    with pytest.raises(TrainingDataError, match=reason):
        parse_row(row("1", "a.wav", DESCRIBE, "Rain.", references=references), tmp_path, "here")


def test_references_belong_to_one_answer(tmp_path):
    two = row("1", "a.wav", DESCRIBE, "Rain.", "And?", "Wind.", references=["Rain."])
    with pytest.raises(TrainingDataError, match="belong to one answer, and its conversation has 2"):
        parse_row(two, tmp_path, "here")


def test_references_in_shards(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, content in (("1.wav", b"?"), ("1.json", json.dumps({"caption": "A.", "references": ["A.", "B."]}))):
            info = tarfile.TarInfo(name)
            data = content if isinstance(content, bytes) else content.encode()
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    found = items_of(parse_mixture(str(tmp_path / "x.tar")), 20, with_sounds=False)
    assert told(found) == [("1", "caption", ("A.", "B."))]


def test_references_in_a_table(tmp_path):
    datasets = pytest.importorskip("datasets")
    table = {"question": [DESCRIBE] * 2, "answer": ["A.", "B."], "all": [["A.", "C."], ["B."]]}
    datasets.Dataset.from_dict(table).save_to_disk(tmp_path / "saved")
    registry = {"set": {"datasets": str(tmp_path / "saved"), "references": "all"}}
    found = items_of(parse_mixture("set", registry), 20, with_sounds=False)
    assert [item.references for item in found.items] == [("A.", "C."), ("B.",)]


def test_sounds_are_looked_at_where_they_are_heard(tmp_path):
    (tmp_path / "set.json").write_text(json.dumps([row("1", "nowhere.wav", DESCRIBE, "Rain.")]))
    with pytest.raises(FlamingoError, match=r"1 of 1 rows cannot be used.*nowhere\.wav"):
        items_of(parse_mixture(str(tmp_path / "set.json")), 20)


def test_a_judge_of_captions(tmp_path):
    items = read(tmp_path, [row("1", "a.wav", DESCRIBE, "A dog barks loudly."), row("2", "b.wav", DESCRIBE, "Rain.")])
    judge = Judge(items.items)
    assert judge.notes() == []
    verdict = judge.verdict(items.items[0], "a dog barks loudly")
    assert (verdict.score, verdict.is_right, verdict.is_told) == (pytest.approx(10), True, True)
    empty = judge.verdict(items.items[0], "")
    assert (empty.score, empty.is_right, empty.is_told) == (0, False, False)
    huge = judge.verdict(items.items[0], "a dog " * 1_000_000)
    assert (huge.score, huge.is_told) == (0, False)


def test_one_caption_alone_is_warned_of_and_the_whole_sets_references_help(tmp_path):
    one = read(tmp_path, [row("1", "a.wav", DESCRIBE, "A dog barks loudly.")])
    (note,) = Judge(one.items).notes()
    assert note.startswith("CIDEr-D of set.json is 0 by definition: no word tells its 1 item(s) apart")
    whole = read(tmp_path, [row(str(n), None, DESCRIBE, f"{n} dogs bark.") for n in range(3)], "whole.json")
    judge = Judge(one.items, whole.items)
    assert judge.notes() == []
    assert judge.verdict(one.items[0], "A dog barks loudly.").score == pytest.approx(10)


@pytest.mark.parametrize(
    ("rows", "references", "message"),
    [
        ([row("1", "a.wav", DESCRIBE, "...")], [], "the reference '...' has no words"),
        ([row("1", "a.wav", DESCRIBE, "Rain. " * 50_000)], [], "300,000 characters, at most 100,000"),
        ([row("1", "a.wav", "Does it rain?", "No.")], [row("1", None, DESCRIBE, "Rain.")], "no question asks for one"),
        ([row("1", "a.wav", DESCRIBE, "Rain.")], [row("9", None, DESCRIBE, "!")], "the reference '!' has no words"),
    ],
)
def test_what_cannot_be_judged_is_one_line(tmp_path, rows, references, message):
    items = read(tmp_path, rows).items
    others = read(tmp_path, references, "more.json").items if references else []
    with pytest.raises(FlamingoError, match=message) as error:
        Judge(items, others)
    assert "\n" not in str(error.value)


def test_groups():
    assert group_of("w.json", "caption-test_known-3-0000001-0") == "w.json: caption"
    assert group_of("w.json", "caption-of-mine") == "w.json"

"""`flamingo eval` and `eval.run.evaluate` on the sounds of examples/, with the embedded model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from audioflamingo import load_model
from audioflamingo.cli.main import main
from audioflamingo.errors import FlamingoError
from audioflamingo.eval.captions import FIGURES, judge_captions
from audioflamingo.eval.report import figures, write_report
from audioflamingo.eval.run import BAD_ROWS, PREDICTIONS, evaluate
from audioflamingo.train.data.mixtures import parse_mixture

EXAMPLES = Path(__file__).parents[2] / "examples"
DOG, MAN = EXAMPLES / "dog_then_bell.wav", EXAMPLES / "man_speaking.flac"
CHOICE = "What do you hear first? Choose the correct option from the following options:\n(A) a bell\n(B) a dog barking"


def row(key, sound, *turns):
    told = [{"from": "human" if place % 2 == 0 else "gpt", "value": turn} for place, turn in enumerate(turns)]
    return {"id": key, "sound": str(sound), "duration": 3.0, "conversations": told}


ROWS = [
    row("choice", DOG, f"<sound>\n{CHOICE}", "(B) a dog barking"),
    row("words", MAN, "<sound>\nTranscribe the speech.", "the train to london leaves at seven"),
    row("turns", DOG, "<sound>\nDoes somebody speak?", "No.", "How many times do you hear a bell?", "One."),
    row("open", DOG, "<sound>\nWhat do you hear?", "A dog barking, then a bell."),
]


@pytest.fixture(scope="module")
def nano():
    return load_model("nano", device="cpu")


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "test.json"
    path.write_text(json.dumps(ROWS))
    return path


def run(nano, data, out, **options):
    return evaluate(nano, parse_mixture(str(data)), out, **options)


def test_a_place_that_cannot_be_written_to_is_one_line(data, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(["eval", "--data", str(data), "--out", str(out), "--device", "cpu"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"flamingo: error: {out} cannot be read or written (")
        assert error.count("\n") == 1


def test_a_report_that_cannot_be_written_is_an_error_with_a_remedy(nano, data, tmp_path):
    found = run(nano, data, tmp_path / "out")
    (tmp_path / "out" / "report.json").unlink(missing_ok=True)
    (tmp_path / "out" / "report.json").mkdir()
    with pytest.raises(FlamingoError, match="answers that are there are not asked for again"):
        write_report(found, tmp_path / "out", {})


def test_a_folder_in_the_place_of_rows_names_what_to_give(tmp_path):
    with pytest.raises(FlamingoError, match=r"is a folder; name its file of rows, such as .*rows\.json"):
        parse_mixture(str(tmp_path))


def test_every_answer_is_asked_for_judged_and_kept(nano, data, tmp_path):
    out = tmp_path / "out"
    found = run(nano, data, out)
    assert [(one.id, one.turn, one.verdict.metric) for one in found.answers] == [
        ("choice", 1, "choice"), ("words", 1, "words"), ("turns", 1, "yes_no"), ("turns", 3, "number"),
        ("open", 1, "open"),
    ]  # fmt: skip
    alone = nano.ask(DOG, CHOICE).text
    assert (found.answers[0].answer, found.answers[0].verdict.is_right) == (alone, "dog" in alone)
    later = nano.answer(
        [
            {"role": "user", "content": [DOG, "Does somebody speak?"]},
            {"role": "assistant", "content": "No."},  # the true one, whatever the model said
            {"role": "user", "content": "How many times do you hear a bell?"},
        ]
    )
    assert found.answers[3].answer == later.text
    kept = [json.loads(line) for line in (out / PREDICTIONS).read_text().splitlines()]
    assert [one["answer"] for one in kept] == [one.answer for one in found.answers]
    rows = figures(found)
    assert [(one.metric, one.measured.num_items) for one in rows] == [
        ("words", 1), ("choice", 1), ("yes_no", 1), ("number", 1), ("open", 1),
    ]  # fmt: skip
    written = write_report(found, out, {"model": "nano"})
    assert "| test.json | word error rate |" in written
    assert json.loads((out / "report.json").read_text())["figures"][0]["measured"]["num_items"] == 1


def test_it_goes_on_where_it_ended_and_refuses_another_run(nano, data, tmp_path):
    out, whole = tmp_path / "out", run(nano, data, tmp_path / "whole")
    run(nano, data, out)
    lines = (out / PREDICTIONS).read_text().splitlines(keepends=True)
    (out / PREDICTIONS).write_text("".join(lines[:2]) + lines[2][:20])  # killed while it wrote
    again = run(nano, data, out)
    assert again.num_kept == 2
    assert again.answers == whole.answers
    with pytest.raises(FlamingoError, match=r"holds another run \(other options\); choose another --out"):
        run(nano, data, out, max_new_tokens=3)
    with pytest.raises(FlamingoError, match=r"other data"):
        run(nano, data, out, max_rows=2)
    (out / PREDICTIONS).write_text("{}\n")
    with pytest.raises(FlamingoError, match="line 1, is damaged"):
        run(nano, data, out)


def test_what_cannot_be_used_is_listed_and_too_much_of_it_stops(nano, data, tmp_path):
    data.write_text(json.dumps([*ROWS, row("gone", tmp_path / "nowhere.wav", "<sound>\nWhat?", "Rain.")]))
    with pytest.raises(FlamingoError, match=r"1 of 5 rows cannot be used, more than 1%: .*nowhere\.wav"):
        run(nano, data, tmp_path / "out")
    assert json.loads((tmp_path / "out" / BAD_ROWS).read_text())["id"] == "gone"
    data.write_text(json.dumps(ROWS))
    with pytest.raises(FlamingoError, match=r"the true answer .* is no number .*; choose another --metric"):
        run(nano, data, tmp_path / "other", metric="number")


def test_what_the_model_refuses_counts_as_wrong_and_is_told(nano, data, tmp_path):
    found = run(nano, data, tmp_path / "out", max_rows=1, max_prompt_tokens=20)
    (one,) = found.answers
    assert "20" in one.error
    assert not one.verdict.is_right
    assert figures(found)[0].num_failed == 1


def test_the_likeliest_option(nano, data, tmp_path):
    found = run(nano, data, tmp_path / "out", max_rows=1, by_likelihood=True)
    scores = nano.score([{"role": "user", "content": [DOG, CHOICE]}], ["(A) a bell", "(B) a dog barking"])
    assert found.answers[0].answer == max(scores, key=lambda score: score.log_likelihood).text
    with pytest.raises(FlamingoError, match="other choices"):
        run(nano, data, tmp_path / "out", max_rows=1)


def test_transcripts_normalized_as_whispers_are(nano, data, tmp_path):
    pytest.importorskip("whisper_normalizer")
    heard = nano.ask(MAN, "Transcribe the speech.").text
    data.write_text(json.dumps([row("words", MAN, "<sound>\nTranscribe the speech.", f"Um, {heard}, Mr. Grey.")]))
    plain = run(nano, data, tmp_path / "plain").answers[0]
    english = run(nano, data, tmp_path / "out", normalize="english")
    assert english.answers[0].answer == plain.answer
    assert (plain.verdict.num_errors, english.answers[0].verdict.num_errors) == (3, 2)
    assert english.answers[0].verdict.num_words == plain.verdict.num_words - 1
    assert run(nano, data, tmp_path / "out", normalize="english").answers == english.answers
    with pytest.raises(FlamingoError, match=r"holds another run \(other normalize\); choose another --out"):
        run(nano, data, tmp_path / "out")
    with pytest.raises(FlamingoError, match=r"holds another run \(other normalize\)"):
        run(nano, data, tmp_path / "plain", normalize="english")


@pytest.mark.slow
def test_the_verb_normalizes_and_says_so(data, tmp_path):
    data.write_text(json.dumps([ROWS[1]]))
    command = [sys.executable, "-m", "audioflamingo", "eval", "--data", str(data), "--out"]
    for name, more in (("default", []), ("plain", ["--normalize", "plain"])):
        subprocess.run([*command, str(tmp_path / name), *more], capture_output=True, check=True)
    names = sorted(path.name for path in (tmp_path / "default").iterdir())
    assert {"predictions.jsonl", "report.json", "report.md", "run.json"} <= set(names)
    for name in names:
        assert (tmp_path / "default" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    pytest.importorskip("whisper_normalizer")
    subprocess.run([*command, str(tmp_path / "en"), "--normalize", "english"], capture_output=True, check=True)
    told = json.loads((tmp_path / "en" / "report.json").read_text())["normalize"]
    assert told.startswith("english, spellings evened out (whisper-normalizer 0.")
    assert f"* normalize: {told}\n" in (tmp_path / "en" / "report.md").read_text()
    assert json.loads((tmp_path / "en" / "run.json").read_text())["normalize"] == told


DESCRIBE = "<sound>\nDescribe the recording."
CAPTIONS = [
    row("dog", DOG, DESCRIBE, "A dog barks, then a church bell rings.") | {"references": ["Barking before a bell."]},
    row("dog again", DOG, DESCRIBE, "A hound barks and a bell tolls."),
    row("man", MAN, DESCRIBE, "A man says when the train to London leaves."),
    row("open", DOG, "<sound>\nWhat do you hear?", "A dog barking, then a bell."),
]


def test_captions_are_judged_by_all_references_of_a_sound(nano, data, tmp_path):
    data.write_text(json.dumps(CAPTIONS))
    found = run(nano, data, tmp_path / "out")
    dog, man, _ = found.answers
    assert dog.references == (
        CAPTIONS[0]["conversations"][1]["value"],
        "Barking before a bell.",
        CAPTIONS[1]["conversations"][1]["value"],
    )
    scores = judge_captions([dog.answer, man.answer], [dog.references, man.references])
    rows = {one.name: one for one in figures(found)}
    assert {name: rows[name].measured for name in FIGURES} == scores
    assert rows["F1 of words, open answers"].measured.num_items == 1
    assert scores["CIDEr-D"].value == pytest.approx((dog.verdict.score + man.verdict.score) / 2)
    assert f"| test.json | CIDEr-D | {scores['CIDEr-D'].value:.3f} |" in write_report(found, tmp_path / "out", {})
    again = run(nano, data, tmp_path / "out")
    assert (again.num_kept, again.answers) == (3, found.answers)
    lines = [json.loads(line) for line in (tmp_path / "out" / PREDICTIONS).read_text().splitlines()]
    assert ["references" in line for line in lines] == [True, True, False]
    data.write_text(json.dumps([CAPTIONS[0] | {"references": ["Barking."]}, *CAPTIONS[1:]]))
    with pytest.raises(FlamingoError, match=r"holds another run \(other data\)"):
        run(nano, data, tmp_path / "out")


def test_a_part_of_a_set_of_captions_scores_as_in_the_whole(nano, data, tmp_path):
    data.write_text(json.dumps(CAPTIONS))
    whole = parse_mixture(str(data))
    alone = run(nano, data, tmp_path / "alone", max_rows=1)
    assert [note.startswith("CIDEr-D of test.json is 0 by definition") for note in alone.notes] == [True]
    assert figures(alone)[0].measured.value == 0
    assert (
        "Note: CIDEr-D of test.json is 0"
        in (write_report(alone, tmp_path, {}), (tmp_path / "report.md").read_text())[1]
    )
    part = run(nano, data, tmp_path / "part", max_rows=1, references=whole)
    assert part.notes == []
    assert part.answers[0].verdict == run(nano, data, tmp_path / "all").answers[0].verdict
    with pytest.raises(FlamingoError, match=r"holds another run \(other references\)"):
        run(nano, data, tmp_path / "part", max_rows=1)
    data.write_text(json.dumps(ROWS))
    with pytest.raises(FlamingoError, match="no question of the references asks for a caption"):
        run(nano, data, tmp_path / "none", references=parse_mixture(str(data)))


@pytest.mark.slow
def test_the_verb_judges_captions(data, tmp_path):
    data.write_text(json.dumps(CAPTIONS[:1]))
    command = [sys.executable, "-m", "audioflamingo", "eval", "--data", str(data), "--metric", "caption"]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "note: CIDEr-D of test.json is 0 by definition" in done.stderr
    assert "| test.json | CIDEr-D | 0.000 | 0.000 to 0.000 | 1 |" in done.stdout
    (tmp_path / "bad.json").write_text(json.dumps([CAPTIONS[0] | {"references": []}]))
    command += ["--references", str(tmp_path / "bad.json"), "--out", str(tmp_path / "other")]
    wrong = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "bad.json" in wrong.stderr


def test_the_verb(data, tmp_path):
    command = [sys.executable, "-m", "audioflamingo", "eval", "--data", str(data), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| test.json | accuracy, multiple choice |" in done.stdout
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "5 answers were there before" in again.stderr
    assert again.stdout == done.stdout
    wrong = subprocess.run([*command, "--data", "nowhere.json"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


def test_the_verb_searches_with_beams(nano, data, tmp_path, capsys):
    voice, question = EXAMPLES / "man_over_rain.wav", "Transcribe the input speech."
    data.write_text(json.dumps([row("words", voice, f"<sound>\n{question}", "whatever is said")]))
    words = ["eval", "--data", str(data), "--device", "cpu", "--num-beams"]
    assert main([*words, "4", "--length-penalty", "0.5", "--out", str(tmp_path / "out")]) == 0
    (line,) = (tmp_path / "out" / PREDICTIONS).read_text().splitlines()
    reply = nano.ask(voice, question, num_beams=4, length_penalty=0.5)
    assert json.loads(line)["answer"] == reply.text
    assert reply.text != nano.ask(voice, question).text
    capsys.readouterr()
    refused = {"1000": "--num-beams is 1000, allowed: 1 (off) to 32", "2 --think": "think came too"}
    for place, (wrong, told) in enumerate(refused.items()):
        assert main([*words, *wrong.split(), "--out", str(tmp_path / f"other {place}")]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1

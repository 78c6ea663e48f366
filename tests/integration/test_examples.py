"""The examples as a visitor meets them: sounds with their truth, recorded answers, scripts, the notebook, the demo."""

import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audioflamingo import FlamingoError, load_model
from audioflamingo.eval import examples as recorded
from audioflamingo.eval.metrics import word_error_rate
from audioflamingo.world import examples
from audioflamingo.world.scenes import Dice
from audioflamingo.world.tasks import NO_SPEECH, TRANSCRIBE
from audioflamingo.world.text import SENTENCE_HASH_ONE_IN, contains_unseen, normalise, stable_hash
from audioflamingo.world.voices import EngineMissingError

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples"
TRUTH = recorded.read_truth(FOLDER)
SCRIPTS = ("ask", "batch", "encoder_features", "several_sounds", "stream")
MAX_LINES = 40
MOST_BYTES = 1_500_000
LONGEST_S = 8.0
HALF_A_STEP_AND_ONE = 1.5 / 32_768  # of 16 bit: rounding, and another machine's arithmetic


@pytest.fixture(scope="module")
def nano():
    return load_model("nano", device="cpu")


def test_the_truth_covers_every_sound_and_only_those():
    files = {path.name for path in FOLDER.iterdir() if path.suffix in (".wav", ".flac")}
    assert files == {file for entry in TRUTH for file in entry["files"]} == {one.file for one in examples.EXAMPLES}
    for entry in TRUTH:
        assert set(entry) == {"files", "question", "answer", "made", "seed", "nano"}


def test_the_sounds_are_small_plain_and_short():
    paths = [FOLDER / example.file for example in examples.EXAMPLES]
    assert sum(path.stat().st_size for path in paths) < MOST_BYTES
    for path in paths:
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        assert info.duration <= LONGEST_S


def spoken_truths():
    return [e["answer"] for e in TRUTH if e["question"] == TRANSCRIBE[0] and e["answer"] != NO_SPEECH]


def test_what_is_said_is_never_said_in_training():
    assert len(spoken_truths()) == 4
    for text in spoken_truths():
        assert text == normalise(text)
        assert contains_unseen(text) or stable_hash(text) % SENTENCE_HASH_ONE_IN == 0


def test_the_recorded_answers_are_what_the_embedded_model_says(nano):
    assert recorded.answers(nano, FOLDER) == [entry["nano"] for entry in TRUTH]


def test_most_answers_are_right_and_the_failures_are_kept():
    right = [entry["answer"] == entry["nano"] for entry in TRUTH]
    assert sum(right) >= 12
    assert not all(right)
    transcripts = [e["nano"] for e in TRUTH if e["answer"] in spoken_truths()]
    assert word_error_rate(spoken_truths(), transcripts).value < 0.5


def test_the_readme_tells_every_answer_right_or_wrong():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert recorded.with_table(readme, TRUTH) == readme
    assert readme.count("✗") == sum(entry["answer"] != entry["nano"] for entry in TRUTH)


def test_a_readme_without_a_place_for_the_table_is_refused():
    with pytest.raises(FlamingoError, match="end of answers"):
        recorded.with_table(f"# Examples\n{recorded.TABLE_BEGINS}\n", TRUTH)


# What is spoken depends on the version of its engine; the test after this one is about that.
@pytest.mark.parametrize("index", [i for i, one in enumerate(examples.EXAMPLES) if "sentence" not in one.made])
def test_a_sound_without_speech_is_made_again_from_its_seed(index):
    example = examples.EXAMPLES[index]
    scene = example.make(Dice.of(examples.SEED, index))
    stored, _ = soundfile.read(FOLDER / example.file, dtype="float32")
    np.testing.assert_allclose(scene.samples, stored, atol=HALF_A_STEP_AND_ONE)
    told = [entry["answer"] for entry in TRUTH if entry["files"] == [example.file]]
    assert [truth(scene) for _, truth in example.asked] == told


def test_the_command_writes_sounds_and_truth(tmp_path):
    try:
        scenes = examples.render()
    except EngineMissingError as error:
        pytest.skip(f"{error}; .ci/run installs it")
    examples.write(tmp_path / "new", scenes)
    again = recorded.read_truth(tmp_path / "new")
    assert [e["files"] for e in again] == [e["files"] for e in TRUTH]
    for example in examples.EXAMPLES:
        assert soundfile.info(tmp_path / "new" / example.file).duration <= LONGEST_S
        if "sentence" in example.made:
            text = scenes[example.file].transcript
            assert text.count(" ") + 1 >= examples.FEWEST_WORDS
            assert contains_unseen(text) or stable_hash(text) % SENTENCE_HASH_ONE_IN == 0


def answer_to(file, question):
    return next(entry["nano"] for entry in TRUTH if entry["files"] == [file] and entry["question"] == question)


@pytest.fixture
def run_script(monkeypatch, capsys):
    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words])
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_ask_runs_as_a_program_from_anywhere(tmp_path):
    done = subprocess.run(
        [sys.executable, FOLDER / "ask.py", FOLDER / "rooster.wav"],
        capture_output=True, cwd=tmp_path, timeout=120, check=False, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"What do you hear? {answer_to('rooster.wav', 'What do you hear?')}\n")


def test_batch_tells_every_answer_and_survives_a_bad_file(run_script):
    out = run_script("batch")
    for entry in TRUTH:
        assert f"{' + '.join(entry['files'])}: {entry['nano']}" in out
    assert "error: truth.json holds text, not sound" in out.splitlines()[-1]


def test_stream_ends_with_the_whole_answer(run_script):
    out = run_script("stream", str(FOLDER / "noise.wav"), "What do you hear?")
    assert out.startswith(answer_to("noise.wav", "What do you hear?") + "\n")
    assert "ended by 'stop'" in out


def test_several_sounds_remembers_both_turns(run_script):
    out = run_script("several_sounds")
    assert answer_to("rooster.wav", "What do you hear?") in out
    assert "4 messages" in out


def test_encoder_features_have_a_row_for_each_audio_token(run_script):
    out = run_script("encoder_features")
    assert "noise.wav: (75, 256), projected (75, 256)" in out
    assert len(re.findall(r": [+-]0\.\d\d$", out, re.MULTILINE)) == 6


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_short(name):
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) < MAX_LINES


def test_the_notebook_is_whole_and_runs(monkeypatch, capsys):
    notebook = json.loads((FOLDER / "tour.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    monkeypatch.chdir(ROOT)
    names = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        assert cell["cell_type"] in ("markdown", "code")
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)  # our own file
    out = capsys.readouterr().out
    assert "A dog barking, then a church bell ringing." in out
    assert "unknown option warmth" in out
    assert "ended by 'stop'" in out


def test_the_demo_asks_where_the_model_is_right_and_is_short():
    commands = subprocess.run(["make", "-n", "demo"], capture_output=True, cwd=ROOT, check=True, text=True).stdout
    asked = [shlex.split(line) for line in commands.splitlines() if line.startswith(".venv/bin/flamingo")]
    assert [words[1] for words in asked] == ["ask", "transcribe"]
    file, question = asked[0][2:]
    truth = next(e for e in TRUTH if e["files"] == [Path(file).name] and e["question"] == question)
    assert truth["answer"] == truth["nano"]
    assert (ROOT / asked[1][2]).is_file()
    assert len(commands.splitlines()) <= 12

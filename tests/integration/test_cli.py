"""The command itself: real processes, real files, real pipes."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from audioflamingo.cli.main import main

COMMAND = [sys.executable, "-m", "audioflamingo"]
TIMEOUT_S = 120


@pytest.fixture
def flamingo(checkpoint):
    """A function of words to the finished process, with the tiny model."""

    def run(*words, stdin=None, environment=None):
        return subprocess.run(
            [*COMMAND, *map(str, words), "--model", str(checkpoint), "--device", "cpu"],
            input=stdin, capture_output=True, timeout=TIMEOUT_S, check=False, env=os.environ | (environment or {}),
        )  # fmt: skip

    return run


def test_ask_prints_the_answer_and_nothing_else(flamingo, model, write_wav):
    path = write_wav()
    done = flamingo("ask", path, "What is it?", "--max-new-tokens", 12)
    reply = model.ask(path, "What is it?", max_new_tokens=12)
    assert reply.finish_reason == "length"
    assert done.returncode == 0
    assert done.stdout.decode() == reply.text + "\n"
    assert done.stderr == b"flamingo: note: the answer was cut; a larger --max-new-tokens gives it more room\n"


def test_standard_input_is_a_file_like_any_other(flamingo, model, write_wav):
    path = write_wav()
    done = flamingo("ask", "-", "What is it?", "--json", "--max-new-tokens", 5, stdin=path.read_bytes())
    answer = json.loads(done.stdout)
    reply = model.ask(path, "What is it?", max_new_tokens=5)
    assert done.returncode == 0
    assert (answer["text"], answer["finish_reason"], answer["files"]) == (reply.text, reply.finish_reason, ["-"])
    assert answer["usage"]["audio_tokens"] == 25


def write_bad_files(folder):
    """The bad inputs of the wild, each with what its error must say."""
    good = folder / "good.flac"
    soundfile.write(good, np.zeros(16_000), 16_000)
    (folder / "empty.wav").write_bytes(b"")
    soundfile.write(folder / "no_samples.wav", np.zeros(0), 16_000)
    soundfile.write(folder / "short.wav", np.zeros(300), 16_000)
    soundfile.write(folder / "nan.wav", np.full(16_000, np.nan, np.float32), 16_000, subtype="FLOAT")
    soundfile.write(folder / "inf.wav", np.full(16_000, np.inf, np.float32), 16_000, subtype="FLOAT")
    (folder / "cut.flac").write_bytes(good.read_bytes()[:60])
    (folder / "corrupt.flac").write_bytes(good.read_bytes()[:4] + b"\x77" * 300)
    (folder / "text.wav").write_text("Dear reader, this is no sound.\n" * 20)
    (folder / "folder.wav").mkdir()
    header = bytearray((folder / "short.wav").read_bytes())
    (folder / "no_channels.wav").write_bytes(header[:22] + b"\0\0" + header[24:])
    (folder / "no_rate.wav").write_bytes(header[:24] + b"\0\0\0\0" + header[28:])
    silence = np.zeros(16_000 * 60, np.int16)
    with soundfile.SoundFile(folder / "ten_hours.flac", "w", 16_000, 1) as file:
        for _ in range(600):
            file.write(silence)
    return good, [*sorted(path for path in folder.iterdir() if path != good), folder / "missing.wav"]


def test_every_bad_file_gets_its_own_line_and_the_good_ones_their_answers(flamingo, tmp_path):
    good, bad = write_bad_files(tmp_path)
    done = flamingo("transcribe", *bad[:5], good, *bad[5:], "--json", "--max-new-tokens", 4)
    assert done.returncode == 1
    answers = {os.path.basename(one["files"][0]): one for one in map(json.loads, done.stdout.splitlines())}
    assert set(answers) == {path.name for path in (*bad, good)}
    assert answers["good.flac"]["usage"]["completion_tokens"] >= 1  # silence has an answer, too
    lines = done.stderr.decode().splitlines()
    assert len(lines) == len(bad)
    for path, line in zip(bad, lines, strict=True):
        assert line.startswith("flamingo: error: ")
        assert path.name in line
        assert answers[path.name]["error"] in line


def test_an_unreadable_file_is_refused(flamingo, write_wav):
    path = write_wav()
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    done = flamingo("caption", path)
    assert done.returncode == 2
    assert b"permission" in done.stderr


# In the same process from here on, where starting another would show nothing more.


@pytest.fixture
def run(checkpoint, capsys):
    def call(*words):
        code = main([*map(str, words), "--model", str(checkpoint), "--device", "cpu"])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_one_bad_file_alone_is_a_user_error(run, tmp_path):
    code, out, err = run("ask", tmp_path / "missing.wav", "What?")
    assert (code, out) == (2, "")
    assert "missing.wav does not exist" in err


def test_all_bad_is_a_user_error_too(run, tmp_path):
    code, _, err = run("caption", tmp_path / "a.wav", tmp_path / "b.wav")
    assert code == 2
    assert err.count("\n") == 2


def test_several_files_are_one_question_or_one_each(run, model, write_wav):
    one, two = write_wav("one.wav", 1.0, 1), write_wav("two.wav", 0.5, 2)
    _, together, _ = run("ask", one, two, "Alike?", "--max-new-tokens", 6)
    assert together == model.ask([one, two], "Alike?", max_new_tokens=6).text + "\n"
    _, each, _ = run("ask", "--each", one, two, "Loud?", "--max-new-tokens", 6)
    expected = (f"{path}: {model.ask(path, 'Loud?', max_new_tokens=6).text}\n" for path in (one, two))
    assert each == "".join(expected)


def test_names_and_answers_outside_the_terminals_encoding_are_printed(flamingo, write_wav, tmp_path):
    odd = os.fsencode(tmp_path) + b"/odd\xff.wav"
    os.rename(write_wav(), odd)
    done = flamingo("caption", os.fsdecode(odd), tmp_path / "missing.wav", environment={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 1
    assert b"odd?.wav: " in done.stdout
    assert b"missing.wav does not exist" in done.stderr


def test_formats_of_a_transcript(run, model, write_wav):
    path = write_wav()
    text = model.transcribe(path, max_new_tokens=6).text
    assert run("transcribe", path, "--max-new-tokens", 6)[1] == text + "\n"
    for words in (["--format", "json"], ["--json"]):
        assert json.loads(run("transcribe", path, "--max-new-tokens", 6, *words)[1])["text"] == text


def test_options_reach_the_model(run, model, write_wav):
    path = write_wav()
    words = ["--temperature", "1.5", "--seed", "4", "--top-k", "30", "--repetition-penalty", "1.1", "--stop", "zz"]
    expected = model.ask(
        path, "What?", temperature=1.5, seed=4, top_k=30, repetition_penalty=1.1, stop="zz", max_new_tokens=9
    )
    assert run("ask", path, "What?", *words, "--max-new-tokens", 9)[1] == expected.text + "\n"


def test_what_was_done_to_a_long_sound_is_said_on_stderr(run, tmp_path):
    soundfile.write(tmp_path / "long.flac", np.zeros(16_000 * 601, np.int16), 16_000)
    code, _, err = run("ask", tmp_path / "long.flac", "What?", "--max-new-tokens", 2)
    assert code == 2
    assert "601 s" in err
    code, out, err = run("ask", tmp_path / "long.flac", "What?", "--long-audio", "truncate", "--max-new-tokens", 2)
    assert code == 0
    assert "flamingo: note: long.flac is 601 s; only its first 600 s were kept" in err
    assert "note" not in out


def test_info_tells_what_a_checkpoint_is(checkpoint, capsys, model):
    assert main(["info", str(checkpoint), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["num_parameters"] == sum(parameter.numel() for parameter in model.model.parameters())
    assert told["dtype"] == "float32"
    assert main(["info", str(checkpoint)]) == 0
    assert f"{told['num_parameters']:,}" in capsys.readouterr().out


def test_info_refuses_a_checkpoint_without_weights(tmp_path, checkpoint, capsys):
    (tmp_path / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    assert main(["info", str(tmp_path)]) == 2
    assert "safetensors" in capsys.readouterr().err


def start(checkpoint, path, *words):
    return subprocess.Popen(
        [*COMMAND, "ask", str(path), "Go on.", "--model", str(checkpoint), "--max-new-tokens", "15000", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_text_streams_and_a_reader_that_leaves_ends_the_work_quietly(checkpoint, write_wav):
    with start(checkpoint, write_wav()) as process:
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.wait(TIMEOUT_S) == 141
        assert process.stderr.read() == b""


def test_interrupting_is_quiet(checkpoint, write_wav):
    with start(checkpoint, write_wav()) as process:
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        process.stdout.read()
        assert process.wait(TIMEOUT_S) == 130
        assert process.stderr.read() == b""
        assert time.monotonic() - began < 10

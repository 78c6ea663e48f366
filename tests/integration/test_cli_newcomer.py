"""The command as somebody meets it who never used it: slips of the hand, odd names, terminals, full disks."""

import os
import pty
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from audioflamingo.cli import output
from audioflamingo.cli.arguments import Parser
from audioflamingo.cli.main import VERBS, main

ROOSTER = Path(__file__).parents[2] / "examples" / "rooster.wav"
COMMAND = [sys.executable, "-m", "audioflamingo"]
TIMEOUT_S = 120


@pytest.fixture
def said(capsys):
    """A function of words to the one line of the error."""

    def run(*words):
        assert main([str(word) for word in words]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        return captured.err.removeprefix("flamingo: error: ")

    return run


def test_a_forgotten_question_is_asked_for_with_the_file_that_came(said):
    assert f'for example: flamingo ask {ROOSTER} "What do you hear?"' in said("ask", ROOSTER)


def test_a_forgotten_file_is_asked_for(said):
    assert said("ask", "What do you hear?").startswith("only 'What do you hear?' came, needed: FILE...")
    assert said("ask").startswith("nothing came, needed: FILE...")


def test_two_questions_are_told_from_a_missing_file(said):
    assert "only the last word is the question" in said("ask", ROOSTER, "What is it?", "Is it loud?")
    assert "b.wav does not exist" in said("ask", ROOSTER, "b.wav", "Is it loud?")


def test_the_question_before_the_file_is_told(said):
    assert "the last word is the question" in said("ask", "What is it?", ROOSTER)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("Ask", "did you mean ask?"),
        ("trancribe", "did you mean transcribe?"),
        ("--model", "options stand after the verb"),
        (str(ROOSTER), f"flamingo ask {ROOSTER} "),
    ],
)
def test_a_word_in_the_place_of_the_verb_gets_a_hint(said, word, hint):
    assert hint in said(word)


@pytest.mark.parametrize(
    ("option", "hint"),
    [("--temp", "did you mean --temperature?"), ("--max-tokens=3", "did you mean --max-new-tokens?")],
)
def test_a_mistyped_option_gets_a_hint(said, option, hint):
    assert hint in said("ask", ROOSTER, "What is it?", option)


@pytest.mark.parametrize("words", [("--version",), ("version",), ("-V",)])
def test_the_version_in_every_spelling(capsys, words):
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("flamingo ")


def parse(*words):
    parser = Parser("ask", "", "")
    VERBS["ask"].add_arguments(parser)
    return parser.parse_words(words)


def test_files_whose_names_begin_with_a_dash(said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOSTER, "-odd.wav")
    assert "written ./-odd.wav" in said("ask", "-odd.wav", "What is it?")
    for words in (["--", "-odd.wav", "Is it -5?"], ["--json", "--", "-odd.wav", "Is it -5?"]):
        assert parse(*words).words == ["-odd.wav", "Is it -5?"]
    assert parse("a.wav", "--seed", "3", "--", "--", "-x").words == ["a.wav", "--", "-x"]


def test_the_embedded_model_answers_about_odd_names(capsys, tmp_path):
    names = ["a b.wav", "hähne 音.wav", "it's.wav"]
    paths = [shutil.copy(ROOSTER, tmp_path / name) for name in names]
    assert main(["ask", "--each", *map(str, paths), "What do you hear?", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == "".join(f"{path}: A rooster crowing.\n" for path in paths)


def test_a_pipe_that_the_shell_names_is_a_file_like_any_other(capsys, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for words, told in (
        (["ask", str(pipe), "What do you hear?"], "A rooster crowing."),
        (["timeline", str(pipe)], "rooster"),
    ):
        writer = threading.Thread(target=pipe.write_bytes, args=(ROOSTER.read_bytes(),), daemon=True)
        writer.start()
        assert main([*words, "--device", "cpu"]) == 0
        writer.join()
        assert told in capsys.readouterr().out


def test_a_timeline_of_silence_says_so(capsys):
    assert main(["timeline", str(ROOSTER.parent / "silence.flac"), "--device", "cpu"]) == 0
    assert capsys.readouterr().err == "flamingo: note: nothing is heard in silence.flac\n"


def test_an_answer_never_replaces_its_question(said, tmp_path):
    question = Path(shutil.copy(ROOSTER, tmp_path / "question.wav"))
    (tmp_path / "link.wav").symlink_to(question)
    for out in (question, tmp_path / "link.wav"):
        assert "are one file" in said("talk", "--in", question, "--out", out)
    assert question.read_bytes() == ROOSTER.read_bytes()


# Streams that are closed, full, or terminals: only real processes have them.


def shell(line, **options):
    command = f"{sys.executable} -m audioflamingo {line}"
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=TIMEOUT_S, check=False, **options
    )


def test_an_answer_that_cannot_be_written_is_one_line():
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    done = shell("--help > /dev/full")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("flamingo: error: the answer cannot be written: No space left")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("typed", ["Hello?", "/budget"])
def test_a_chat_whose_answers_cannot_be_written_ends_with_one_line(typed):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    done = shell("chat --device cpu > /dev/full", input=f"{typed}\n{typed}\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "flamingo: error: the answer cannot be written: No space left on device. Send it somewhere else.\n"
    )


def test_closed_streams_are_told_apart():
    closed_out = shell("--version >&-")
    assert (closed_out.returncode, closed_out.stderr.count("\n")) == (2, 1)
    assert "standard output is closed" in closed_out.stderr
    closed_in = shell('ask - "What?" <&-')
    assert (closed_in.returncode, closed_in.stderr) == (
        2, "flamingo: error: standard input is empty (0 bytes). Copy or export it again.\n"
    )  # fmt: skip
    assert shell("--version 2>&-").stdout.startswith("flamingo ")


class Screen:
    """As much of a terminal as we write to: text, carriage return, clearing to the end of the line, newline."""

    def __init__(self):
        self.lines = [""]
        self.column = 0

    def feed(self, text):
        text = text.replace("\x1b[K", "\0")
        for one in text:
            line = self.lines[-1]
            if one == "\r":
                self.column = 0
            elif one == "\n":
                self.lines.append("")
                self.column = 0
            elif one == "\0":
                self.lines[-1] = line[: self.column]
            else:
                self.lines[-1] = line[: self.column] + one + line[self.column + 1 :]
                self.column += 1


def watched(*words):
    """What a person sees after the command ran in a terminal, and whether progress was shown on the way."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*COMMAND, *map(str, words)], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    pieces = []

    def read():
        while True:
            try:
                piece = os.read(ours, 65_536)
            except OSError:  # how Linux tells that the last writer left
                return
            if not piece:
                return
            pieces.append(piece)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        code = process.wait(TIMEOUT_S)
    finally:
        process.kill()
    reader.join(TIMEOUT_S)
    os.close(ours)
    text = b"".join(pieces).decode()
    screen = Screen()
    screen.feed(text)
    return code, screen.lines, text


def test_a_person_sees_the_whole_answer_after_the_progress(tmp_path):
    missing = tmp_path / "missing.wav"
    code, lines, text = watched("ask", "--each", ROOSTER, missing, "What do you hear?", "--device", "cpu")
    assert code == 1
    assert lines == [
        f"{ROOSTER}: A rooster crowing.",
        f"flamingo: error: {missing} does not exist. Check the path.",
        "",
    ]
    assert "loading nano ..." in text
    assert "listening ..." in text


def test_progress_never_takes_a_second_line_nor_clears_an_answer(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    output.show_progress("reading " + "long_name.wav, " * 20)
    shown = capsys.readouterr().err
    assert len(shown) < 40
    output.show_progress("")
    output.show_progress("")
    assert capsys.readouterr().err == "\r\033[K"

"""`flamingo chat` in a real terminal: every command, interruptions, the end of the input, resizing, the tab key."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest

from audioflamingo.cli.chat_session import COMMANDS, files_in
from audioflamingo.errors import OptionError

COMMAND = ["-m", "audioflamingo", "chat"]
LONG_TOKENS = 4_000  # of an answer that is interrupted long before its end


@pytest.fixture
def terminal(checkpoint):
    """A function of extra words to `flamingo chat` in a real terminal."""
    children = []

    def start(*words, max_new_tokens=3, model=checkpoint, echo=False):
        child = pexpect.spawn(
            sys.executable,
            [*COMMAND, "--model", str(model), "--max-new-tokens", str(max_new_tokens), *map(str, words)],
            encoding="utf-8", timeout=60, dimensions=(40, 200), echo=echo,
        )  # fmt: skip
        children.append(child)
        child.expect("type /help")
        return child

    yield start
    for child in children:
        child.close(force=True)


@pytest.fixture
def endless(checkpoint, tmp_path):
    """The tiny checkpoint with an end token that it never says by itself, so that its answers last."""
    folder = shutil.copytree(checkpoint, tmp_path / "endless")
    (folder / "generation_config.json").write_text(json.dumps({"max_new_tokens": 1_024}))
    return folder


def said(child, line, answer, prompt="> "):
    """Type a line at the prompt and wait for what it brings."""
    child.expect(f"{re.escape(prompt)}$")
    child.sendline(line)
    child.expect(answer)


def ended(child):
    child.expect(pexpect.EOF)
    child.wait()
    return child.exitstatus


def test_nothing_is_left_behind_the_words_of_an_answer(terminal):
    child = terminal(Path(__file__).parents[2] / "examples" / "dog_then_bell.wav", model="nano", max_new_tokens=200)
    said(child, "What do you hear?", "ringing")
    child.expect("> $")
    assert child.before.removeprefix(".") == "\r\n"
    child.sendline("/think on")
    said(child, "How many kinds of sound are there?", r"Two\.")
    child.expect("> $")
    assert "listening" not in child.before


def test_every_command(terminal, write_wav, tmp_path):
    dog, rain = write_wav("dog.wav", 0.5, 1), write_wav("two words.wav", 0.5, 2)
    child = terminal(dog)
    child.expect("<sound-1> dog.wav, 0.5 s, comes with the next question")
    for line, answer in [
        ("/help", "/budget +shows how much"),
        ("/nonsense", "/nonsense is not a command; allowed: /audio, /think"),
        ("/undo 0", "/undo 0 came, allowed: /undo, or /undo N"),
        ("/undo 1", "nothing to undo"),
        ("/fork x", "/fork stands alone, but x came behind it"),
        ("/BUDGET", "prompt tokens used"),
        ("/?", "/budget +shows how much"),
        ("What is it?", "note: the answer was cut; a larger --max-new-tokens"),
        (f"/audio {rain}", "<sound-2> two words.wav"),
        (f"/audio {tmp_path / 'none.wav'}", "error: .*none.wav does not exist"),
        ("/audio 'unclosed", "no closing quotation"),
        ("/audio -", "standard input .-. is where the questions come from"),
        ("Is <sound:dog.wav> louder?", "cut"),
        (f"/audio '{rain}' {dog}", "<sound-3> two words.wav.*\r\n<sound-4> dog.wav"),
        ("/audio", "<sound-2> two words.wav, 0.5 s\r\n<sound-3> two words"),
        ("And <sound-9>?", "error: .*<sound-9>"),
        ("/budget", "prompt tokens used"),
        ("/think maybe", "/think maybe came, allowed: /think on"),
        ("/think 0", "/think 0 came, allowed: /think on, /think off, /think TOKENS .the most, at least 1"),
        ("/think on", "error: /think on, but this model has no thinking adapter.*--model af3-think"),
        ("/think off", "thinking is off"),
        (f"/save {tmp_path / 'talk.json'}", "saved 4 messages"),
        ("/undo", "two words.wav, dog.wav: forgotten before a question"),
        ("/undo 9", "the last 2 questions and their answers are forgotten; there were no more"),
        (f"/load {tmp_path / 'talk.json'}", "loaded 4 messages"),
        (f"/save {dog}", "dog.wav: a file that is no conversation is there, and it stays. Name another file"),
        (f"/save {tmp_path / 'talk.json'}", "saved 4 messages"),
        (f"/load {tmp_path / 'dog.wav'}", "error: .*dog.wav is no conversation"),
        (f"/save {tmp_path / 'absent' / 'x' / 'talk.json'}", "saved 4 messages"),
        (f"/save {tmp_path}", "error: the conversation cannot be saved as"),
        ("/save", "/save needs a file"),
        ("", ""),
    ]:  # fmt: skip
        said(child, line, answer)
    said(child, "/quit", pexpect.EOF)
    child.wait()
    assert child.exitstatus == 0
    assert (tmp_path / "talk.json.sounds").is_dir()


@pytest.fixture
def short_eared(checkpoint, tmp_path):
    """The tiny checkpoint, which here takes 30 s of sound at most."""
    folder = shutil.copytree(checkpoint, tmp_path / "short-eared")
    (folder / "processor_config.json").write_text(json.dumps({"max_audio_len": 30}))
    return folder


def test_too_long_a_sound_is_refused_at_once_and_spoils_nothing(terminal, short_eared, write_wav):
    long, dog = write_wav("long.wav", 31, 1), write_wav("dog.wav", 0.5, 2)
    child = terminal(model=short_eared)
    remedy = "Bring in a shorter one, or start the chat with --long-audio truncate or split"
    said(child, f"/audio {long}", f"error: long.wav is 31 s; .* {remedy}")
    said(child, f"/audio {dog} {long}", "error: long.wav is 31 s")
    said(child, "/audio", "no sounds so far")
    said(child, f"/audio {dog}", "<sound-1> dog.wav")
    said(child, "What is it?", "cut")
    said(child, "/audio", "<sound-1> dog.wav, 0.5 s\r\n")


def test_too_long_a_sound_on_the_command_line_is_one_error(short_eared, write_wav):
    command = [sys.executable, *COMMAND, "--model", str(short_eared), str(write_wav("long.wav", 31, 1))]
    done = subprocess.run(command, input="What is it?\n", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Give --long-audio truncate or --long-audio split, or cut the file." in done.stderr


def test_waiting_sounds_that_no_longer_fit_are_dropped_after_the_question(terminal, short_eared, write_wav, tmp_path):
    """One long sound a conversation can be split; the second one comes into it here by loading."""
    long, other = write_wav("long.wav", 31, 1), write_wav("other.wav", 31, 2)
    child = terminal("--long-audio", "split", model=short_eared)
    said(child, f"/audio {long}", "<sound-1> long.wav")
    said(child, f"/audio {other}", "error: 2 sounds are too long .* or start the chat with --long-audio truncate")
    said(child, "What is it?", r"\[0:00 - 0:30\] .*\[0:30 - 0:31\] ")
    said(child, f"/save {tmp_path / 'talk.json'}", "saved 2 messages")
    said(child, "/undo", "the last question and its answer are forgotten")
    said(child, f"/audio {other}", "<sound-1> other.wav")
    said(child, f"/load {tmp_path / 'talk.json'}", "loaded 2 messages")
    said(child, "And now?", "error: 2 sounds are too long .*note: other.wav no longer waits for a question")
    said(child, "And now?", r"\[0:00 - 0:30\]")


@pytest.mark.parametrize("line", ["quit", "EXIT", "/exit", "/Quit"])
def test_words_that_leave(terminal, line):
    child = terminal()
    said(child, line, pexpect.EOF)
    child.wait()
    assert child.exitstatus == 0


def test_help_names_every_command(terminal):
    child = terminal()
    child.expect("> ")
    child.sendline("/help")
    child.expect("In a question, <sound-2>")
    for name in COMMANDS:
        assert name in child.before


def test_a_saved_conversation_in_a_new_terminal(terminal, write_wav, tmp_path):
    file = tmp_path / "talk.json"
    child = terminal(write_wav("dog.wav", 0.5, 1))
    said(child, "What is it?", "cut")
    said(child, f"/save '{file}'", "saved 2 messages")
    said(child, "/quit", pexpect.EOF)
    child = terminal()
    said(child, f"/load {file}", "loaded 2 messages")
    said(child, "/audio", "<sound-1> dog.wav, 0.5 s")
    said(child, "And <sound:dog>?", "cut")
    said(child, f"/save {file}", "saved 4 messages")
    assert json.loads(file.read_text())["messages"][2]["content"] == [{"type": "text", "text": "And <sound-1>?"}]


def test_branches(terminal, write_wav, tmp_path):
    child = terminal(write_wav("dog.wav", 0.5, 1))
    said(child, "What is it?", "cut")
    said(child, "/switch 2", "/switch 2 came, allowed: 1; /fork begins another one")
    said(child, "/fork", "this is conversation 2; /switch 1 goes back to 1")
    said(child, "And now?", "cut", prompt="2> ")
    said(child, "/switch 1", r"\* 1: 2 messages, 1 sounds\r\n  2: 4 messages, 1 sounds", prompt="2> ")
    said(child, "/undo", "forgotten", prompt="1> ")
    said(child, "/switch", r"\* 1: 0 messages, 0 sounds\r\n  2: 4 messages", prompt="1> ")
    said(child, "/switch two", "allowed: 1, 2", prompt="1> ")


def interrupted(child):
    """Ctrl-C once the answer has begun, which is where "listening" is wiped away."""
    child.expect(r"listening \.\.\.\r\x1b\[K")
    child.sendintr()


def test_ctrl_c_ends_an_answer_and_not_the_conversation(terminal, endless, write_wav):
    child = terminal(write_wav("dog.wav", 0.5, 1), "--repetition-penalty", "1.0",
                     max_new_tokens=LONG_TOKENS, model=endless)  # fmt: skip
    child.expect("comes with the next question")
    child.expect("> ")
    child.sendline("What is it?")
    interrupted(child)
    child.expect("note: interrupted; what was said is remembered")
    said(child, "/switch", r"\* 1: 2 messages, 1 sounds")
    said(child, "/audio", "<sound-1> dog.wav, 0.5 s\r\n")
    said(child, "/undo", "forgotten")


def test_ctrl_c_at_the_prompt_ends_only_the_line(terminal):
    child = terminal(echo=True)
    child.expect("> ")
    child.send("half a ques")
    child.expect("half a ques")  # it waits for more
    time.sleep(0.2)
    child.sendintr()
    child.expect("note: /quit or Ctrl-D leaves")
    said(child, "/undo", "nothing to undo")
    child.expect("> ")
    child.sendeof()
    assert ended(child) == 0


def test_ctrl_d_leaves_the_cursor_on_a_new_line(terminal):
    child = terminal()
    child.expect("> ")
    child.sendeof()
    child.expect("\r\n")
    assert ended(child) == 0


def test_the_window_changes_its_size(terminal, write_wav):
    child = terminal(write_wav("dog.wav", 0.5, 1))
    child.expect("> ")
    child.send("What ")
    for size in ((10, 20), (60, 300), (2, 5), (40, 100)):
        child.setwinsize(*size)
        child.kill(signal.SIGWINCH)
    child.sendline("is it?")
    child.expect("cut")
    child.setwinsize(24, 30)
    said(child, "And now?", "cut")
    said(child, "/switch", r"\* 1: 4 messages, 1")


def test_the_tab_key(terminal, write_wav):
    path = write_wav("a long name with blanks.wav", 0.5, 1)
    child = terminal()
    child.expect("> ")
    child.send("/bud\t")
    child.sendline("")
    child.expect("prompt tokens used")
    child.expect("> ")
    child.send(f"/audio {path.parent}/a\t")
    child.sendline("")
    child.expect("<sound-1> a long name with blanks.wav, 0.5 s, comes")


def test_lines_from_a_pipe(checkpoint, write_wav):
    lines = f"What is it?\n/audio {write_wav()}\n/nonsense\nAnd this?\n/switch\n"
    done = subprocess.run(
        [sys.executable, *COMMAND, "--model", str(checkpoint), "--max-new-tokens", "3"],
        input=lines, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "* 1: 4 messages, 1 sounds" in done.stdout
    assert "/nonsense is not a command" in done.stderr
    assert not done.stdout.startswith("> ")


def test_thinking_is_refused_before_the_first_question(checkpoint):
    done = subprocess.run(
        [sys.executable, *COMMAND, "--model", str(checkpoint), "--think"],
        input="Why?\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "--think, but this model has no thinking adapter" in done.stderr


def test_files_as_they_are_typed(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "it's here.wav").touch()
    monkeypatch.chdir(tmp_path)
    assert files_in("it's here.wav") == ["it's here.wav"]
    assert files_in("~/it's here.wav") == [str(tmp_path / "it's here.wav")]
    assert files_in("a.wav 'b c.wav' d\\ e.wav ~/f.wav") == ["a.wav", "b c.wav", "d e.wav", str(tmp_path / "f.wav")]
    for words in ("it's absent.wav", "-", "a.wav -"):
        with pytest.raises(OptionError):
            files_in(words)

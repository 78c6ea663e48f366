"""Words of the command line, without a model: what is understood, and what an error tells."""

import subprocess
import sys

import pytest

from audioflamingo.cli.arguments import Parser, add_generation, add_model, generation_options
from audioflamingo.cli.main import VERBS, main
from audioflamingo.cli.output import printable, report_error

MAX_FLAGS = 15


def parser_of(verb):
    parser = Parser(verb, VERBS[verb].SUMMARY, VERBS[verb].EXAMPLES)
    VERBS[verb].add_arguments(parser)
    return parser


def run(capsys, *words):
    code = main(words)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_options_and_files_come_in_any_order():
    arguments = parser_of("ask").parse_words(
        ["a.wav", "--seed", "3", "b.wav", "--json", "What?", "--stop", "x", "--stop", "y"]
    )
    assert arguments.words == ["a.wav", "b.wav", "What?"]
    assert generation_options(arguments) == {"seed": 3, "stop": ["x", "y"]}


def test_only_what_was_given_is_passed_on():
    parser = Parser("test", "", "")
    add_model(parser)
    add_generation(parser)
    assert generation_options(parser.parse_words([])) == {}
    assert generation_options(parser.parse_words(["--temperature", "0"])) == {"temperature": 0.0}


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--think", "a.wav", "What?"], {"think": True}),
        (["a.wav", "--think", "What?"], {"think": True}),
        (["a.wav", "What?", "--think"], {"think": True}),
        (["--think=200", "a.wav", "What?"], {"think": True, "max_thought_tokens": 200}),
        (["a.wav", "What?", "--think=1", "--seed", "3"], {"think": True, "max_thought_tokens": 1, "seed": 3}),
        (["--think=9", "--think", "a.wav", "What?"], {"think": True}),
        (["a.wav", "--", "What?"], {}),
    ],
)
@pytest.mark.parametrize("verb", ["ask", "chat", "caption"])
def test_thinking_takes_a_number_and_never_a_file(verb, words, options):
    arguments = parser_of(verb).parse_words(words)
    assert (arguments.words if verb == "ask" else arguments.files) == ["a.wav", "What?"]
    assert generation_options(arguments) == options


def test_thinking_after_two_dashes_is_a_word():
    assert parser_of("ask").parse_words(["a.wav", "--", "--think"]).words == ["a.wav", "--think"]


def test_a_file_of_a_number_may_follow_thinking(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "200").write_text("")
    assert parser_of("ask").parse_words(["--think", "200", "What?"]).words == ["200", "What?"]


def test_words_after_two_dashes_are_no_options():
    assert parser_of("ask").parse_words(["a.wav", "--", "--help?"]).words == ["a.wav", "--help?"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sing"], "'sing' is not a verb; allowed: ask, transcribe, caption, chat"),
        (["ask", "a.wav", "What?", "--beams", "4"], "allowed: --help, --each, --json, --model"),
        (["eval", "--data", "a.json", "--out", "b", "--beams", "4"], "did you mean --num-beams?"),
        (["eval", "--num-beams", "0"], "'0' came, allowed: a whole number, 1 or more"),
        (["eval", "--length-penalty", "9"], "allowed: a number, -5 to 5"),
        (["ask", "a.wav", "What?", "--temp", "1"], "--temp"),
        (["ask", "a.wav", "What?", "--max-new-tokens", "-5"], "'-5' came, allowed: a whole number, 1 or more"),
        (["ask", "a.wav", "What?", "--seed", "x"], "'x' came, allowed: a whole number, 0 or more"),
        (["ask", "a.wav", "What?", "--temperature", "-0.1"], "allowed: a number, 0 or more"),
        (["ask", "a.wav", "What?", "--temperature", "nan"], "allowed: a number, 0 or more"),
        (["ask", "a.wav", "What?", "--top-p", "1.5"], "allowed: a number, 0 to 1"),
        (["ask", "a.wav", "What?", "--long-audio", "skip"], "choose from"),
        (["ask", "a.wav", "What?", "--seed"], "expected one argument"),
        (["ask", "--think", "200", "a.wav", "What?"], "are written --think=200"),
        (["ask", "--think=0", "a.wav", "What?"], "'0' came, allowed: a whole number, 1 or more"),
        (["ask", "--think=", "a.wav", "What?"], "'' came, allowed: a whole number, 1 or more"),
        (["chat", "--think=many"], "'many' came, allowed: a whole number, 1 or more"),
        (["ask"], "needed: FILE... and then the question"),
        (["ask", "What?"], "needed: FILE... and then the question"),
        (["ask", "a.wav", "  "], "is empty"),
        (["ask", "a.wav", __file__], "is a file"),
        (["ask", "a.wav", "What", "do", "you", "hear?"], "in quotes: flamingo ask a.wav 'What do you hear?'"),
        (["ask", "a b.wav", "Why", "so?"], "'Why' is not a file; a question of several words stands in quotes"),
        (["transcribe", "a.wav", "--think"], "--think is not an option of flamingo transcribe"),
        (["ask", "-", "-", "What?"], "named more than once"),
        (["transcribe"], "FILE"),
        (["transcribe", "a.wav", "--format", "doc"], "choose from"),
        (["transcribe", "a.wav", "--json", "--format", "srt"], "--json and --format srt came"),
        (["serve", "--no-voice", "--voice", "slt"], "--no-voice serves no speech"),
        (["serve", "--no-voice", "--engine", "flite"], "leave one of them out"),
        (["world", "--list", "--check", "a"], "--list and --check came"),
        (["talk", "--timed"], "--timed tells of a sound"),
        (["talk", "--json"], "--json tells of a sound"),
        (["extract", "a.wav", "--schema", "s.json"], 'flamingo extract dog.wav "What do you hear?" --schema s.json'),
        (
            ["extract", "a.wav", "What?", "--schema", "/no/s.json"],
            "/no/s.json cannot be read (No such file or directory)",
        ),
        (["extract", "a.wav", "What?", "--schema", "/"], "/ cannot be read (Is a directory); give a file that holds"),
        (["ask", "", "What?"], "'' does not exist"),
        (["ask", "/dev/zero", "What?"], "Pipe it in, with - in its place"),
        (["info"], "MODEL"),
        (["info", "nanoo"], "nano"),
    ],
)
def test_errors_are_one_line_that_says_what_is_allowed(capsys, words, expected):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("flamingo: error: ")
    assert err.count("\n") == 1
    assert expected in err


def test_help_names_every_verb_with_an_example(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(f"\n  flamingo {verb}" in out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_teaches_by_examples_that_parse(capsys, verb):
    import shlex

    code, out, _ = run(capsys, verb, "--help")
    assert code == 0
    for line in VERBS[verb].EXAMPLES.splitlines():
        assert line in out
        own = next(part for part in line.split("| ") if part.startswith(f"flamingo {verb}"))
        words = shlex.split(own.split(" >")[0].split(" <")[0])
        assert words[:2] == ["flamingo", verb]
        parser_of(verb).parse_words(words[2:])


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_has_too_many_flags(verb):
    flags = [action for action in parser_of(verb)._actions if action.option_strings and action.dest != "help"]
    assert len(flags) <= MAX_FLAGS


def test_the_help_writes_an_optional_value_as_it_is_given(capsys):
    assert "--think[=TOKENS]" in run(capsys, "ask", "--help")[1]


def test_no_words_show_the_help_as_an_error(capsys):
    code, out, err = run(capsys)
    assert (code, out) == (2, "")
    assert "usage: flamingo" in err


def test_version(capsys):
    from audioflamingo import __version__

    assert run(capsys, "--version") == (0, f"flamingo {__version__}\n", "")


def test_errors_are_one_line_whatever_they_hold(capsys):
    report_error(ValueError("bad\nfile \x1b[2J"))
    assert capsys.readouterr().err == "flamingo: error: bad file �[2J\n"


def test_a_terminal_gets_no_control_characters():
    assert printable("a\x1b]0;x\x07\r\nb\tc é 音") == "a�]0;x��\nb\tc é 音"


def test_the_commands_start_without_torch():
    code = "import sys; from audioflamingo.cli.main import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0

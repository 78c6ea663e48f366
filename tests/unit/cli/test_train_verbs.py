import shlex

import pytest

from audioflamingo.cli import train
from audioflamingo.cli.arguments import Parser
from audioflamingo.cli.main import main

MAX_FLAGS = 15
OWN = {"lora": "--quantize", "stage_3_5": "--quantize", "stage_1": "--backbone", "voice": "--recipe"}


def parser_of(stage):
    verb = train.part([stage]) or train
    parser = Parser("train", verb.SUMMARY, verb.EXAMPLES)
    verb.add_arguments(parser)
    return parser


@pytest.mark.parametrize("stage", [*train.STAGE_NAMES, train.VOICE])
def test_every_stage_has_its_own_options_and_not_too_many(stage):
    flags = [action.option_strings[-1] for action in parser_of(stage)._actions if action.option_strings]
    assert len([flag for flag in flags if flag != "--help"]) <= MAX_FLAGS
    assert {flag for flag in OWN.values() if flag in flags} == ({OWN[stage]} if stage in OWN else set())


@pytest.mark.parametrize("stage", ["lora", "stage_1", "stage_3_5", "voice"])
def test_the_help_of_a_stage_shows_examples_that_parse(stage, capsys):
    assert main(["train", stage, "--help"]) == 0
    shown = capsys.readouterr().out
    assert OWN[stage] in shown
    for line in train.part([stage]).EXAMPLES.splitlines():
        assert line in shown
        words = shlex.split(line)[2:]
        parser_of(words[0]).parse_words(words)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["full", "--quantize", "int4"], "--quantize int4 is not an option"),
        (["lora", "--quantize", "int2"], "invalid choice: 'int2'"),
        (["--data", "x", "voice"], "voice must be the first word"),
        (["voice"], "--out is missing"),
        (["voice", "--out", "x", "--recipe", "whisper"], "whisper"),
        (["lora", "--shard", "sideways"], "invalid choice: 'sideways'"),
    ],
)
def test_what_a_stage_does_not_take_is_one_line(words, reason, capsys):
    assert main(["train", *words]) == 2
    shown = capsys.readouterr().err
    assert reason in shown
    assert shown.count("\n") == 1

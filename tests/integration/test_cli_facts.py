"""`flamingo facts` and the lengths of `flamingo caption`, on the embedded model."""

import json
from pathlib import Path

import pytest

from audioflamingo.cli.main import main
from audioflamingo.facts import Emotion, FactsModel

EXAMPLES = Path(__file__).parents[2] / "examples"
SIREN, SILENCE = str(EXAMPLES / "siren.flac"), str(EXAMPLES / "silence.flac")


@pytest.fixture
def flamingo(capsys):
    """A function of words to (exit code, stdout, stderr)."""

    def run(*words):
        code = main([*words, "--device", "cpu"])
        return code, *capsys.readouterr()

    return run


def test_tags_as_text_and_as_json(flamingo):
    code, out, err = flamingo("facts", "tags", SIREN, SILENCE)
    assert (code, err) == (0, "flamingo: note: the model names no sound in silence.flac\n")
    assert out.splitlines()[0] == f"{SIREN}:"
    assert "siren" in out.splitlines()[1]
    code, out, err = flamingo("facts", "tags", SIREN, "--among", "a dog barking", "--json")
    assert json.loads(out) == {"files": [SIREN], "labels": []}
    assert err == ""


def test_tags_none_of_which_is_heard_are_a_note(flamingo):
    code, _, err = flamingo("facts", "tags", SIREN, "--among", "a dog barking, a cat meowing")
    assert (code, err) == (0, "flamingo: note: none of a dog barking, a cat meowing is heard in siren.flac\n")
    assert flamingo("facts", "tags", SIREN, "--among", "a cat meowing")[2].endswith(
        "a cat meowing is not heard in siren.flac\n"
    )


def test_the_facts_of_music_from_the_world(flamingo, tmp_path):
    assert main(["world", "--tasks", "music_knowledge", "--hours", "0.005", "--seed", "5", "--out", str(tmp_path)]) == 0
    files = sorted(map(str, tmp_path.rglob("*.flac")))
    code, out, err = flamingo("facts", "song", *files, "--json")
    assert (code, err) == (0, "")
    _, *found = [json.loads(line) for line in out.splitlines()]  # the world's own line comes first
    assert [one["files"] for one in found] == [[file] for file in files]
    assert files
    assert all(one["tempo_bpm"] and one["key"] for one in found)


def test_what_is_not_heard_is_an_error_of_one_line(flamingo):
    code, out, err = flamingo("facts", "song", SIREN, "--json")
    assert code == 2
    assert "hears no music in siren.flac" in json.loads(out)["error"]
    assert err.count("\n") == 1


def test_what_the_model_does_not_tell_is_a_note(flamingo, monkeypatch):
    found = Emotion("calm", None, "A low pitch.", ("the model does not tell the tone",))
    monkeypatch.setattr(FactsModel, "emotion", lambda *_, **__: found)
    code, out, err = flamingo("facts", "emotion", SIREN)
    assert (code, out) == (0, "label: calm\nevidence: A low pitch.\n")
    assert err == "flamingo: note: the model does not tell the tone\n"
    values = json.loads(flamingo("facts", "emotion", SIREN, "--json")[1])
    assert (values["tone"], values["untold"]) == (None, ["the model does not tell the tone"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("poem", SIREN), "tags"),
        (("song", SIREN, "--among", "rain"), "--among names labels for tags"),
        (("tags", SIREN, "--among", " , "), "among is"),
        (("tags", "absent.wav"), "absent.wav"),
    ],
)
def test_what_does_not_go_together(flamingo, words, message):
    code, out, err = flamingo("facts", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_caption_in_one_sentence(flamingo):
    code, out, _ = flamingo("caption", SIREN, "--detail", "short")
    assert code == 0
    assert out.strip()
    assert "--detail" in flamingo("caption", SIREN, "--detail", "tiny")[2]

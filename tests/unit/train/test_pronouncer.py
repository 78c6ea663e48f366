import shutil

import torch
from safetensors.torch import load_file

from audioflamingo.config import DecoderConfig
from audioflamingo.speech.engines import EMBEDDED_VOICE
from audioflamingo.speech.pronounce import Pronouncer
from audioflamingo.speech.storage import WEIGHTS_FILE, as_stored, load_voice, replace_pronouncer
from audioflamingo.train import pronouncer
from audioflamingo.train.pronouncer import PronouncerRecipe, accuracy, headwords, new_exceptions, train_pronouncer
from audioflamingo.train.voice_words import held_out, said_by_layers, wrong_words

SOUNDS = {"b": "b", "d": "d", "f": "f", "a": "aa1", "i": "ih1", "o": "ow0"}
WORDS = [first + vowel + last for first in "bdf" for vowel in "aio" for last in "bdf"]
LEXICON = {word: " ".join(SOUNDS[letter] for letter in word) for word in WORDS}


def tiny():
    torch.manual_seed(0)
    return Pronouncer(DecoderConfig(1, 32, 1, 2, 2, 16, 64, 256, 10_000.0, 1e-6))


def test_the_pronouncer_learns_to_spell_from_two_lexicons_and_is_left_as_it_is_stored():
    model, known = tiny(), [word for word in WORDS if not held_out(word)]
    halves = [{word: LEXICON[word] for word in part} for part in (known[::2], known[1::2])]
    before = accuracy(model, LEXICON)
    train_pronouncer(model, halves[0], halves[1], PronouncerRecipe(train_s=4.0, words=16, rate=1e-2, our_weight=2))
    after = accuracy(model, LEXICON)
    assert after["exact"] > 0.5 > before["exact"]
    state = model.state_dict()
    rounded = as_stored(state)
    assert all(torch.allclose(state[name], rounded[name], atol=1e-6) for name in state)


def test_accuracy_with_and_without_stress():
    model = load_voice(EMBEDDED_VOICE).pronouncer
    said = said_by_layers(model, ["table", "window"])
    moved = {word: phones.replace("1", "#").replace("0", "1").replace("#", "0") for word, phones in said.items()}
    assert accuracy(model, said) == {"words": 2, "exact": 1.0, "but_for_stress": 1.0}
    assert accuracy(model, moved) == {"words": 2, "exact": 0.0, "but_for_stress": 1.0}
    assert wrong_words(model, said | {"table": "b"}) == {"table": "b"}


def test_exceptions_are_what_the_layers_get_wrong_and_those_that_were_right_come_first(monkeypatch):
    model = load_voice(EMBEDDED_VOICE).pronouncer
    ours = said_by_layers(model, ["table"]) | {"dog": "b", "window": "d", "cat": "f", "nvidia": "b"}
    assert new_exceptions(model, ours, {"window"}) == {"window": ("d",), "cat": ("f",), "dog": ("b",)}
    monkeypatch.setattr(pronouncer, "MAX_EXCEPTIONS", 2)
    assert list(new_exceptions(model, ours, {"window"})) == ["window", "cat"]


def test_headwords_are_short_spellings_of_our_letters(tmp_path):
    lines = ["MNCL", '("a" dt (((ax) 0)))', '("o\'clock" nil (((ax) 0)))', '("x2y" nil ())', '("b-b" nil ())',
             '("dog" nil (((d ao g) 1)))', '("dog" n (((d ao g) 1)))', f'("{"a" * 15}" nil ())']  # fmt: skip
    (tmp_path / "cmu").mkdir()
    (tmp_path / "cmu" / "dict.out").write_text("\n".join(lines))
    assert headwords(tmp_path) == ["dog", "o'clock"]


def test_a_new_pronouncer_leaves_the_rest_of_the_voice_bit_for_bit(tmp_path):
    folder = tmp_path / "voice"
    shutil.copytree(EMBEDDED_VOICE, folder)
    changed = load_voice(folder).pronouncer
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.mul_(-1)
    changed.exceptions = {"oboe": ("ow1", "b", "ow0")}
    replace_pronouncer(folder, changed)
    old, new = load_file(EMBEDDED_VOICE / WEIGHTS_FILE), load_file(folder / WEIGHTS_FILE)
    assert list(old) == list(new)
    others = {name for name in old if not torch.equal(old[name], new[name])}
    assert others
    assert all(name.startswith("pronouncer.") for name in others)
    loaded = load_voice(folder).pronouncer
    assert loaded.exceptions == changed.exceptions
    for name, tensor in loaded.state_dict().items():
        assert torch.allclose(tensor, changed.state_dict()[name], atol=1e-6)

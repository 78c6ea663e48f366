import json
import subprocess
import sys
import unicodedata

import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizer import SPECIALS, small_tokenizer, train, with_specials, write_json_layout, write_parts_layout

from audioflamingo.errors import CheckpointError, PromptError
from audioflamingo.tokenizer import MAX_FILE_BYTES, Incremental, Tokenizer

TOKENIZER = small_tokenizer()
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
SPELLED = st.lists(st.one_of(TEXT, st.sampled_from([*SPECIALS, "<|im_", "end|>", "<so", "\n"]))).map("".join)
IDS = st.lists(st.integers(0, TOKENIZER.vocab_size - 1), max_size=40)


@pytest.fixture(scope="module")
def parts_folder(tmp_path_factory):
    return write_parts_layout(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def reference(parts_folder):
    return transformers.Qwen2Tokenizer.from_pretrained(parts_folder)


def test_both_layouts_give_the_same_ids(tmp_path, parts_folder):
    whole, parts = Tokenizer.from_folder(write_json_layout(tmp_path)), Tokenizer.from_folder(parts_folder)
    text = "<|im_start|>user\n<sound>They're über  日本!<tool_call>\r\n\n é<|im_end|>"
    assert whole.encode(text) == parts.encode(text)
    assert (whole.sound, whole.pad, whole.im_end) == (parts.sound, parts.pad, parts.im_end)


@given(st.one_of(TEXT, SPELLED))
def test_encode_equals_transformers(reference, text):
    assert TOKENIZER.encode(text) == reference.encode(text, add_special_tokens=False)


@given(IDS, st.booleans())
def test_decode_equals_transformers(reference, ids, skip):
    assert TOKENIZER.decode(ids, skip_special=skip) == reference.decode(ids, skip_special_tokens=skip)


def test_special_ids_by_name():
    encoded = TOKENIZER.encode("<|im_start|><|im_end|><|endoftext|><sound>[PAD]")
    names = (TOKENIZER.im_start, TOKENIZER.im_end, TOKENIZER.endoftext, TOKENIZER.sound, TOKENIZER.pad)
    assert tuple(encoded) == names
    assert TOKENIZER.eos_ids == (TOKENIZER.im_end, TOKENIZER.endoftext)
    assert TOKENIZER.vocab_size == max(TOKENIZER.encode("<tool_call>")) + 1


def test_pad_falls_back_to_endoftext():
    backend = train()
    backend.add_special_tokens(SPECIALS[:4])
    tokenizer = Tokenizer(backend)
    assert tokenizer.pad == tokenizer.endoftext


@given(SPELLED)
def test_plain_text_never_becomes_special_and_is_not_lost(text):
    ids = TOKENIZER.encode_plain(text)
    assert TOKENIZER.special_ids.isdisjoint(ids)
    assert TOKENIZER.decode(ids) == unicodedata.normalize("NFC", text)
    assert TOKENIZER.encode(text, allow_special=False) == ids


@given(TEXT)
def test_plain_equals_encode_without_specials(text):
    if not TOKENIZER.has_special(text):
        assert TOKENIZER.encode_plain(text) == TOKENIZER.encode(text)


@given(SPELLED)
def test_split_special_is_how_encode_works(text):
    ids = []
    for piece in TOKENIZER.split_special(text):
        ids += [piece] if isinstance(piece, int) else TOKENIZER.encode_plain(piece)
    assert ids == TOKENIZER.encode(text)


def test_has_special():
    assert TOKENIZER.has_special("a<sound>b")
    assert TOKENIZER.has_special("<tool_call>")
    assert not TOKENIZER.has_special("a <Sound> <|im_start |>")


def test_long_runs_take_linear_time():
    for text in (" " * 300_000, "a" * 300_000, "\n " * 100_000, "'" * 300_000):
        assert TOKENIZER.decode(TOKENIZER.encode_plain(text)) == text


@pytest.mark.parametrize("encode", [TOKENIZER.encode, TOKENIZER.encode_plain, TOKENIZER.split_special])
def test_half_a_surrogate_pair_is_refused(encode):
    with pytest.raises(PromptError, match="surrogate pair at position 2"):
        encode("ab\ud800c")


@given(IDS, st.data())
def test_incremental_pieces_join_to_decode(ids, data):
    incremental = Incremental(TOKENIZER)
    pieces, rest = [], ids
    while rest:
        num_pushed = data.draw(st.integers(1, len(rest)))
        pieces.append(incremental.push(rest[:num_pushed]))
        rest = rest[num_pushed:]
    assert "".join(pieces) + incremental.flush() == TOKENIZER.decode(ids)


@given(TEXT.filter(lambda text: "\ufffd" not in text))
def test_incremental_never_gives_half_a_character(text):
    incremental = Incremental(TOKENIZER)
    pieces = [incremental.push([token_id]) for token_id in TOKENIZER.encode_plain(text)]
    assert "\ufffd" not in "".join(pieces)
    assert "".join(pieces) == unicodedata.normalize("NFC", text)
    assert incremental.flush() == ""


def test_incremental_holds_back_and_flushes():
    first, *_, last = TOKENIZER.encode_plain("🎵")
    incremental = Incremental(TOKENIZER)
    assert incremental.push([first]) == ""
    assert incremental.push([TOKENIZER.im_end]) == ""
    assert incremental.flush() == "\ufffd"
    assert incremental.flush() == ""
    assert incremental.push(TOKENIZER.encode_plain("ok")) == "ok"
    assert last != first


def test_unknown_ids_decode_to_nothing():
    assert TOKENIZER.decode([TOKENIZER.vocab_size + 5, -1, *TOKENIZER.encode("a")]) == "a"


def test_saved_truncation_and_padding_do_not_count():
    backend = with_specials()
    backend.enable_truncation(2)
    backend.enable_padding(length=9)
    assert Tokenizer(backend).encode("dog rain") == TOKENIZER.encode("dog rain")


def test_import_does_not_load_the_library():
    code = "import sys, audioflamingo.tokenizer; sys.exit('tokenizers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_missing_tokens_are_named():
    backend = train()
    backend.add_special_tokens(SPECIALS[:2])
    with pytest.raises(CheckpointError, match=r"no special token <\|im_end\|>, <sound>"):
        Tokenizer(backend)
    with pytest.raises(CheckpointError, match="<pad>"):
        Tokenizer(with_specials(), pad_token="<pad>")


def edited(folder, edit):
    write_json_layout(folder)
    path = folder / "tokenizer.json"
    spec = json.loads(path.read_text())
    edit(spec)
    path.write_text(json.dumps(spec))
    return folder


def other_pattern(spec):
    spec["pre_tokenizer"]["pretokenizers"][0]["pattern"] = {"Regex": "(a+)+$"}


def other_normalizer(spec):
    spec["normalizer"] = {"type": "Lowercase"}


def other_decoder(spec):
    spec["decoder"] = {"type": "Fuse"}


def no_words(spec):
    spec["pre_tokenizer"] = None


def dropout(spec):
    spec["model"]["dropout"] = 0.5


def renumbered(spec):
    spec["added_tokens"][-1]["id"] = 9_999


def unknown_merge(spec):
    spec["model"]["merges"].append(["zzz", "qq"])


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (other_pattern, "pattern that is not Qwen2's"),
        (other_normalizer, "normalizer is Lowercase"),
        (other_decoder, "decoder is Fuse"),
        (no_words, "pre-tokenizer"),
        (dropout, "drop out"),
        (renumbered, "id 9999"),
        (unknown_merge, r"tokenizer.json is corrupt: Token `zzz`"),
    ],
)
def test_other_kinds_and_contradictions_are_refused(tmp_path, edit, match):
    with pytest.raises(CheckpointError, match=match):
        Tokenizer.from_folder(edited(tmp_path, edit))


def test_merges_that_spell_a_special_token_are_found():
    vocab = {letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz<|>_!")}
    vocab |= {"<|": len(vocab), "<|a": len(vocab) + 1}
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers

    backend = Backend(models.BPE(vocab=vocab, merges=[("<", "|"), ("<|", "a")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([*SPECIALS[:4], "<|a"])
    with pytest.raises(CheckpointError, match="merges turn ordinary text"):
        Tokenizer(backend).encode_plain("x<|a")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"version": "1.0"}', "[" * 100_000])
def test_corrupt_tokenizer_json(tmp_path, content):
    write_json_layout(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"tokenizer.json is corrupt"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("vocab.json", "{", r"vocab.json is corrupt"),
        ("vocab.json", '{"a": "b"}', "not a whole number"),
        ("vocab.json", '{"a": -1}', "not a whole number"),
        ("merges.txt", "#version: 0.2\na b\nabc\n", "line 3 is not a pair"),
        ("merges.txt", "zzz qqq\n", "corrupt"),
        ("tokenizer_config.json", "[1]", "holds no JSON object"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {}}}', "corrupt"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"7": {"content": "<x>"}}}', "declared with id 7"),
        ("added_tokens.json", '{"<|im_end|>": 3}', "declared with id"),
        ("added_tokens.json", json.dumps({f"<{i}>": i for i in range(5000)}), "5,00. added tokens"),
    ],
)
def test_corrupt_parts(tmp_path, name, content, match):
    write_parts_layout(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=match):
        Tokenizer.from_folder(tmp_path)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(CheckpointError, match=r"neither tokenizer\.json nor"):
        Tokenizer.from_folder(tmp_path)
    write_parts_layout(tmp_path)
    (tmp_path / "merges.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CheckpointError, match=r"merges.txt is corrupt"):
        Tokenizer.from_folder(tmp_path)


def test_oversized_files_are_not_read(tmp_path):
    write_json_layout(tmp_path)
    with (tmp_path / "tokenizer.json").open("r+b") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(CheckpointError, match="at most 67,108,864"):
        Tokenizer.from_folder(tmp_path)

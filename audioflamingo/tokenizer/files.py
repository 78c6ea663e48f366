"""The tokenizer's files: read within bounds, checked to be Qwen2's kind, put together where they come in parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from audioflamingo.errors import CheckpointError

if TYPE_CHECKING:
    import tokenizers

MAX_FILE_BYTES = 64 * 2**20
MAX_ADDED_TOKENS = 4_096
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

LLAMA3_WORDS = QWEN2_WORDS.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
"""Digits in groups of three is all that differs."""
KNOWN_WORDS = (QWEN2_WORDS, LLAMA3_WORDS)

_DEFAULT_FLAGS = {"special": True, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
_Read = TypeVar("_Read")


def read_folder(folder: Path) -> tuple[tokenizers.Tokenizer, str | None]:
    """The backend that a folder's files describe, and the name of its padding token if they give one.

    Raises:
        CheckpointError: files are missing, too large, corrupt, or contradict each other.
    """
    config = _read_json_object(folder / "tokenizer_config.json")
    backend = _read_backend(folder)
    _add_declared_tokens(backend, _declared_tokens(config, _read_json_object(folder / "added_tokens.json")))
    return backend, _content(config.get("pad_token"))


def refuse_other_kinds(backend: tokenizers.Tokenizer) -> None:
    """Check that a backend is a byte-level BPE with Qwen2's word pattern, or Llama 3's.

    Another kind would give ids that the decoder never saw, and a foreign pattern may take unbounded time.

    Raises:
        CheckpointError: it is another kind; all complaints at once.
    """
    import tokenizers

    found = []
    if not isinstance(backend.model, tokenizers.models.BPE):
        found.append(f"its model is {type(backend.model).__name__}, expected BPE")
    elif backend.model.dropout:
        found.append(f"its merges drop out with probability {backend.model.dropout}, expected none")
    if not isinstance(backend.decoder, tokenizers.decoders.ByteLevel):
        found.append(f"its decoder is {type(backend.decoder).__name__}, expected ByteLevel")
    if not isinstance(backend.normalizer, tokenizers.normalizers.NFC | None):
        found.append(f"its normalizer is {type(backend.normalizer).__name__}, expected NFC")
    steps = _steps(backend.pre_tokenizer)
    if any(step.get("type") not in ("Split", "ByteLevel") for step in steps):
        found.append(f"its pre-tokenizer has the steps {[step.get('type') for step in steps]}, expected ByteLevel")
    elif any(step["type"] == "Split" and step["pattern"].get("Regex") not in KNOWN_WORDS for step in steps):
        found.append("it splits words by a pattern that is not Qwen2's or Llama 3's")
    if found:
        raise CheckpointError("the tokenizer is not a byte-level BPE of Qwen2's kind: " + "; ".join(found))


def _steps(pre_tokenizer: Any) -> list[dict[str, Any]]:
    if pre_tokenizer is None:
        return [{"type": None}]
    state = json.loads(pre_tokenizer.__getstate__())
    return state["pretokenizers"] if state["type"] == "Sequence" else [state]


@dataclass(frozen=True)
class _Declared:
    """An added token as a checkpoint's side files declare it."""

    token_id: int
    content: str
    flags: dict[str, bool]


def _read_backend(folder: Path) -> tokenizers.Tokenizer:
    import tokenizers

    whole, vocab, merges = folder / "tokenizer.json", folder / "vocab.json", folder / "merges.txt"
    if whole.is_file():
        backend = _parsed(whole.name, lambda: tokenizers.Tokenizer.from_str(_read_text(whole)))
        for entry in _read_json_object(whole).get("added_tokens") or ():
            _check_id(backend, entry["content"], entry["id"])  # the backend renumbers tokens without an error
        return backend
    if not (vocab.is_file() and merges.is_file()):
        raise CheckpointError(f"{folder} has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt")
    return _parsed(f"{vocab.name} and {merges.name}", lambda: _assembled(_vocabulary(vocab), _merges(merges)))


def _parsed(name: str, read: Callable[[], _Read]) -> _Read:
    try:
        return read()
    except CheckpointError:
        raise
    except BaseException as error:  # the backend reports corrupt files as bare Exception, or as a panic
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"{name} is corrupt: {error}; download the checkpoint again") from error


def _assembled(vocab: dict[str, int], merges: list[tuple[str, str]]) -> tokenizers.Tokenizer:
    """Qwen2's tokenizer from its two lists."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    backend.normalizer = normalizers.NFC()
    words = pre_tokenizers.Split(Regex(QWEN2_WORDS), behavior="isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    backend.decoder = decoders.ByteLevel()
    return backend


def _vocabulary(path: Path) -> dict[str, int]:
    vocab = _read_json_object(path)
    if not all(type(token_id) is int and 0 <= token_id < 2**31 for token_id in vocab.values()):
        raise CheckpointError(f"{path.name} is corrupt: an id is not a whole number; download the checkpoint again")
    return vocab


def _merges(path: Path) -> list[tuple[str, str]]:
    pairs = []
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        left, blank, right = line.partition(" ")
        if not (left and blank and right) or " " in right:
            raise CheckpointError(f"{path.name} is corrupt: line {number} is not a pair; download the checkpoint again")
        pairs.append((left, right))
    return pairs


def _declared_tokens(config: Mapping[str, Any], added: Mapping[str, Any]) -> list[_Declared]:
    """Tokens of `added_tokens_decoder`, then those that only `added_tokens.json` knows, by id."""
    declared: dict[int, _Declared] = {}
    try:
        for content, token_id in added.items():
            declared[int(token_id)] = _Declared(int(token_id), content, dict(_DEFAULT_FLAGS))
        for token_id, entry in (config.get("added_tokens_decoder") or {}).items():
            flags = {flag: bool(entry.get(flag, default)) for flag, default in _DEFAULT_FLAGS.items()}
            declared[int(token_id)] = _Declared(int(token_id), str(entry["content"]), flags)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"tokenizer_config.json or added_tokens.json is corrupt: {error!r}") from error
    if len(declared) > MAX_ADDED_TOKENS:
        raise CheckpointError(f"{len(declared):,} added tokens are declared; at most {MAX_ADDED_TOKENS:,} are allowed")
    return [declared[token_id] for token_id in sorted(declared)]


def _add_declared_tokens(backend: tokenizers.Tokenizer, declared: list[_Declared]) -> None:
    import tokenizers

    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    for token in declared:
        if token.content not in known:
            backend.add_tokens([tokenizers.AddedToken(token.content, **token.flags)])
        _check_id(backend, token.content, token.token_id)


def _check_id(backend: tokenizers.Tokenizer, content: str, token_id: int) -> None:
    if (given := backend.token_to_id(content)) != token_id:
        raise CheckpointError(
            f"the added token {content!r} is declared with id {token_id}, "
            f"but the vocabulary gives it {given}; the tokenizer files are not of one checkpoint"
        )


def _content(token: Any) -> str | None:
    """A token as configs write it: a string, or an object with `content`."""
    content = token.get("content") if isinstance(token, Mapping) else token
    return content if isinstance(content, str) else None


def _read_text(path: Path) -> str:
    if (size := path.stat().st_size) > MAX_FILE_BYTES:
        raise CheckpointError(f"{path.name} has {size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path.name} is corrupt: {error}; download the checkpoint again") from error


def _read_json_object(path: Path) -> dict[str, Any]:
    """A JSON object; an absent file counts as an empty one."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path.name} is corrupt: {error}; download the checkpoint again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path.name} is corrupt: it holds no JSON object; download the checkpoint again")
    return values

"""Text to token ids and back: Qwen2's byte-level byte-pair encoding, read from the checkpoint's own files.

Two readers share one vocabulary. One knows the added tokens (`<|im_start|>`, `<sound>`, ...) and is meant for text
that we wrote; the other knows none of them, so that what a user types can never become a control token.

Source: byte-pair encoding (Sennrich et al. 2016) over bytes (GPT-2) with the word pattern of Qwen2.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from audioflamingo.errors import CheckpointError, PromptError
from audioflamingo.tokenizer.files import read_folder, refuse_other_kinds

if TYPE_CHECKING:
    import tokenizers

IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
END_OF_TEXT = "<|endoftext|>"
SOUND = "<sound>"
PAD = "[PAD]"


class Tokenizer:
    """Encodes and decodes text, and knows the special ids by name.

    Attributes:
        im_start: id that opens a ChatML turn.
        im_end: id that closes one, and with it an answer.
        endoftext: id that ends a document.
        sound: id of the placeholder that stands for one audio token.
        pad: id that fills up a batch.
        eos_ids: ids that end an answer.
        special_ids: every id that decoding leaves out.
        vocab_size: highest id + 1, the least number of rows of an embedding table.
        sound_boundaries: ids that a prompt has before and behind every sound; set by who knows the model's family.
    """

    def __init__(self, backend: tokenizers.Tokenizer, pad_token: str | None = None) -> None:
        """Wrap a backend; `from_folder` is the usual way in.

        Raises:
            CheckpointError: it is not Qwen2's kind of tokenizer, or tokens that every prompt needs are missing.
        """
        import tokenizers

        refuse_other_kinds(backend)
        backend.no_truncation()  # a saved tokenizer may carry settings that cut text without a word
        backend.no_padding()
        self._backend = backend
        self._plain = tokenizers.Tokenizer(backend.model)
        for part in ("normalizer", "pre_tokenizer"):
            if getattr(backend, part) is not None:
                setattr(self._plain, part, getattr(backend, part))

        added = backend.get_added_tokens_decoder()
        named = _named_ids({token.content: token_id for token_id, token in added.items()}, pad_token)
        self.im_start, self.im_end, self.endoftext = named[IM_START], named[IM_END], named[END_OF_TEXT]
        self.sound, self.pad = named[SOUND], named[PAD]
        self.eos_ids = (self.im_end, self.endoftext)
        self._added_ids = frozenset(added)
        self.special_ids = frozenset({i for i, token in added.items() if token.special} | set(named.values()))
        self.vocab_size = max(backend.get_vocab(with_added_tokens=True).values()) + 1
        self.sound_boundaries: tuple[int, int] | None = None
        self._bytes_of_id: dict[int, bytes] = {}

    @classmethod
    def from_folder(cls, path: str | Path) -> Tokenizer:
        """Read `tokenizer.json`, or `vocab.json` and `merges.txt` where there is none (NVIDIA's `llm` folder).

        Tokens declared in `tokenizer_config.json` or `added_tokens.json` are added if the main file lacks them.

        Raises:
            CheckpointError: files are missing, too large, corrupt, or contradict each other.
        """
        backend, pad_token = read_folder(Path(path))
        return cls(backend, pad_token)

    def to_json(self) -> str:
        """The vocabulary, merges and added tokens as the text of a `tokenizer.json`."""
        return self._backend.to_str()

    def encode(self, text: str, *, allow_special: bool = True) -> list[int]:
        """Token ids of a text, nothing added at its ends.

        Args:
            text: what to encode.
            allow_special: whether strings such as `<|im_end|>` become their special ids. Never allow it for
                text that a user gave; see `encode_plain`.

        Raises:
            PromptError: the text is not valid Unicode.
        """
        if not allow_special:
            return self.encode_plain(text)
        return self._backend.encode(_valid_unicode(text), add_special_tokens=False).ids

    def encode_plain(self, text: str) -> list[int]:
        """Token ids of a text in which `<|im_end|>`, `<sound>` and the like are ordinary characters.

        Equals `encode` for text without such strings.

        Raises:
            PromptError: the text is not valid Unicode.
            CheckpointError: the vocabulary itself spells a special token by merges, so no text is safe.
        """
        ids = self._plain.encode(_valid_unicode(text), add_special_tokens=False).ids
        if not self.special_ids.isdisjoint(ids):
            token = self._backend.id_to_token(next(i for i in ids if i in self.special_ids))
            raise CheckpointError(
                f"the tokenizer's merges turn ordinary text into the special token {token!r}; "
                "use the tokenizer files of the released checkpoint"
            )
        return ids

    def has_special(self, text: str) -> bool:
        """Whether `encode` would read any part of the text as an added token."""
        return not self._added_ids.isdisjoint(self.encode(text))

    def split_special(self, text: str) -> list[int | str]:
        """The added tokens of a text as ids, and the stretches of ordinary text between them as strings.

        Encoding each stretch with `encode_plain` gives exactly `encode(text)`: the backend, too, cuts at added
        tokens first and looks at each stretch by itself.
        """
        encoding = self._backend.encode(_valid_unicode(text), add_special_tokens=False)
        pieces: list[int | str] = []
        done = 0
        for token_id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            if token_id in self._added_ids:
                pieces += [text[done:start], token_id] if start > done else [token_id]
                done = end
        return [*pieces, text[done:]] if done < len(text) else pieces

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Text of token ids; bytes that are not UTF-8 become U+FFFD, ids outside the vocabulary nothing."""
        return b"".join(self._bytes(ids, skip_special)).decode("utf-8", errors="replace")

    def _bytes(self, ids: Iterable[int], skip_special: bool) -> Iterator[bytes]:
        for token_id in ids:
            if not (skip_special and token_id in self.special_ids):
                yield self._bytes_of(token_id)

    def _bytes_of(self, token_id: int) -> bytes:
        known = self._bytes_of_id.get(token_id)
        if known is None:
            token = self._backend.id_to_token(token_id) if token_id >= 0 else None
            known = self._bytes_of_id[token_id] = _spelled_bytes(token or "")
        return known


class Incremental:
    """Text of an answer as its tokens come. The pieces joined equal `Tokenizer.decode` of all the tokens.

    Only the bytes of an unfinished character are kept, so the cost per token does not grow with the answer.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, ids: Iterable[int]) -> str:
        """Text that became complete with these tokens: never half a character, and maybe empty."""
        return self._decoder.decode(b"".join(self._tokenizer._bytes(ids, True)))

    def flush(self) -> str:
        """What is left at the end: U+FFFD if the last character never became complete, else nothing."""
        text = self._decoder.decode(b"", True)
        self._decoder.reset()
        return text


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable letter for each byte: itself where printable, else the next free one from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    unprintable = sorted(set(range(256)) - set(printable))
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(unprintable)}


_BYTE_OF_LETTER = _byte_alphabet()


def _spelled_bytes(token: str) -> bytes:
    try:
        return bytes(_BYTE_OF_LETTER[letter] for letter in token)
    except KeyError:  # an added token is kept as its text, which need not be in the byte alphabet
        return token.encode("utf-8")


def _valid_unicode(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"the text holds half of a surrogate pair at position {error.start}; only whole characters can be "
            "encoded: decode its source as UTF-8 with errors='replace'"
        ) from None
    return text


def _named_ids(added: Mapping[str, int], pad_token: str | None) -> dict[str, int]:
    missing = [name for name in (IM_START, IM_END, END_OF_TEXT, SOUND) if name not in added]
    if pad_token is not None and pad_token not in added:
        missing.append(pad_token)
    if missing:
        raise CheckpointError(
            f"the tokenizer has no special token {', '.join(missing)}; an Audio Flamingo 3 checkpoint declares "
            "it in tokenizer.json, added_tokens.json or tokenizer_config.json"
        )
    named = {name: added[name] for name in (IM_START, IM_END, END_OF_TEXT, SOUND)}
    named[PAD] = added[pad_token] if pad_token is not None else added.get(PAD, added[END_OF_TEXT])
    return named

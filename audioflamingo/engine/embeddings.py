"""Decoder embeddings of windows of sound, kept by content: equal windows are encoded once, whoever asks and when.

Shapes: W windows, A audio tokens of a window, D decoder width.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from collections.abc import Sequence as Rows
from contextlib import nullcontext, suppress

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audioflamingo.audio import log_mel_batch
from audioflamingo.config import HOP_SAMPLES
from audioflamingo.engine.aside import Aside
from audioflamingo.engine.content import glance
from audioflamingo.engine.memory import memory_errors_told
from audioflamingo.engine.prompt_graphs import GraphEncoder
from audioflamingo.engine.sequence import Piece
from audioflamingo.errors import FlamingoError
from audioflamingo.model.costs import encoder_flops
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.threads import threads_for

Samples = npt.NDArray[np.float32]
MOST_GLANCES = 1 << 14  # of windows that were heard, as long ago as the cache of keys and values may reach


class WindowEmbeddings:
    """The embeddings used last, within a budget of memory."""

    def __init__(self, model: Flamingo, *, windows_at_once: int, most_bytes: int, is_aside: bool = False) -> None:
        """Begin with nothing.

        Args:
            model: whose encoder and projector run.
            windows_at_once: that they run together.
            most_bytes: of what is kept.
            is_aside: whether the encoder has a queue of its own on a GPU, beside the one that reads and writes.
        """
        self._model = model
        self._aside = Aside(model.device) if is_aside and model.device.type == "cuda" else None
        self._graphs = GraphEncoder(model)
        self._windows_at_once = windows_at_once
        self._most_bytes = most_bytes
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()
        self._glances: OrderedDict[int, None] = OrderedDict()
        self.num_bytes = 0
        self.num_encoded = 0
        """Windows that the encoder has run so far."""

    def of(self, pieces: Iterable[Piece]) -> dict[bytes, Tensor]:
        """(A, D) embeddings by key; windows that are not known are encoded, those of several sounds together.

        The result holds all that were asked for, even where they are more than the budget keeps.
        """
        found = self._begun(pieces)
        if self._aside is not None:
            self._aside.join(found)
        return found

    def begin(self, pieces: Iterable[Piece]) -> None:
        """Give the encoder the windows that are not known, and wait for nothing."""
        self._begun(pieces)

    def begin_new(self, pieces: Iterable[Piece]) -> None:
        """Give the encoder the windows that were surely never heard, and name them while it works.

        Their names would only tell that they are new, which a glance does in no time. All others are left alone, and
        so is what fails: whoever asks for it is told.
        """
        new = [piece for piece in pieces if not self._is_kept(piece) and self._is_new(piece)]
        size = sum(piece.num_tokens for piece in new) * self._model.config.decoder.width * self._model.dtype.itemsize
        if self._aside is not None or size > self._most_bytes:
            return
        with suppress(FlamingoError):
            for piece, embedding in zip(new, self._encode(new), strict=True):
                self._keep(piece.key, embedding)

    def are_there(self, pieces: Iterable[Piece]) -> bool:
        """Whether nothing that was begun of these windows is still at work."""
        return self._aside is None or self._aside.are_done(piece.key for piece in pieces)

    def _begun(self, pieces: Iterable[Piece]) -> dict[bytes, Tensor]:
        wanted = {piece.key: piece for piece in pieces}
        found = {key: self._kept[key] for key in wanted if key in self._kept}
        new = [piece for key, piece in wanted.items() if key not in found]
        with nullcontext() if self._aside is None else self._aside.running([piece.key for piece in new]):
            found.update(zip((piece.key for piece in new), self._encode(new), strict=True))
            for key in wanted:
                found[key] = self._keep(key, found[key])
        return found

    def forget(self) -> None:
        """Keep nothing."""
        self._kept.clear()
        self.num_bytes = 0

    def _is_kept(self, piece: Piece) -> bool:
        return piece.sound_keys.are_taken and piece.key in self._kept

    def _is_new(self, piece: Piece) -> bool:
        """Whether no window like it was ever encoded, or asked about here; from now on it was."""
        seen = glance(piece.samples)
        is_new = seen not in self._glances
        self._glances[seen] = None
        self._glances.move_to_end(seen)
        if len(self._glances) > MOST_GLANCES:
            self._glances.popitem(last=False)
        return is_new

    def _encode(self, pieces: list[Piece]) -> list[Tensor]:
        if not pieces:
            return []
        ordered = sorted(range(len(pieces)), key=lambda place: -pieces[place].num_tokens)  # like beside like
        features = encode_windows(
            self._model,
            [pieces[place].samples for place in ordered],
            self._windows_at_once,
            project=True,
            numbers=[pieces[place].number for place in ordered],
            graphs=self._graphs,
        )
        self.num_encoded += len(pieces)
        for piece in pieces:
            self._is_new(piece)
        by_place = dict(zip(ordered, features, strict=True))
        return [by_place[place] for place in range(len(pieces))]

    def _keep(self, key: bytes, embedding: Tensor) -> Tensor:
        """The same embedding in memory of its own: a view of many windows' would keep all of them alive."""
        if key not in self._kept:
            self._kept[key] = embedding.clone()
            self.num_bytes += embedding.numel() * embedding.element_size()
        self._kept.move_to_end(key)
        own = self._kept[key]
        while self.num_bytes > self._most_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.num_bytes -= oldest.numel() * oldest.element_size()
        return own


def encode_windows(
    model: Flamingo,
    windows: Rows[Samples],
    windows_at_once: int,
    *,
    project: bool,
    numbers: Rows[int] | None = None,
    graphs: GraphEncoder | None = None,
) -> list[Tensor]:
    """Features (A, width) of each window, of the encoder's width, or of the decoder's where projected.

    `numbers` are those of the windows within their sounds; None means that all are of one sound. `graphs` record what
    is bound by launches, projected only.
    """
    embed = model.embed_audio if graphs is None else graphs.embed_audio
    run = embed if project else model.encode
    numbers = range(len(windows)) if numbers is None else numbers
    features: list[Tensor] = []
    for start in range(0, len(windows), windows_at_once):
        some = windows[start : start + windows_at_once]
        num_encoder_frames = (-(-len(window) // (2 * HOP_SAMPLES)) for window in some)
        with (
            memory_errors_told(f"listening to {len(some)} windows of sound", model.device),
            threads_for(encoder_flops(model.config.encoder, num_encoder_frames), model.device),
        ):
            mel, num_mel_frames = log_mel_batch(some, model.device)
            packed, num_audio_tokens = run(mel, list(num_mel_frames), numbers[start : start + windows_at_once])
        features.extend(torch.split(packed, num_audio_tokens))
    return features

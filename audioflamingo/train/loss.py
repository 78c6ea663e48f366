"""The loss of a pack: next-token cross-entropy of the learnt tokens, summed; who calls divides by their number.

Logits exist for a few tokens at a time, never for all: at the released vocabulary one row of them is 0.6 MB.
Activations can be thrown away and computed again in the backward pass, layer by layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from audioflamingo.config import EncoderConfig
from audioflamingo.model.attention import Packing
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.train.attention import TrainingContext
from audioflamingo.train.collate import PackedBatch
from audioflamingo.train.context_parallel import Split, SplitContext
from audioflamingo.train.distributed import Processes
from audioflamingo.train.last_layer import context_of, only_where_learnt

CHUNK_TOKENS = 1_024
STUB_MEL_FRAMES = 4  # the shortest sound that makes an audio token


def chunked_cross_entropy(hidden: Tensor, lm_head: nn.Module, targets: Tensor, chunk: int = CHUNK_TOKENS) -> Tensor:
    """() fp32 sum of -log p over (M,) targets predicted by (M, D) states, `chunk` rows of logits at a time."""
    total = torch.zeros((), device=hidden.device)
    for states, wanted in zip(torch.split(hidden, chunk), torch.split(targets, chunk), strict=True):
        total = total + checkpoint(_chunk_loss, lm_head, states, wanted, use_reentrant=False)
    return total


def _chunk_loss(lm_head: nn.Module, states: Tensor, wanted: Tensor) -> Tensor:
    return functional.cross_entropy(lm_head(states).float(), wanted, reduction="sum")


class AnswerLoss(nn.Module):
    """The model and its loss as one module, so that wrappers around modules see every call into it.

    Attributes:
        model: what is trained.
        always_listens: run the encoder on a stub where a pack holds no sound, so that all processes of a sharded run
            make the same calls. The stub has no part in the loss.
        processes: over which packs are split, if they are; see `train.context_parallel`.
        skips: leave out what the last layer would do for states that the loss never reads, see `train.last_layer`.
    """

    def __init__(
        self,
        model: Flamingo,
        *,
        always_listens: bool = False,
        skips: bool = False,
        processes: Processes | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.processes = processes
        self.always_listens = always_listens
        self.skips = skips
        if skips:
            only_where_learnt(model.decoder.layers[-1])

    def forward(self, pack: PackedBatch) -> Tensor:
        """() fp32 loss, summed over the pack's learnt tokens."""
        audio, nothing = self._audio(pack)
        embeddings = self.model.merge(pack.ids, audio)
        packing = Packing.of(pack.lengths, embeddings.device)
        if self.processes is not None and self.processes.splits:
            loss = self._split_loss(pack, embeddings, packing, self.processes)
        else:
            context = context_of(packing, pack.places) if self.skips else TrainingContext(packing)
            hidden = self.model.hidden_states(embeddings, packing.positions, context)
            if len(hidden) != len(pack.places):
                hidden = hidden[pack.places]
            loss = chunked_cross_entropy(hidden, self.model.decoder.lm_head, pack.targets)
        return loss if nothing is None else loss + nothing

    def _split_loss(self, pack: PackedBatch, embeddings: Tensor, packing: Packing, processes: Processes) -> Tensor:
        """The loss of the learnt tokens in this process's part of the pack."""
        split = Split(packing.total, processes.rank, processes.size, embeddings.device)
        context = SplitContext(packing, split)
        hidden = self.model.hidden_states(embeddings[split.rows], packing.positions[split.rows], context)
        is_here, places = split.local(pack.places)
        return chunked_cross_entropy(hidden[places], self.model.decoder.lm_head, pack.targets[is_here])

    def _audio(self, pack: PackedBatch) -> tuple[Tensor | None, Tensor | None]:
        """Audio embeddings, and a zero that depends on the stub where the stub was heard instead."""
        if pack.features is not None:
            return self.model.projector(pack.features), None
        if pack.mel is not None:
            return self.model.projector(self._features(pack.mel, pack.num_mel_frames, pack.window_numbers)), None
        if not self.always_listens:
            return None, None
        config: EncoderConfig = self.model.config.encoder
        stub = torch.zeros(1, config.num_mel_bins, STUB_MEL_FRAMES + 2, device=pack.ids.device)
        return None, 0.0 * self.model.projector(self._features(stub, [STUB_MEL_FRAMES], (0,))).float().sum()

    def _features(self, mel: Tensor, num_mel_frames: list[int], window_numbers: Sequence[int]) -> Tensor:
        trains = any(parameter.requires_grad for parameter in self.model.encoder.parameters())
        with torch.set_grad_enabled(trains and torch.is_grad_enabled()):
            features, _ = self.model.encode(mel, num_mel_frames, window_numbers or None)
        assert isinstance(features, Tensor)
        return features


def recompute_activations(layers: Iterable[nn.Module]) -> None:
    """From now on these layers keep only their input and run again in the backward pass, with the same dropout."""
    for layer in layers:
        # An attribute of the instance is found before the class's method; parameters keep their names.
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)

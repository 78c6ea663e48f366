"""From a checkpoint to something to train on, and back: warm starts under a new tokenizer, states large and small.

The large state is exact and stays on the machine. The small one fits through narrow ways (few files of at most
`MAX_FILE_BYTES`): weights in bf16 alone; moments that remember 50 steps are soon found again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from audioflamingo.config import ModelConfig
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.weights import load_flamingo, save_flamingo, write_companions
from audioflamingo.train.initialise import initialise
from audioflamingo.train.nano_step import Heads

MAX_FILE_BYTES = 15_500_000
MAX_CHECKPOINT_BYTES = 1 << 30
NEW_NAME_BIAS = -4.0  # a frame's name is rare; a head that says so at once does not disturb the encoder
PROGRESS = "progress.json"
TOKENIZER = "tokenizer.json"


def start(config: ModelConfig, init: Path | None, heads_file: Path | None, tokenizer: Path, seed: int) -> tuple[
    Flamingo, Heads
]:  # fmt: skip
    """The model and its heads in fp32 on the CPU: from nothing, or from a checkpoint of the same shapes.

    Args:
        config: shapes.
        init: checkpoint with its tokenizer, or None.
        heads_file: the heads that belong to it; without, they start from nothing.
        tokenizer: the one to train with; rows of tokens that the checkpoint lacks start at the mean of their parts.
        seed: of what starts from nothing.
    """
    torch.manual_seed(seed)
    model, heads = Flamingo(config), Heads(config.encoder.width, config.decoder.width)
    initialise(model, seed)
    with torch.no_grad():
        heads.events.weight.zero_()
        heads.events.bias.fill_(NEW_NAME_BIAS)
    if init is not None:
        model.load_state_dict(load_flamingo(init, dtype=torch.float32).state_dict())
        remap(model, init / TOKENIZER, tokenizer)
    if heads_file is not None:
        take_heads(heads, load_file(heads_file))
    return model, heads


@torch.no_grad()
def remap(model: Flamingo, old_file: Path, new_file: Path) -> int:
    """Move the rows of embeddings and of the output layer to a new tokenizer's ids; returns how many are new."""
    from tokenizers import Tokenizer

    old, new = Tokenizer.from_file(str(old_file)), Tokenizer.from_file(str(new_file))
    old_ids: dict[str, int] = old.get_vocab(with_added_tokens=True)
    rows: list[list[int]] = [[] for _ in range(model.config.decoder.vocab_size)]
    num_new = 0
    for token, index in new.get_vocab(with_added_tokens=True).items():
        if token in old_ids:
            rows[index] = [old_ids[token]]
        else:
            rows[index] = old.encode(new.decode([index]), add_special_tokens=False).ids
            num_new += 1
    for matrix in (model.decoder.embed_tokens.weight, model.decoder.lm_head.weight):
        before = matrix.clone()
        for index, parts in enumerate(rows):
            if parts:
                matrix[index] = before[parts].mean(0)
    return num_new


@torch.no_grad()
def take_heads(heads: Heads, stored: dict[str, Tensor]) -> None:
    """Copy what fits; of what has become more, names or facts of the clock, the first rows are those of older heads."""
    own = heads.state_dict()
    for name, tensor in stored.items():
        if name in own and own[name].shape[1:] == tensor.shape[1:] and len(own[name]) >= len(tensor):
            own[name][: len(tensor)] = tensor.float()


def save_pieces(name: str, tensors: dict[str, Tensor], folder: Path) -> None:
    """bf16 tensors in as few files as the limit allows: NAME-1.safetensors, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces: list[dict[str, Tensor]] = [{}]
    size = 0
    for key, tensor in tensors.items():
        short = tensor.detach().to("cpu", torch.bfloat16).contiguous().clone()
        if size + short.nbytes > MAX_FILE_BYTES - 100_000:
            pieces.append({})
            size = 0
        pieces[-1][key] = short
        size += short.nbytes
    for number, piece in enumerate(pieces, 1):
        save_file(piece, folder / f"{name}-{number}.safetensors")


def load_pieces(name: str, folder: Path) -> dict[str, Tensor]:
    """What `save_pieces` wrote, in fp32."""
    found: dict[str, Tensor] = {}
    for path in sorted(folder.glob(f"{name}-*.safetensors")):
        found.update(load_file(path))
    return {key: tensor.float() for key, tensor in found.items()}


def assemble(config: ModelConfig, small: Path, tokenizer: Path, folder: Path) -> None:
    """A small state's weights as a checkpoint and its heads: FOLDER/checkpoint and FOLDER/heads.safetensors."""
    model, heads = start(config, None, None, tokenizer, 0)
    weights = load_pieces("weights", small)
    own = {
        part: {name.removeprefix(part): tensor for name, tensor in weights.items() if name.startswith(part)}
        for part in ("model.", "heads.")
    }
    model.load_state_dict({**model.state_dict(), **own["model."]})
    take_heads(heads, own["heads."])
    save_trained(model, heads, tokenizer, folder)


def save_trained(model: Flamingo, heads: Heads, tokenizer: Path, folder: Path) -> None:
    """A checkpoint in bf16, in the released form, and the heads that were trained with it."""
    save_flamingo(
        model, folder / "checkpoint", dtype=torch.bfloat16, max_shard_bytes=MAX_CHECKPOINT_BYTES, overwrite=True
    )
    write_companions(folder / "checkpoint", model.config, tokenizer.parent)
    stored = {name: tensor.detach().bfloat16().cpu().contiguous() for name, tensor in heads.state_dict().items()}
    save_file(stored, folder / "heads.safetensors")


def write_progress(folder: Path, values: dict[str, Any]) -> None:
    """Small facts of a state, as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PROGRESS).write_text(json.dumps(values, indent=1) + "\n")


def read_progress(folder: Path) -> dict[str, Any]:
    """What `write_progress` wrote."""
    values: dict[str, Any] = json.loads((folder / PROGRESS).read_text())
    return values

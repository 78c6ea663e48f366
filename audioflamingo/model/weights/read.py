"""Reading checkpoints: every name and shape is checked from the files' headers before any data is touched.

Only safetensors and JSON are ever opened. Pickled weights (*.bin, *.pt) can run code when opened; they are refused.
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from audioflamingo.config import ModelConfig
from audioflamingo.errors import CheckpointError
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.skeleton import skeleton
from audioflamingo.model.threads import threads_for
from audioflamingo.model.weights.names import NVIDIA_FOLDERS, Spelling, to_ours
from audioflamingo.model.weights.places import Order, adapted_places, take_places
from audioflamingo.model.weights.transfer import Progress, Source, transfer

if TYPE_CHECKING:
    from audioflamingo.model.lora import Adapter
    from audioflamingo.model.quantize.schemes import Scheme

MAX_JSON_BYTES = 64 << 20  # a tokenizer.json is 11 MB, an index 0.2 MB
MAX_COMPLAINTS = 8
LENGTH_BYTES = 8  # a safetensors file begins with the length of its JSON header
AUDIO_TOKEN = "<sound>"
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as its file's header describes it.

    Attributes:
        file: where it lies.
        key: its name within that file.
        name: its name within the checkpoint; differs from the key in NVIDIA's folders.
        shape: what the header says.
        dtype: what the header says, in safetensors' words.
        offset: its first byte in the file.
    """

    file: Path
    key: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    offset: int

    @property
    def source(self) -> Source:
        """Where its values are."""
        return Source(self.file, self.offset, DTYPES[self.dtype], math.prod(self.shape))


def load_config(folder: str | Path) -> ModelConfig:
    """The model's sizes from a checkpoint's folder, in transformers' or in NVIDIA's form.

    Raises:
        CheckpointError: no config.json, a broken one, or one of another architecture.
    """
    folder = _existing(folder)
    if not is_nvidia(folder):
        return ModelConfig.from_dict(read_json(folder / "config.json"))
    top = folder / "config.json"
    kind = read_json(top).get("model_type") if top.exists() else "llava_llama"
    if kind != "llava_llama":
        raise CheckpointError(f"{top}: model_type is {kind!r}; a checkpoint in NVIDIA's folders has 'llava_llama'")
    return ModelConfig.from_dict(
        {
            "model_type": "audioflamingo3",
            "audio_config": read_json(folder / "sound_tower" / "config.json"),
            "text_config": read_json(folder / "llm" / "config.json"),
            "audio_token_id": _audio_token_id(folder / "llm"),
        }
    )


def load_flamingo(
    folder: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    quantize: Scheme | None = None,
    progress: Progress | None = None,
) -> Flamingo:
    """The model of a checkpoint's folder, in evaluation mode.

    Args:
        folder: config.json with safetensors in either of transformers' spellings, or NVIDIA's three folders.
        device: where the tensors go, each read straight to its place.
        dtype: a floating dtype to cast to; None keeps the checkpoint's own, but a quantised model on a CPU computes in
            fp32.
        quantize: how the decoder's matrices are stored, see `quantize.layout`; each is quantised as it is read, and the
            whole model never lies in memory in the checkpoint's dtype.
        progress: called as bytes arrive.

    Raises:
        CheckpointError: anything missing, left over, misshapen, doubled or unreadable; nothing is loaded then.
    """
    folder, device = _existing(folder), torch.device(device)
    model = skeleton(load_config(folder))
    chosen = match(
        folder, inventory(folder), {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    )
    if dtype is None:
        dtype = torch.float32 if quantize and device.type == "cpu" else _common_dtype(folder, chosen)
    places = take_places(
        model, Order(quantize, device, dtype), {name: one.source.dtype for name, one in chosen.items()}
    )
    with threads_for(sum(one.source.num_values for one in chosen.values()), device, is_step=True):
        transfer([(one.source, places[name]) for name, one in chosen.items()], device, progress)
    return model.eval()


def rewrite(folder: str | Path, model: Flamingo, adapter: Adapter) -> None:
    """Work an adapter into a quantised model: its layers are read again, changed, and quantised anew.

    Args:
        folder: the checkpoint that the model was loaded from.
        model: it, changed in place.
        adapter: what is added; on the model's device.
    """
    folder = _existing(folder)
    shapes = {name: tuple(tensor.shape) for name, tensor in skeleton(model.config).state_dict().items()}
    chosen = match(folder, inventory(folder), shapes)
    jobs = [(chosen[name].source, place) for name, place in adapted_places(model, adapter).items()]
    transfer(jobs, model.device)


def is_nvidia(folder: Path) -> bool:
    """Whether a folder holds a checkpoint in NVIDIA's three folders."""
    return all((folder / part).is_dir() for part in NVIDIA_FOLDERS)


def inventory(folder: Path) -> list[StoredTensor]:
    """Every tensor of a checkpoint, from the headers alone.

    Raises:
        CheckpointError: no safetensors, a missing or corrupt file, or an index that disagrees with its files.
    """
    if not is_nvidia(folder):
        return _folder_inventory(folder, "")
    return [tensor for part in NVIDIA_FOLDERS for tensor in _folder_inventory(folder / part, f"{part}/")]


def match(folder: Path, stored: list[StoredTensor], expected: dict[str, tuple[int, ...]]) -> dict[str, StoredTensor]:
    """The stored tensor for each of our names.

    Raises:
        CheckpointError: the two do not fit exactly; the first few differences and their count.
    """
    spellings: tuple[Spelling, ...] = ("nvidia",) if is_nvidia(folder) else ("legacy", "transformers")
    names = [(next(filter(None, (to_ours(t.name, s) for s in spellings)), None), t) for t in stored]
    counts = Counter(name for name, _ in names)
    chosen = {name: tensor for name, tensor in names if name in expected}
    complaints = [f"missing {name}" for name in expected if name not in chosen]
    for name, tensor in names:
        if name is None or name not in expected:
            complaints.append(f"left over {tensor.name}")
        elif counts[name] > 1:
            complaints.append(f"stored more than once {tensor.name} (in {tensor.file.name})")
        elif tensor.shape != expected[name]:
            complaints.append(f"misshapen {tensor.name}: {tensor.shape}, config.json asks for {expected[name]}")
        elif tensor.dtype not in DTYPES:
            complaints.append(f"{tensor.name} is {tensor.dtype}, not one of {', '.join(DTYPES)}")
    _raise(folder, "does not hold exactly the tensors of its config.json", complaints)
    return {name: tensor for name, tensor in chosen.items() if name is not None}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of bounded size.

    Raises:
        CheckpointError: absent, too large, or not a JSON object.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; a checkpoint's folder holds config.json and *.safetensors")
    if path.stat().st_size > MAX_JSON_BYTES:
        raise CheckpointError(f"{path} has {path.stat().st_size} bytes; at most {MAX_JSON_BYTES} are read")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {str(error)[:100]}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds a JSON {type(found).__name__}, expected an object")
    return found


def _existing(folder: str | Path) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give a folder with config.json and *.safetensors")
    return folder


def _folder_inventory(folder: Path, prefix: str) -> list[StoredTensor]:
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    files = sorted(folder.glob("*.safetensors"))
    if len(indexes) > 1 or (indexes and (folder / "model.safetensors").exists()):
        raise CheckpointError(f"{folder} holds two sets of weights, an index and another; leave only one there")
    if indexes:
        return _indexed_inventory(folder, indexes[0], prefix)
    if len(files) > 1:
        raise CheckpointError(f"{folder} holds {len(files)} safetensors files; expected one, or an index beside them")
    if not files:
        raise CheckpointError(_no_weights(folder))
    return list(_header(files[0], prefix))


def _no_weights(folder: Path) -> str:
    if any(path.suffix in PICKLE_SUFFIXES for path in folder.iterdir()):
        return (
            f"{folder} holds only pickled weights, which can run code when opened and are never opened here; convert "
            "them where you trust them: load them with torch.load(..., weights_only=True) and write them with "
            "safetensors.torch.save_file as model.safetensors"
        )
    return f"{folder} holds no *.safetensors"


def _indexed_inventory(folder: Path, index: Path, prefix: str) -> list[StoredTensor]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map")
    for shard in set(map(str, weight_map.values())):
        if Path(shard).name != shard or "\\" in shard or not shard.endswith(".safetensors"):
            raise CheckpointError(
                f"{index} names the shard {shard!r}; expected the name of a safetensors file beside it"
            )
    shards = sorted(set(weight_map.values()))
    missing = [f"missing shard {shard}" for shard in shards if not (folder / shard).is_file()]
    _raise(folder, "is incomplete", missing)
    found = [tensor for shard in shards for tensor in _header(folder / shard, prefix)]
    places = {(tensor.key, tensor.file.name) for tensor in found}
    indexed = set(weight_map.items())
    complaints = [f"{key} is not in {shard}, where the index has it" for key, shard in sorted(indexed - places)]
    complaints += [f"{key} in {shard} is not in the index" for key, shard in sorted(places - indexed)]
    _raise(folder, "disagrees with its index", complaints)
    return found


def _header(file: Path, prefix: str) -> Iterator[StoredTensor]:
    try:
        with safe_open(file, framework="pt") as opened:  # it checks that offsets, shapes and the file's size agree
            keys = opened.keys()
        with open(file, "rb") as plain:
            (num_bytes,) = struct.unpack("<Q", plain.read(LENGTH_BYTES))
            header = json.loads(plain.read(num_bytes))
    except (SafetensorError, OSError, ValueError) as error:
        why = f"{str(error)[:100]}; fetch it again"
        raise CheckpointError(f"{file} is not a readable safetensors file: {why}") from error
    for key in keys:
        entry = header[key]
        offset = LENGTH_BYTES + num_bytes + entry["data_offsets"][0]
        yield StoredTensor(file, key, prefix + key, tuple(entry["shape"]), entry["dtype"], offset)


def _common_dtype(folder: Path, chosen: dict[str, StoredTensor]) -> torch.dtype:
    dtypes = sorted({tensor.dtype for tensor in chosen.values()})
    if len(dtypes) > 1:
        raise CheckpointError(f"{folder} mixes {' and '.join(dtypes)}; say which to use, for example dtype=bfloat16")
    return DTYPES[dtypes[0]]


def _audio_token_id(folder: Path) -> int:
    """The id of the placeholder in a tokenizer's folder, wherever its format notes added tokens."""
    pairs: list[tuple[Any, Any]] = []
    if (folder / "added_tokens.json").exists():
        pairs += read_json(folder / "added_tokens.json").items()
    if (folder / "tokenizer.json").exists():
        added = read_json(folder / "tokenizer.json").get("added_tokens")
        pairs += [(_get(token, "content"), _get(token, "id")) for token in (added if isinstance(added, list) else [])]
    if (folder / "tokenizer_config.json").exists():
        added = read_json(folder / "tokenizer_config.json").get("added_tokens_decoder")
        pairs += [(_get(token, "content"), key) for key, token in (added if isinstance(added, dict) else {}).items()]
    ids = {str(value) for content, value in pairs if content == AUDIO_TOKEN}
    if len(ids) != 1 or not min(ids).isdecimal():
        raise CheckpointError(f"the tokenizer in {folder} gives {AUDIO_TOKEN} the ids {sorted(ids)}; expected one")
    return int(ids.pop())


def _get(token: Any, key: str) -> Any:
    return token.get(key) if isinstance(token, dict) else None


def _raise(folder: Path, summary: str, complaints: list[str]) -> None:
    if complaints:
        shown = "; ".join(complaints[:MAX_COMPLAINTS])
        rest = f"; and {len(complaints) - MAX_COMPLAINTS} more" if len(complaints) > MAX_COMPLAINTS else ""
        num = f"{len(complaints)} difference{'s' * (len(complaints) > 1)}"
        raise CheckpointError(f"{folder} {summary} ({num}): {shown}{rest}")

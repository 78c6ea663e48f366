"""Another language model in the place of the base's decoder, for alignment from its beginning (stage 1).

What is read is a plain text checkpoint as transformers writes it: config.json, safetensors, tokenizer.json. Qwen2 fits
as it is. Llama is the same network without biases on queries, keys and values, so it becomes a Qwen2 with zeros there;
shared input and output tables become two equal ones. The result is an ordinary Audio Flamingo checkpoint with the
base's encoder and a fresh projector, which stage 1 then starts from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from audioflamingo.config import DecoderConfig, ModelConfig
from audioflamingo.errors import CheckpointError, OptionError
from audioflamingo.model.skeleton import skeleton
from audioflamingo.model.weights import load_flamingo, save_flamingo, write_companions
from audioflamingo.model.weights.read import DTYPES, read_json
from audioflamingo.prompt import CHAT_TEMPLATE
from audioflamingo.tokenizer import IM_END, IM_START, SOUND, Tokenizer
from audioflamingo.tokenizer.files import read_folder
from audioflamingo.tokenizer.text import END_OF_TEXT
from audioflamingo.train.initialise import gelu_rms

FAMILIES = ("qwen2", "llama")
LLAMA_THETA = 10_000.0  # of those whose configuration does not say
CONTROL_TOKENS = (IM_START, IM_END, END_OF_TEXT, SOUND)
MAX_COMPLAINTS = 8
ORIGIN_FILE = "backbone.json"


def write_aligned_base(base: Path, backbone: Path, folder: Path, seed: int) -> Path:
    """Write a checkpoint of the base's encoder, a fresh projector and another decoder; returns its folder.

    A folder that is there already is taken as it is: it appears only when it is whole.

    Args:
        base: a checkpoint with an encoder.
        backbone: a text checkpoint of one of `FAMILIES`.
        folder: where to.
        seed: of the projector.

    Raises:
        CheckpointError: the backbone is of another kind, or its files do not fit together.
    """
    origin = str(backbone.resolve())
    if (folder / "config.json").is_file():
        if read_json(folder / ORIGIN_FILE).get("backbone") != origin:
            raise OptionError(f"{folder} was made from another backbone; choose another --out")
        return folder
    decoder, ids = read_backbone_config(backbone)
    tokens = folder.with_name(f"{folder.name}-tokenizer")
    added, is_new = _write_tokenizer(backbone, tokens)
    heard = load_flamingo(base)
    tensors = _decoder_tensors(backbone, decoder)
    dtype = next(iter(tensors.values())).dtype
    rows = max(decoder.vocab_size, max(added.values()) + 1)
    for name in ("decoder.embed_tokens.weight", "decoder.lm_head.weight"):
        tensors[name] = _with_tokens(tensors[name], rows, {name: added[name] for name in is_new}, ids)
    config = ModelConfig(heard.config.encoder, DecoderConfig(**{**decoder.__dict__, "vocab_size": rows}), added[SOUND])
    model = skeleton(config)
    tensors |= {f"encoder.{name}": tensor.to(dtype) for name, tensor in heard.encoder.state_dict().items()}
    tensors |= _fresh_projector(config, tensors["decoder.embed_tokens.weight"], seed)
    model.load_state_dict(tensors, assign=True)
    write_companions(tokens, config, tokens)
    (tokens / ORIGIN_FILE).write_text(json.dumps({"backbone": origin}) + "\n", encoding="utf-8")
    save_flamingo(model, folder.with_name(f"{folder.name}-weights"), dtype=dtype, overwrite=True)
    _joined(tokens, folder.with_name(f"{folder.name}-weights"), folder)
    return folder


def read_backbone_config(folder: Path) -> tuple[DecoderConfig, dict[str, int]]:
    """Sizes of a text checkpoint, and the ids of its control tokens by `CONTROL_TOKENS`' names, where it has such.

    Raises:
        CheckpointError: another family, or a setting that our decoder does not have; all complaints at once.
    """
    values = read_json(folder / "config.json")
    family = values.get("model_type")
    if family not in FAMILIES:
        raise CheckpointError(
            f"{folder} is a {family!r} model; a backbone is one of {', '.join(FAMILIES)} (dense, text alone)"
        )
    complaints = [
        f"{name} is {came!r}, expected {allowed!r}"
        for name, came, allowed in _settings(values, family)
        if came != allowed
    ]
    if complaints:
        raise CheckpointError(f"the backbone {folder} is not supported: {'; '.join(complaints)}")
    if family == "llama" and not _rope(values).get("rope_theta"):
        values = {**values, "rope_theta": values.get("rope_theta", LLAMA_THETA)}
    text = {**values, "model_type": "qwen2", "tie_word_embeddings": False}
    whole = ModelConfig.from_dict(
        {"model_type": "audioflamingo3", "audio_config": {}, "text_config": text, "audio_token_id": 0}
    )
    return whole.decoder, _control_ids(values)


def _settings(values: Mapping[str, Any], family: str) -> list[tuple[str, Any, Any]]:
    """Settings with which the same tensors would mean another model."""
    rope = _rope(values)
    found = [
        ("hidden_act", values.get("hidden_act", "silu"), "silu"),
        ("use_sliding_window", bool(values.get("use_sliding_window")), False),
        ("the rope type", rope.get("rope_type") or rope.get("type") or "default", "default"),
        ("quantization_config", values.get("quantization_config"), None),
        ("partial_rotary_factor", values.get("partial_rotary_factor", 1.0), 1.0),
    ]
    if family == "llama":
        found += [(name, bool(values.get(name)), False) for name in ("attention_bias", "mlp_bias")]
    return found


def _rope(values: Mapping[str, Any]) -> Mapping[str, Any]:
    found = values.get("rope_parameters") or values.get("rope_scaling") or {}
    return found if isinstance(found, Mapping) else {"rope_type": found}


def _control_ids(values: Mapping[str, Any]) -> dict[str, int]:
    """Rows of the backbone that new control tokens start as copies of: ends as its end, beginnings as its beginning."""
    found = {}
    for name, key in ((IM_START, "bos_token_id"), (IM_END, "eos_token_id"), (END_OF_TEXT, "eos_token_id")):
        value = values.get(key)
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, int) and not isinstance(first, bool):
            found[name] = first
    return found


def _write_tokenizer(backbone: Path, folder: Path) -> tuple[dict[str, int], list[str]]:
    """The backbone's tokenizer with the control tokens of our prompts; their ids, and which of them are new."""
    import tokenizers

    backend, _ = read_folder(backbone)
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    is_new = [name for name in CONTROL_TOKENS if name not in known]
    backend.add_special_tokens([tokenizers.AddedToken(name, special=True, normalized=False) for name in is_new])
    Tokenizer(backend)  # its kind is checked here
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(backend.to_str(), encoding="utf-8")
    config = {"pad_token": END_OF_TEXT, "eos_token": IM_END, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    vocabulary = backend.get_vocab(with_added_tokens=True)
    return {name: vocabulary[name] for name in CONTROL_TOKENS}, is_new


def _decoder_tensors(folder: Path, config: DecoderConfig) -> dict[str, Tensor]:
    """The backbone's tensors under our names, zeros for biases that it lacks, two tables where it has one."""
    found = _read_all(folder)
    found.setdefault("decoder.lm_head.weight", found.get("decoder.embed_tokens.weight", torch.empty(0)))
    expected = {
        name: tuple(tensor.shape)
        for name, tensor in skeleton(ModelConfig(decoder=config)).state_dict().items()
        if name.startswith("decoder.")
    }
    dtype = next(iter(found.values())).dtype
    for name, shape in expected.items():
        if name.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias")):
            found.setdefault(name, torch.zeros(shape, dtype=dtype))
    complaints = [f"missing {name}" for name in expected if name not in found]
    complaints += [f"left over {name}" for name in found if name not in expected]
    complaints += [
        f"misshapen {name}: {tuple(found[name].shape)}, config.json asks for {shape}"
        for name, shape in expected.items()
        if name in found and tuple(found[name].shape) != shape
    ]
    if complaints:
        shown = "; ".join(complaints[:MAX_COMPLAINTS])
        more = f"; and {len(complaints) - MAX_COMPLAINTS} more" if len(complaints) > MAX_COMPLAINTS else ""
        raise CheckpointError(f"the backbone {folder} does not hold the tensors of its config.json: {shown}{more}")
    return {name: found[name] for name in expected}


def _read_all(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise CheckpointError(f"{folder} holds no *.safetensors; pickled weights are never opened, convert them first")
    found: dict[str, Tensor] = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 - it is no mapping
                    name = f"decoder.{key.removeprefix('model.')}"
                    if key.endswith("rotary_emb.inv_freq"):
                        continue  # old checkpoints store what follows from the configuration
                    if name in found or file.get_slice(key).get_dtype() not in DTYPES:
                        raise CheckpointError(f"{path} holds {key} twice, or in a form that is not a plain number")
                    found[name] = file.get_tensor(key)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read ({str(error)[:100]}); download it again") from error
    return found


def _with_tokens(table: Tensor, num_rows: int, added: Mapping[str, int], ids: Mapping[str, int]) -> Tensor:
    """A table with rows for the new tokens: copies of what stands nearest to them, or the mean of all rows."""
    mean = table.float().mean(0).to(table.dtype)
    wider = torch.cat([table, mean.expand(num_rows - len(table), -1)])
    for name, row in added.items():
        near = ids.get(name)
        wider[row] = table[near] if near is not None and near < len(table) else mean
    return wider.clone()


def _fresh_projector(config: ModelConfig, embeddings: Tensor, seed: int) -> dict[str, Tensor]:
    """Random weights whose outputs are of the size of the text embeddings."""
    generator = torch.Generator().manual_seed(seed)
    width, out = config.encoder.width, config.decoder.width
    first = torch.randn(out, width, generator=generator) * width**-0.5
    second = torch.randn(out, out, generator=generator) * out**-0.5 * embeddings.float().std() / gelu_rms()
    found = {"linear_1.weight": first, "linear_2.weight": second}
    found |= {f"linear_{number}.bias": torch.zeros(out) for number in (1, 2)}
    return {f"projector.{name}": tensor.to(embeddings.dtype) for name, tensor in found.items()}


def _joined(tokens: Path, weights: Path, folder: Path) -> None:
    """Move the small files to the weights, then all under its name at once."""
    for path in tokens.iterdir():
        path.replace(weights / path.name)
    tokens.rmdir()
    weights.replace(folder)


def check_stage(name: str) -> None:
    """Refuse a stage that would train a fresh projector together with all else.

    Raises:
        OptionError: it is not stage 1.
    """
    if name != "stage_1":
        raise OptionError(f"a new backbone begins with stage_1, its projector knows nothing yet; {name} came")

"""Why a generation cannot run on our engine and takes transformers' own loop instead. Each reason is one line."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from audioflamingo.model.attention import Kernel

KERNELS: dict[str, Kernel] = {"sdpa": "auto", "eager": "eager", "flash_attention_2": "flash_attn"}
"""Our kernel for each `attn_implementation`."""

CACHE_NAMES = ("past_key_values", "cache")
"""What transformers calls the cache of keys and values, until 5.23 and since."""

_UNDERSTOOD = {
    "attention_mask", "position_ids", "input_features", "input_features_mask", "inputs_embeds", *CACHE_NAMES,
    "use_cache", "tokenizer", "logits_to_keep", "cache_position",
}  # fmt: skip
OWN_RECORDER = "transformers.utils.output_capturing"
_log = logging.getLogger(__name__)
_told: set[str] = set()


def tell(reason: str) -> None:
    """Log a reason, once for each program."""
    if reason not in _told:
        _told.add(reason)
        _log.warning("generate runs on transformers' own loop, not on Audio Flamingo's engine: %s", reason)


def against_model(model: Any) -> str | None:
    """What about a model keeps our engine from running it, or None."""
    return next(_model_reasons(model), None)


def against_call(config: Any, model_kwargs: Mapping[str, Any], *, synced_gpus: bool) -> str | None:
    """What about one call of `generate` keeps our engine from running it, or None.

    Args:
        config: the call's complete GenerationConfig.
        model_kwargs: what transformers would pass to `forward`.
        synced_gpus: whether several processes must step together.
    """
    return next(_call_reasons(config, model_kwargs, synced_gpus), None)


def cache_of(options: Mapping[str, Any]) -> Any:
    """The cache among options of `generate` or `forward`, under either of its names, or None."""
    return next((options[name] for name in CACHE_NAMES if options.get(name) is not None), None)


def _model_reasons(model: Any) -> Iterator[str]:
    implementation = model.config._attn_implementation
    if implementation not in KERNELS:
        yield f"attn_implementation={implementation!r} is transformers' own"
    places = set(map(str, getattr(model, "hf_device_map", {}).values()))
    if len(places) > 1 or (places & {"cpu", "disk"} and torch.cuda.is_available()):
        yield f"the model is spread over {', '.join(sorted(places))}"
    if "forward" in vars(model) and not hasattr(model, "_hf_hook"):
        yield "model.forward was replaced"
    for name, module in model.named_modules():
        if next(module.children(), None) is not None and _has_foreign_hooks(module):
            yield f"{name or 'the model'} has forward hooks"


def _call_reasons(config: Any, model_kwargs: Mapping[str, Any], synced_gpus: bool) -> Iterator[str]:
    if synced_gpus:
        yield "several processes generate in step (synced_gpus)"
    if config.return_dict_in_generate:
        yield "return_dict_in_generate asks for more than tokens"
    if not config.use_cache:
        yield "use_cache=False"
    if config.cache_implementation not in (None, "dynamic", "dynamic_full"):
        yield f"cache_implementation={config.cache_implementation!r}"
    if getattr(config, "is_assistant", False):
        yield "the model drafts for another one"
    if getattr(config, "prefill_chunk_size", None) is not None:
        yield "prefill_chunk_size is set"
    unknown = sorted(name for name, value in model_kwargs.items() if value is not None and name not in _UNDERSTOOD)
    if unknown:
        yield f"forward gets {', '.join(unknown)}"
    cache = cache_of(model_kwargs)
    if cache is not None and (cache.get_seq_length() or getattr(cache, "given_by_caller", False)):
        yield "the cache of keys and values came from the caller"
    if _has_own_positions(model_kwargs):
        yield "position_ids differ from those that follow from the attention mask"


def _has_own_positions(model_kwargs: Mapping[str, Any]) -> bool:
    positions, mask = model_kwargs.get("position_ids"), model_kwargs.get("attention_mask")
    if positions is None:
        return False
    if mask is None:  # newer transformers leave it out where nothing is padded
        return bool((positions != torch.arange(positions.shape[-1], device=positions.device)).any())
    if positions.shape != mask.shape:
        return True
    expected = mask.long().cumsum(-1) - 1
    return bool(((positions != expected) & mask.bool()).any())


def _has_foreign_hooks(module: torch.nn.Module) -> bool:
    """Whether anybody but transformers' own recorder of hidden states, which stays once it was used, listens in."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return any(getattr(hook, "__module__", None) != OWN_RECORDER for hook in hooks)

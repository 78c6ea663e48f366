"""Adapters that bring more than LoRA: the released `think` folder, with its tensors that replace the base model's.

transformers and PEFT know adapters by today's names of modules; the released one uses the hub's older names, and keeps
further tensors in a file of its own. Here all of it is matched by name and shape before anything is changed, and what
does not match is an error. The tensors replaced are kept, so that disabling or deleting the adapter brings them back.
"""

from __future__ import annotations

import os
from typing import Any, cast

import torch
from torch import Tensor

from audioflamingo.errors import CheckpointError
from audioflamingo.integrations.transformers import adapter_base
from audioflamingo.integrations.transformers.adapter_files import (
    HUB_OPTIONS,
    Adapter,
    find_folder,
    has_extra_tensors,
    read_adapter,
    write_extra_tensors,
)
from audioflamingo.integrations.transformers.adapter_switches import AdapterSwitches


class ThinkAdapters(AdapterSwitches):
    """Part of the model class: loading, switching and saving adapters with replaced tensors."""

    _replacements: dict[str, dict[str, Tensor]]
    _in_place: str | None = None

    def load_adapter(
        self, peft_model_id: str | os.PathLike[str] | None = None, adapter_name: str | None = None, **kwargs: Any
    ) -> Any:
        """Load an adapter; see transformers.

        With `subfolder`, or where the folder holds tensors beside LoRA's, the adapter is loaded strictly.

        Args:
            peft_model_id: a folder or a hub id.
            adapter_name: "default" if not given.
            kwargs: `subfolder`, such as "think"; `is_trainable`; `revision`, `token`, `cache_dir` and
                `local_files_only` of the hub; more as transformers has them, without `subfolder`. `any_base=True` uses
                an adapter even where it says that it was trained on other weights than the model's.

        Raises:
            CheckpointError: a file is missing or broken, a tensor of it fits nothing in the model, or it was trained on
                other weights.
        """
        subfolder, any_base = kwargs.pop("subfolder", None), bool(kwargs.pop("any_base", False))
        if peft_model_id is None or (subfolder is None and not has_extra_tensors(peft_model_id)):
            hub = {option: kwargs[option] for option in HUB_OPTIONS if option in kwargs}
            if peft_model_id is not None and not any_base and (found := adapter_base.folder_of(peft_model_id, hub)):
                adapter_base.check(self, found, self._base_tables)
            return super().load_adapter(peft_model_id, adapter_name, **kwargs)  # type: ignore[misc]
        is_trainable = bool(kwargs.pop("is_trainable", False))
        name = adapter_name or "default"
        if name in getattr(self, "peft_config", {}):
            raise CheckpointError(f"an adapter named {name!r} is loaded already; pass another adapter_name")
        adapter = read_adapter(find_folder(peft_model_id, subfolder, kwargs), self)
        if not any_base:
            adapter_base.check(self, adapter.folder, self._base_tables)
        self._add(adapter, name, is_trainable=is_trainable)
        return None

    def set_adapter(self, adapter_name: Any) -> None:
        """Activate adapters; see transformers."""
        super().set_adapter(adapter_name)
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        self._put_in_place(next((name for name in names if name in self._replaced), None))

    def disable_adapters(self) -> None:
        """Run without adapters; see transformers."""
        super().disable_adapters()
        self._put_in_place(None)

    def enable_adapters(self) -> None:
        """Run with the active adapters again; see transformers."""
        super().enable_adapters()
        active = self.active_adapters()
        self._put_in_place(next((name for name in active if name in self._replaced), None))

    def delete_adapter(self, adapter_names: Any) -> None:
        """Remove adapters; see transformers."""
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        if self._in_place in names:
            self._put_in_place(None)
        super().delete_adapter(adapter_names)
        for name in names:
            self._replaced.pop(name, None)

    def complete_adapter(self, folder: str | os.PathLike[str]) -> None:
        """Write what transformers leaves out of an adapter that it saved: which base it is of, and other tensors.

        Those are what the adapter in place brought beside LoRA, if anything, for `load_adapter` to find.
        """
        if getattr(self, "_hf_peft_config_loaded", False):
            adapter_base.state(self, folder, self._base_tables)
        if self._in_place is None:
            return
        names = self._replaced[self._in_place]
        write_extra_tensors(folder, {name: self._parameter(name).detach() for name in names})

    @property
    def _base_tables(self) -> dict[str, Tensor]:
        """The base model's own tensors in the place of which an adapter's are now."""
        return {} if self._in_place is None else self._replaced[self._in_place]

    @property
    def _replaced(self) -> dict[str, dict[str, Tensor]]:
        """For each adapter, the tensors that are not in the model now: its own, or the base model's while it is."""
        found: dict[str, dict[str, Tensor]] = vars(self).setdefault("_replacements", {})
        return found

    def _add(self, adapter: Adapter, name: str, *, is_trainable: bool) -> None:
        from peft import inject_adapter_in_model

        config = adapter.config
        config.target_modules = sorted(adapter.lora)
        config.inference_mode = not is_trainable
        inject_adapter_in_model(config, cast(Any, self), name)
        self._hf_peft_config_loaded = True
        with torch.no_grad():
            for path, weights in adapter.lora.items():
                layer = self.get_submodule(path)  # type: ignore[attr-defined]
                for kind, tensor in weights.items():
                    getattr(layer, kind)[name].weight.copy_(tensor)
        self._put_in_place(None)
        if adapter.extra:
            self._replaced[name] = dict(adapter.extra)
        self.set_adapter(name)
        if not is_trainable:
            for parameter_name, parameter in self.named_parameters():  # type: ignore[attr-defined]
                if f".{name}." in parameter_name:
                    parameter.requires_grad_(False)
            self.eval()  # type: ignore[attr-defined]

    def _put_in_place(self, adapter: str | None) -> None:
        """Exchange tensors so that the given adapter's are in the model, or the base model's for None."""
        if adapter == self._in_place:
            return
        for name in filter(None, (self._in_place, adapter)):
            self._exchange(self._replaced[name])
        self._in_place = adapter

    @torch.no_grad()
    def _exchange(self, others: dict[str, Tensor]) -> None:
        for name in others:
            parameter = self._parameter(name)
            current = parameter.detach().to("cpu", copy=True)
            parameter.copy_(others[name])
            others[name] = current

    def _parameter(self, name: str) -> Any:
        path, _, leaf = name.rpartition(".")
        module = self.get_submodule(path)  # type: ignore[attr-defined]
        return getattr(getattr(module, "base_layer", module), leaf)

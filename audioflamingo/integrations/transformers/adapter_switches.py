"""Adapters switched on, off and removed by PEFT's own layers.

transformers has methods of these names and ends. It refuses each of them when PEFT is older than what it wants for its
own reading of adapter files, which may be newer than any PEFT on the package index; switching needs nothing of that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from audioflamingo.errors import OptionError


class AdapterSwitches:
    """Part of the model class: what transformers does with adapters that are in the model."""

    peft_config: dict[str, Any]
    _hf_peft_config_loaded = False

    def add_adapter(self, adapter_config: Any, adapter_name: str | None = None) -> None:
        """Put a fresh adapter into the model and activate it.

        Args:
            adapter_config: PEFT's configuration of it.
            adapter_name: "default" if not given.

        Raises:
            OptionError: the name is taken, or it is no configuration of PEFT.
        """
        from peft import PeftConfig
        from peft.functional import inject_adapter_in_model

        name = adapter_name or "default"
        if name in getattr(self, "peft_config", {}):
            raise OptionError(f"an adapter named {name!r} is in the model already; pass another adapter_name")
        if not isinstance(adapter_config, PeftConfig):
            raise OptionError(f"adapter_config is a {type(adapter_config).__name__}; give one of peft, as LoraConfig")
        adapter_config.base_model_name_or_path = vars(self).get("name_or_path")
        inject_adapter_in_model(adapter_config, cast(Any, self), name)
        self._hf_peft_config_loaded = True
        self.set_adapter(name)

    def set_adapter(self, adapter_name: str | Sequence[str]) -> None:
        """Activate adapters, and no others.

        Args:
            adapter_name: one name, or several whose adapters add up.

        Raises:
            OptionError: there is none of that name.
        """
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        self._check_names(names)
        for layer in self._adapted_layers():
            layer.set_adapter(adapter_name if isinstance(adapter_name, str) else names)

    def disable_adapters(self) -> None:
        """Run without adapters.

        Raises:
            OptionError: there is none.
        """
        self._check_names([])
        for layer in self._adapted_layers():
            layer.enable_adapters(enabled=False)

    def enable_adapters(self) -> None:
        """Run with the active adapters again.

        Raises:
            OptionError: there is none.
        """
        self._check_names([])
        for layer in self._adapted_layers():
            layer.enable_adapters(enabled=True)

    def active_adapters(self) -> list[str]:
        """Names of the active adapters.

        Raises:
            OptionError: there is none.
        """
        self._check_names([])
        active = next(self._adapted_layers()).active_adapter
        return [active] if isinstance(active, str) else list(active)

    def delete_adapter(self, adapter_names: str | Sequence[str]) -> None:
        """Remove adapters.

        Args:
            adapter_names: one name or several.

        Raises:
            OptionError: there is none of that name.
        """
        from peft.functional import delete_adapter

        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        self._check_names(names)
        for name in names:
            kind = self.peft_config[name].peft_type.value.lower()
            delete_adapter(cast(Any, self), adapter_name=name, prefix=f"{kind}_")
            self.peft_config.pop(name, None)
        if not self.peft_config:
            del self.peft_config
            self._hf_peft_config_loaded = False

    def get_adapter_state_dict(
        self, adapter_name: str | None = None, state_dict: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The tensors of an adapter by name, of the active one if no name is given; see transformers."""
        from peft.functional import get_peft_model_state_dict

        name = adapter_name or self.active_adapters()[0]
        self._check_names([name])
        found: dict[str, Any] = get_peft_model_state_dict(cast(Any, self), state_dict=state_dict, adapter_name=name)
        return found

    def _adapted_layers(self) -> Iterator[Any]:
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils import ModulesToSaveWrapper

        for module in self.modules():  # type: ignore[attr-defined]
            if isinstance(module, BaseTunerLayer | ModulesToSaveWrapper):
                yield module

    def _check_names(self, names: Sequence[str]) -> None:
        loaded = getattr(self, "peft_config", {})
        if not loaded:
            raise OptionError("no adapter is in the model; bring one in by load_adapter or add_adapter")
        if missing := [name for name in names if name not in loaded]:
            raise OptionError(f"no adapter is named {', '.join(map(repr, missing))}; there are {', '.join(loaded)}")

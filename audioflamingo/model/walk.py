"""A walk over a model's modules for looks that a first token waits for; torch's own takes several times as long."""

from __future__ import annotations

from torch import nn


def modules_of(root: nn.Module) -> list[nn.Module]:
    """The root and all that hangs below it, each as often as it hangs somewhere."""
    found = [root]
    for module in found:  # which grows on the way
        if module._modules:
            found += [one for one in module._modules.values() if one is not None]
    return found

"""Small tensors on their way from the host to a device, without anybody waiting for what the device still has to do."""

from __future__ import annotations

from torch import Tensor, device


def sent(tensor: Tensor, target: device) -> Tensor:
    """A CPU tensor on another device.

    A plain copy to a GPU waits for all that was queued there before, and the GPU then waits for the next launches. From
    pinned memory the copy takes its own place in the queue, and torch keeps that memory until it has been read.
    """
    if target.type != "cuda" or tensor.numel() == 0:
        return tensor.to(target)
    return tensor.pin_memory().to(target, non_blocking=True)

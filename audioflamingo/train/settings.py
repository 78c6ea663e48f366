"""What torch keeps for the whole process: set while a training runs, and as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def training_settings(*, cudnn_attention: bool = True, cudnn_search: bool = False) -> Iterator[None]:
    """Quick products in fp32 (TF32 where there is such), and what else is asked for.

    Args:
        cudnn_attention: allow cuDNN's attention, which plans anew for every shape.
        cudnn_search: look for the quickest convolution of each shape, which pays where they are few.
    """
    precision = torch.get_float32_matmul_precision()
    attention = bool(torch.backends.cuda.cudnn_sdp_enabled())  # type: ignore[no-untyped-call]
    search = torch.backends.cudnn.benchmark
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.enable_cudnn_sdp(attention and cudnn_attention)
    torch.backends.cudnn.benchmark = cudnn_search
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cuda.enable_cudnn_sdp(attention)
        torch.backends.cudnn.benchmark = search

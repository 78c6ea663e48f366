"""How many CPU threads a piece of work is worth."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SERIAL_STEP_FLOPS = 200_000_000  # of many tiny pieces: a decode step of about 16 sequences of the embedded model
SERIAL_FLOPS = 10_000_000_000  # of a prefill or a turn of the encoder: about 8 s of sound in the embedded model, 0.15 s
FEW_CORES = 4


@contextmanager
def threads_for(flops: float, device: torch.device, *, is_step: bool = False) -> Iterator[None]:
    """Within the block, a small piece of work on the CPU runs in the calling thread alone.

    A model's layer ends when the last of its threads does. Where another program has taken one of few cores, each layer
    of a small model waits a whole time slice of the system, milliseconds, for a share that takes microseconds: on two
    cores with one of them busy, a decode step of the embedded model takes 5 ms in one thread and 50 ms in two. On idle
    cores two threads gain next to nothing in a step, whose matrices are read once and are too small to be shared out.

    Args:
        flops: operations of the work.
        device: where it runs; nothing is done for a GPU.
        is_step: a decode step or another lot of tiny pieces, rather than a prefill or the encoder, which many cores
            share well.
    """
    num_threads = torch.get_num_threads()
    is_small = flops <= SERIAL_STEP_FLOPS if is_step else flops <= SERIAL_FLOPS and num_threads <= FEW_CORES
    if device.type != "cpu" or num_threads == 1 or not is_small:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)

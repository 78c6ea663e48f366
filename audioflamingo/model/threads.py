"""How many CPU threads a piece of work is worth."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SERIAL_STEP_FLOPS = 200_000_000  # of many tiny pieces: a decode step of about 16 sequences of the embedded model
SERIAL_FLOPS = 10_000_000_000  # of a prefill or a turn of the encoder: about 8 s of sound in the embedded model, 0.15 s
SERIAL_PATIENT_FLOPS = 1_500_000_000  # the same where threads do not spin while they wait: about 1 s of sound, 10 ms
FEW_CORES = 4


@contextmanager
def threads_for(flops: float, device: torch.device, *, is_step: bool = False) -> Iterator[None]:
    """Within the block, a small piece of work on the CPU runs in the calling thread alone.

    A model's layer ends when the last of its threads does. Where another program has taken one of few cores, each layer
    of a small model waits a whole time slice of the system, milliseconds, for a share that takes microseconds: on two
    cores with one of them busy, a decode step of the embedded model takes 5 ms in one thread and 50 ms in two. On idle
    cores two threads gain next to nothing in a step, whose matrices are read once and are too small to be shared out.

    Worst are threads that spin while they wait, OpenMP's default: they take the cores from those that they wait for.
    Where that is off (`OMP_WAIT_POLICY=PASSIVE`, as the command line has it), 5 s of sound take the encoder of the
    embedded model 34 ms in two threads and 47 in one on idle cores, 51 and 48 with one core busy.

    Args:
        flops: operations of the work.
        device: where it runs; nothing is done for a GPU.
        is_step: a decode step or another lot of tiny pieces, rather than a prefill or the encoder, which many cores
            share well.
    """
    num_threads = torch.get_num_threads()
    is_small = flops <= SERIAL_STEP_FLOPS if is_step else flops <= _serial_flops() and num_threads <= FEW_CORES
    if device.type != "cpu" or num_threads == 1 or not is_small:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _serial_flops() -> int:
    return SERIAL_PATIENT_FLOPS if os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE" else SERIAL_FLOPS

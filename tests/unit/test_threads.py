"""Small work runs in the calling thread, large work as before, and the program's own setting always comes back."""

import pytest
import torch

from audioflamingo.model.threads import FEW_CORES, SERIAL_FLOPS, SERIAL_PATIENT_FLOPS, SERIAL_STEP_FLOPS, threads_for

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(params=[1, 2, FEW_CORES, FEW_CORES + 1])
def num_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("flops", "is_step", "is_serial"),
    [
        (SERIAL_STEP_FLOPS, True, lambda _: True),
        (SERIAL_STEP_FLOPS + 1, True, lambda _: False),
        (SERIAL_FLOPS, False, lambda num_threads: num_threads <= FEW_CORES),
        (SERIAL_FLOPS + 1, False, lambda _: False),
    ],
)
def test_small_work_takes_one_thread(num_threads, flops, is_step, is_serial, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    with threads_for(flops, CPU, is_step=is_step):
        assert torch.get_num_threads() == (1 if is_serial(num_threads) else num_threads)
    assert torch.get_num_threads() == num_threads


@pytest.mark.parametrize("policy", ["PASSIVE", "passive"])
def test_threads_that_do_not_spin_take_smaller_work(num_threads, policy, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    for flops, serial in (
        (SERIAL_PATIENT_FLOPS, 1 if num_threads <= FEW_CORES else num_threads),
        (SERIAL_FLOPS, num_threads),
    ):
        with threads_for(flops, CPU):
            assert torch.get_num_threads() == serial


def test_a_gpu_changes_nothing(num_threads):
    with threads_for(1, GPU, is_step=True):
        assert torch.get_num_threads() == num_threads


def test_the_setting_comes_back_after_an_error(num_threads):
    with pytest.raises(KeyError), threads_for(1, CPU, is_step=True):
        raise KeyError
    assert torch.get_num_threads() == num_threads

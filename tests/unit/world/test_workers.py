"""Processes that make scenes: results come back, a killed one is an error and no wait, none outlives its program."""

import gc
import multiprocessing
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import closing
from multiprocessing.connection import Connection

import pytest

from audioflamingo.errors import OptionError
from audioflamingo.world.workers import LostWorkerError, Workers, result


def own_pid(_=None):
    return os.getpid()


def fail(text):
    raise OptionError(text)


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition, limit_s=30.0):
    end = time.monotonic() + limit_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_results_and_errors_come_back():
    with closing(Workers(2)) as workers:
        assert [result(workers.submit(divmod, 7, by)) for by in (2, 3)] == [(3, 1), (2, 1)]
        with pytest.raises(OptionError, match="no such task"):
            result(workers.submit(fail, "no such task"))
        assert result(workers.submit(own_pid)) != os.getpid()


def test_a_killed_worker_is_an_error_and_no_wait():
    with closing(Workers(1)) as workers:
        pid = result(workers.submit(own_pid))
        waiting = workers.submit(time.sleep, 60)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(LostWorkerError, match="start again with the same --out"):
            result(waiting)
        with pytest.raises(LostWorkerError):
            workers.submit(own_pid)


def large(_=None):
    return bytes(1 << 28)


def die_in_the_middle_of_a_result(_=None):
    (pipe,) = (one for one in gc.get_objects() if isinstance(one, Connection) and one.writable)
    os.write(pipe.fileno(), struct.pack("!i", 1000) + b"half")
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_in_the_middle_of_a_result():
    with closing(Workers(2)) as workers, pytest.raises(LostWorkerError):
        result(workers.submit(die_in_the_middle_of_a_result))


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.1, 0.15])
def test_closing_while_a_result_comes_back(delay_s):
    workers = Workers(1)
    result(workers.submit(own_pid))
    workers.submit(large)
    time.sleep(delay_s)
    workers.close()
    assert not multiprocessing.active_children()


def test_a_result_that_cannot_be_sent_is_an_error():
    with closing(Workers(1)) as workers:
        with pytest.raises(RuntimeError, match="cannot be sent"):
            result(workers.submit(threading.Lock))
        assert result(workers.submit(divmod, 7, 2)) == (3, 1)


def test_closing_ends_what_is_at_work():
    workers = Workers(1)
    pid = result(workers.submit(own_pid))
    workers.submit(time.sleep, 600)
    workers.close()
    assert until(lambda: not is_alive(pid))
    assert not multiprocessing.active_children()


def test_no_worker_outlives_its_program():
    code = (
        "import os, time\nfrom audioflamingo.world.workers import Workers, result\n"
        "if __name__ == '__main__':\n    workers = Workers(1)\n"
        "    print(result(workers.submit(os.getpid)), flush=True)\n    time.sleep(600)\n"
    )
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        pid = int(program.stdout.readline())
        assert is_alive(pid)
    finally:
        program.kill()
        program.communicate(timeout=30)
    assert until(lambda: not is_alive(pid))

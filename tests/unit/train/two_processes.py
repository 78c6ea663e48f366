"""Two processes that work together, each started anew: a copy of a process that has used a GPU cannot use one."""

import multiprocessing
import os
import socket
import traceback
from dataclasses import dataclass

PATIENCE_S = 120


@dataclass(frozen=True)
class Failed:
    """A process that ended by an exception, so that a test says which."""

    text: str


def take_rank(rank, port):
    """In a child: what torchrun would tell it."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def guarded(child, rank, port, given, results):
    """Run a child; what it raises is a result."""
    try:
        child(rank, port, *given, results)
    except BaseException:
        results.put(Failed(f"in process {rank}:\n{traceback.format_exc()}"))
        raise


def in_two(child, given, num_results):
    """What `child(rank, port, *given, results)` puts into the queue `results`, in both processes together."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    children = [
        spawn.Process(target=guarded, args=(child, rank, port, given, results), daemon=True) for rank in range(2)
    ]
    for process in children:
        process.start()
    try:
        found = []
        for _ in range(num_results):
            found.append(results.get(timeout=PATIENCE_S))
            assert not isinstance(found[-1], Failed), found[-1].text
        for process in children:
            process.join(60)
            assert process.exitcode == 0
    finally:
        for process in children:
            process.kill()
    return found

"""Two processes that work together, each started anew: a copy of a process that has used a GPU cannot use one."""

import multiprocessing
import os
import socket

PATIENCE_S = 120


def take_rank(rank, port):
    """In a child: what torchrun would tell it."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def in_two(child, given, num_results):
    """What `child(rank, port, *given, results)` puts into the queue `results`, in both processes together."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    children = [spawn.Process(target=child, args=(rank, port, *given, results), daemon=True) for rank in range(2)]
    for process in children:
        process.start()
    try:
        found = [results.get(timeout=PATIENCE_S) for _ in range(num_results)]
        for process in children:
            process.join(60)
            assert process.exitcode == 0
    finally:
        for process in children:
            process.kill()
    return found

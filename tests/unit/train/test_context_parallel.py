import multiprocessing
import socket
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_lean import model_with, pack
from torch import distributed

from audioflamingo.train.context_parallel import Split
from audioflamingo.train.distributed import Processes
from audioflamingo.train.lean import make_lean
from audioflamingo.train.lora import LoraConfig
from audioflamingo.train.loss import AnswerLoss, recompute_activations

CPU = torch.device("cpu")
# Children of a process in which autograd has started threads cannot use autograd; a server that has not can have some.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch", "audioflamingo.train.lean", "audioflamingo.train.loss"])
LORA = LoraConfig(rank=4, alpha=6.0, dropout=0.0)


@given(st.integers(1, 200), st.integers(1, 5))
def test_every_token_is_somewhere_once_and_the_work_is_even(num_tokens, size):
    splits = [Split(num_tokens, rank, size, CPU) for rank in range(size)]
    rows = [split.rows.tolist() for split in splits]
    assert sorted(chain(*rows)) == list(range(num_tokens))
    assert all(part == sorted(part) for part in rows)
    if num_tokens % (2 * size) == 0:
        assert max(map(len, rows)) == min(map(len, rows))
        assert max(map(sum, rows)) == min(map(sum, rows))  # a token at place k sees k others


def test_places_are_found_where_their_tokens_are():
    places = torch.tensor([0, 3, 9, 10, 15])
    for rank in range(2):
        split = Split(16, rank, 2, CPU)
        is_here, local = split.local(places)
        assert torch.equal(split.rows[local], places[is_here])
    assert torch.equal(Split(16, 0, 2, CPU).local(places)[0], ~Split(16, 1, 2, CPU).local(places)[0])


def outcome(loss, some):
    total = loss(some)
    total.backward()
    return total.detach(), {n: p.grad for n, p in loss.named_parameters() if p.grad is not None}


def built(is_lean, processes=None):
    model = model_with(LORA)
    if is_lean:
        make_lean(model.decoder)
    recompute_activations(model.decoder.layers)
    return AnswerLoss(model, skips=True, processes=processes).train()


def child(rank, size, port, lengths, is_lean, results):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    total, gradients = outcome(built(is_lean, Processes(CPU, rank, size, splits=True)), pack(lengths))
    distributed.all_reduce(total)
    for gradient in gradients.values():
        distributed.all_reduce(gradient)
    if rank == 0:
        results.put((total.numpy(), {name: gradient.numpy() for name, gradient in gradients.items()}))
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.parametrize(("size", "lengths"), [(2, (23, 40)), (3, (61,)), (2, (30, 1, 2, 33))])
@pytest.mark.parametrize("is_lean", [False, True])
def test_several_processes_give_the_gradients_of_one(size, lengths, is_lean):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    results = SERVER.Queue()
    shared = (size, port, lengths, is_lean, results)
    # Daemons: pytest waits at its end for any other child, and would for ever if one hung.
    children = [SERVER.Process(target=child, args=(rank, *shared), daemon=True) for rank in range(size)]
    for process in children:
        process.start()
    try:
        found, came = results.get(timeout=60)
        for process in children:
            process.join(30)
            assert process.exitcode == 0
    finally:
        for process in children:
            process.kill()
    expected, wanted = outcome(built(is_lean), pack(lengths))
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-6, atol=1e-6, check_dtype=False)
    assert came.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(torch.from_numpy(came[name]), gradient, rtol=1e-5, atol=1e-7, msg=name)

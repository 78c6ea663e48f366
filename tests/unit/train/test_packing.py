import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import maker, tiny_model, write_rows

from audioflamingo.errors import OptionError
from audioflamingo.train.collate import collate
from audioflamingo.train.data import Schedule, load_corpus, parse_mixture
from audioflamingo.train.data.schedule import SECONDS_PER_TOKEN, fill_packs
from audioflamingo.train.loss import AnswerLoss, chunked_cross_entropy, recompute_activations


@pytest.fixture(scope="module")
def examples(base, tmp_path_factory):
    rows = write_rows(tmp_path_factory.mktemp("rows"), 6)
    return [maker(base).make(sample.row) for sample in load_corpus(parse_mixture(str(rows)), maker(base)).samples]


def gradients(model, packs):
    model.zero_grad()
    loss = AnswerLoss(model)
    total = sum(loss(pack) for pack in packs)
    total.backward()
    return total.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_packed_equals_unpacked(examples):
    model = tiny_model()
    packed, packed_gradients = gradients(model, [collate(examples)])
    single, single_gradients = gradients(model, [collate([example]) for example in examples])
    torch.testing.assert_close(packed, single, rtol=1e-5, atol=1e-5)
    assert packed_gradients.keys() == single_gradients.keys()
    for name, gradient in packed_gradients.items():
        torch.testing.assert_close(gradient, single_gradients[name], rtol=1e-4, atol=1e-5, msg=name)


def test_the_loss_is_that_of_the_plain_model(examples):
    model = tiny_model()
    pack = collate(examples)
    logits = model(pack.ids, pack.lengths, pack.mel, pack.num_mel_frames)
    mask = torch.tensor([flag for example in examples for flag in example.is_target])
    expected = torch.nn.functional.cross_entropy(logits[:-1][mask[1:]], pack.ids[mask], reduction="sum")
    torch.testing.assert_close(AnswerLoss(model)(pack), expected)


def test_recomputed_activations_change_nothing(examples):
    plain = gradients(tiny_model(), [collate(examples)])
    model = tiny_model()
    recompute_activations([*model.decoder.layers, *model.encoder.layers])
    again = gradients(model, [collate(examples)])
    assert torch.equal(plain[0], again[0])
    assert all(torch.equal(gradient, again[1][name]) for name, gradient in plain[1].items())


@pytest.mark.parametrize("num_targets", [0, 1, 5, 8, 9])
def test_chunked_loss_equals_whole(num_targets):
    generator = torch.Generator().manual_seed(0)
    head = torch.nn.Linear(8, 30, bias=False)
    hidden = torch.randn(num_targets, 8, generator=generator, requires_grad=True)
    targets = torch.randint(30, (num_targets,), generator=generator)
    chunked = chunked_cross_entropy(hidden, head, targets, chunk=4)
    (chunked_gradient,) = torch.autograd.grad(chunked, hidden)
    whole = torch.nn.functional.cross_entropy(head(hidden), targets, reduction="sum")
    (whole_gradient,) = torch.autograd.grad(whole, hidden)
    torch.testing.assert_close(chunked, whole)
    torch.testing.assert_close(chunked_gradient, whole_gradient)


def test_no_more_than_a_chunk_of_logits_is_ever_made():
    seen = []

    class Head(torch.nn.Linear):
        def forward(self, x):
            seen.append(x.shape[0])
            return super().forward(x)

    hidden = torch.randn(50, 8, requires_grad=True)
    chunked_cross_entropy(hidden, Head(8, 30), torch.zeros(50, dtype=torch.int64), chunk=16).backward()
    assert max(seen) == 16


@given(st.lists(st.integers(1, 100), min_size=1, max_size=60), st.integers(100, 300))
def test_packs_hold_every_sample_once_and_fit(sizes, most):
    packs = fill_packs(range(len(sizes)), sizes, most)
    assert sorted(index for pack in packs for index in pack) == list(range(len(sizes)))
    assert all(sum(sizes[index] for index in pack) <= most for pack in packs)


@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=60),
    st.floats(1, 20),
    st.floats(4, 20),
    st.integers(1, 3),
    st.integers(1, 4),
)
def test_every_epoch_hears_everything_within_the_budget(sizes, batch_s, micro_s, epochs, num_processes):
    schedule = Schedule(tuple(sizes), batch_s, micro_s, epochs, seed=3, num_processes=num_processes)
    steps = [schedule.step(number) for number in range(schedule.num_steps)]
    heard = [index for step in steps for pack in step for index in pack]
    assert np.bincount(heard, minlength=len(sizes)).tolist() == [epochs] * len(sizes)
    assert all(len(step) <= schedule.packs_per_step for step in steps)
    assert schedule.packs_per_step % num_processes == 0
    assert all(sum(sizes[i] for i in pack) * SECONDS_PER_TOKEN <= micro_s + 1e-6 for step in steps for pack in step)


def test_two_processes_share_the_packs_that_one_has():
    sizes = tuple(int(size) for size in np.random.default_rng(0).integers(5, 50, 40))
    one = Schedule(sizes, 8.0, 2.0, 2, seed=1)
    two = Schedule(sizes, 8.0, 2.0, 2, seed=1, num_processes=2)
    assert one.packs_per_step == two.packs_per_step == 4
    assert [one.step(n) for n in range(one.num_steps)] == [two.step(n) for n in range(two.num_steps)]


def test_a_row_longer_than_a_pack_is_refused():
    with pytest.raises(OptionError, match="raise it"):
        Schedule((100,), 10.0, 3.0, 1, seed=0)

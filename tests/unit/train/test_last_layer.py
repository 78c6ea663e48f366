import pytest
import torch
from test_lean import model_with, pack

from audioflamingo.model.attention import Packing
from audioflamingo.model.decoder import CausalContext
from audioflamingo.train.last_layer import PlacesContext, attend_at, context_of
from audioflamingo.train.lean import make_lean
from audioflamingo.train.lora import LoraConfig
from audioflamingo.train.loss import AnswerLoss

LORA = LoraConfig(rank=4, alpha=6.0, dropout=0.0)


def few(lengths=(60, 40, 3)):
    whole = pack(lengths)
    chosen = torch.tensor([29, 30, 57, 61, 98, 100])
    return type(whole)(whole.ids, whole.lengths, chosen, whole.ids[chosen + 1], whole.mel, whole.num_mel_frames)


@pytest.mark.parametrize("is_lean", [False, True])
@pytest.mark.parametrize("lora", [LORA, None])
def test_skipping_what_nobody_reads_changes_no_gradient(is_lean, lora):
    results = []
    for skips in (False, True):
        model = model_with(lora)
        if is_lean:
            make_lean(model.decoder)
        loss = AnswerLoss(model, skips=skips).train()
        total = loss(few())
        total.backward()
        results.append((total.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (expected, wanted), (found, came) = results
    torch.testing.assert_close(found, expected)
    assert came.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(came[name], gradient, msg=name)


def test_the_feed_forward_sees_only_the_places():
    model = model_with(None)
    seen = []
    model.decoder.layers[-1].mlp.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    AnswerLoss(model, skips=True)(few())
    assert seen == [6]


def test_many_places_or_none_take_the_plain_way():
    packing = Packing.of((10, 4), torch.device("cpu"))
    assert isinstance(context_of(packing, torch.arange(3)), PlacesContext)
    for places in (torch.arange(8), torch.arange(0)):
        context = context_of(packing, places)
        assert isinstance(context, CausalContext)
        assert not isinstance(context, PlacesContext)


def test_attention_at_places_is_attention_there():
    generator = torch.Generator().manual_seed(0)
    packing = Packing.of((7, 1, 12), torch.device("cpu"))
    query = torch.randn(20, 4, 8, generator=generator)
    key, value = torch.randn(2, 20, 2, 8, generator=generator)
    whole = CausalContext(packing).attend(0, query, key, value)
    places = torch.tensor([0, 6, 7, 8, 15, 19])
    torch.testing.assert_close(attend_at(query[places], key, value, packing, places), whole[places])

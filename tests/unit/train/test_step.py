import dataclasses

import numpy as np
import pytest
import torch

from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.train.clips import EVENT_NAMES
from audioflamingo.train.features import BatchLogMel
from audioflamingo.train.heads import ListeningHeads
from audioflamingo.train.initialise import initialise
from audioflamingo.train.optim import MasterAdamW
from audioflamingo.train.pool import Batch
from audioflamingo.train.recipes import nano
from audioflamingo.train.step import StepPlan, answer_logits, listen, losses

TINY = ModelConfig(
    EncoderConfig(width=32, num_layers=2, num_heads=2, ffn_width=64),
    DecoderConfig(vocab_size=60, width=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=64),
    audio_token_id=57,
)
PREFIX = torch.tensor([50, 51, 52])


def make_batch(num_clips=3, num_samples=16_000, seed=0):
    rng = np.random.default_rng(seed)
    suffix = torch.from_numpy(rng.integers(0, 50, (num_clips, 6)))
    is_answer = torch.zeros(num_clips, 6, dtype=torch.bool)
    for row in range(num_clips):
        is_answer[row, 2 : 4 + row % 3] = True
    return Batch(
        samples=torch.from_numpy((rng.standard_normal((num_clips, num_samples)) * 3000).astype(np.int16)),
        ctc=torch.tensor([1, 2, 3, 4, 5]),
        ctc_lengths=torch.tensor([2, 3, *[0] * (num_clips - 2)]),
        events=torch.zeros(num_clips, num_samples // 640, len(EVENT_NAMES)),
        suffix=suffix,
        is_answer=is_answer,
        answer_places=is_answer.flatten().nonzero()[:, 0],
    )


@pytest.fixture
def model():
    model = Flamingo(TINY)
    initialise(model, seed=1)
    return model


def test_training_forward_equals_the_plain_model(model):
    batch = make_batch()
    mel = BatchLogMel(torch.device("cpu"))(batch.samples)
    heard = listen(model, mel, 100)
    logits = answer_logits(model, heard.features, batch, PREFIX, batch.suffix)
    rows = []
    for row in range(3):
        ids = torch.cat([PREFIX, torch.full((25,), TINY.audio_token_id), batch.suffix[row]])
        whole = model(ids, [len(ids)], mel[row : row + 1], [100])
        start = len(PREFIX) + 25 - 1
        rows.append(whole[start:-1][batch.is_answer[row]])
    torch.testing.assert_close(logits, torch.cat(rows), atol=1e-5, rtol=1e-5)


def test_only_answers_are_in_the_loss(model):
    """Changing a token after the last answer token, or a question's own label, changes nothing it should not."""
    batch = make_batch()
    mel = BatchLogMel(torch.device("cpu"))(batch.samples)
    heads = ListeningHeads(32)
    plan = StepPlan(token_noise=0.0)
    before = losses(model, heads, batch, mel, PREFIX, plan)["answer"]
    changed = batch.suffix.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 50  # padding after the answer of row 0
    after = losses(model, heads, dataclasses.replace(batch, suffix=changed), mel, PREFIX, plan)["answer"]
    torch.testing.assert_close(before, after)
    changed = batch.suffix.clone()
    changed[0, 3] = (changed[0, 3] + 1) % 50  # an answer token
    after = losses(model, heads, dataclasses.replace(batch, suffix=changed), mel, PREFIX, plan)["answer"]
    assert not torch.allclose(before, after)


def gradients(model, plan):
    batch = make_batch()
    mel = BatchLogMel(torch.device("cpu"))(batch.samples)
    losses(model, ListeningHeads(32), batch, mel, PREFIX, plan)["total"].backward()
    return {name: p.grad is not None for name, p in model.named_parameters()}


def test_the_encoder_alone_leaves_the_decoder_untouched(model):
    touched = gradients(model, StepPlan(decoder=False))
    assert not any(on for name, on in touched.items() if name.startswith(("decoder", "projector")))
    assert all(on for name, on in touched.items() if name.startswith("encoder.layers"))


def test_a_deaf_encoder_gets_nothing_from_the_decoder(model):
    touched = gradients(model, StepPlan(ctc_weight=0.0, event_weight=0.0, encoder_listens=False))
    assert all(on for name, on in touched.items() if name.startswith("decoder.layers"))
    encoder = [p.grad for name, p in model.named_parameters() if name.startswith("encoder.layers")]
    assert all(g is None or not g.any() for g in encoder)


def test_positions_are_never_trained(model):
    assert not model.encoder.embed_positions.weight.requires_grad
    assert not gradients(model, StepPlan())["encoder.embed_positions.weight"]


def test_overfits_one_batch(model):
    """A model that cannot learn three answers by heart has a broken gradient somewhere."""
    heads = ListeningHeads(32)
    optimiser = MasterAdamW({"encoder": [*model.encoder.parameters(), *heads.parameters()],
                             "decoder": [*model.projector.parameters(), *model.decoder.parameters()]})  # fmt: skip
    batch = make_batch()
    mel = BatchLogMel(torch.device("cpu"))(batch.samples)
    history = []
    for _ in range(60):
        parts = losses(model, heads, batch, mel, PREFIX, StepPlan(token_noise=0.0))
        parts["total"].backward()
        optimiser.step({"encoder": 3e-3, "decoder": 3e-3})
        history.append(parts["answer"].item())
    assert history[0] > 3.0
    assert history[-1] < 0.1


def test_a_rate_of_zero_changes_nothing(model):
    heads = ListeningHeads(32)
    optimiser = MasterAdamW({"encoder": [*model.encoder.parameters(), *heads.parameters()],
                             "decoder": [*model.projector.parameters(), *model.decoder.parameters()]})  # fmt: skip
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    mel = BatchLogMel(torch.device("cpu"))(make_batch().samples)
    losses(model, heads, make_batch(), mel, PREFIX, StepPlan())["total"].backward()
    optimiser.step({"encoder": 1e-3, "decoder": 0.0})
    for name, parameter in model.named_parameters():
        same = torch.equal(before[name], parameter)
        if name.startswith(("decoder", "projector")) or "embed_positions" in name:
            assert same, name
    assert not torch.equal(before["encoder.conv1.weight"], model.encoder.conv1.weight)


def test_projector_starts_at_the_size_of_text_embeddings(model):
    mel = BatchLogMel(torch.device("cpu"))(make_batch().samples)
    embedded, _ = model.embed_audio(mel, [100] * 3)
    ratio = embedded.square().mean().sqrt() / model.decoder.embed_tokens.weight.square().mean().sqrt()
    assert 0.7 < float(ratio) < 1.4


def test_recipe_ramps():
    recipe = nano()
    assert recipe.plan(0.1).decoder is False
    assert recipe.plan(0.23) == StepPlan(ctc_weight=0.5, encoder_listens=False)
    assert recipe.plan(0.9).encoder_listens
    assert recipe.rates(0.1)["decoder"] == 0.0
    assert recipe.rates(1.0)["encoder"] == pytest.approx(recipe.encoder_rate / 100)
    assert recipe.augmentation_at(0.0) is None
    assert recipe.augmentation_at(1.0) == recipe.augmentation

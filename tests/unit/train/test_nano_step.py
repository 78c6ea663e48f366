"""A step of packed conversations against the plain model, one conversation at a time."""

import shutil

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter

from audioflamingo.audio import log_mel_batch
from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.train import nano_layers
from audioflamingo.train.initialise import initialise
from audioflamingo.train.nano_bench import bench
from audioflamingo.train.nano_graphs import Mode, StepRunner
from audioflamingo.train.nano_items import ctc_labels
from audioflamingo.train.nano_labels import FRAME_INDEX, FRAME_NAMES
from audioflamingo.train.nano_layers import Layers
from audioflamingo.train.nano_mel import Augmentation, LineLogMel
from audioflamingo.train.nano_plan import Picked, Shape, make_plan
from audioflamingo.train.nano_recipe import all_tasks
from audioflamingo.train.nano_step import (
    Heads,
    Inputs,
    Weights,
    ctc_loss,
    decode,
    encode,
    forward,
    frame_targets,
    sequences_of,
)

TINY = ModelConfig(
    EncoderConfig(width=32, num_layers=2, num_heads=2, ffn_width=64),
    DecoderConfig(vocab_size=60, width=32, num_layers=3, num_heads=2, num_kv_heads=1, head_dim=16, ffn_width=64),
    audio_token_id=57,
)
SHAPE = Shape(
    num_frames=3_000, num_tokens=2_600, num_windows=8, num_sequences=24, num_targets=64, num_spans=32,
    longest_tokens=2_000,
)  # fmt: skip
SECOND = 16_000


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    return torch.from_numpy((rng.standard_normal(60 * SECOND) * 4_000).astype(np.int16))


@pytest.fixture
def model():
    model = Flamingo(TINY)
    initialise(model, 1)
    return model.train()


def picked(windows, words, seed=0, labels=(), text="", clips=None):
    """A conversation of some windows (first sample, samples) and random words, the last three learnt."""
    rng = np.random.default_rng(seed)
    num_audio = sum(num for _, num in windows) // 640
    ids = np.concatenate([rng.integers(0, 50, words), np.full(num_audio, 57), rng.integers(0, 50, words + 3)])
    learnt = (np.arange(len(ids)) >= len(ids) - 3).astype(np.uint8)
    spans = [np.array(labels, np.int32).reshape(-1, 3)] + [np.zeros((0, 3), np.int32)] * (len(windows) - 1)
    ctc = [ctc_labels(text) if text else None] + [None] * (len(windows) - 1)
    clips = [0] * len(windows) if clips is None else clips
    return Picked(windows, spans if windows else [], ctc if windows else [], clips, ids.astype(np.uint16), learnt)


def several():
    """One window, three windows of two clips, no sound at all, and a whole window of 30 s with a rest."""
    return [
        picked([(0, 2 * SECOND)], 4, 1, labels=[(3, 0, 10), (FRAME_INDEX["onset"], 49, 50)], text="so it is"),
        picked([(100, 1_280), (SECOND, 3 * SECOND), (7 * SECOND, 640)], 5, 2, clips=[0, 1, 1]),
        picked([], 6, 3),
        picked([(8 * SECOND, 30 * SECOND), (38 * SECOND, 6_400)], 7, 4),
    ]


def plan_of(conversations, noise=0.0):
    return make_plan(conversations, SHAPE, np.random.default_rng(5), vocab_size=50, placeholder=57, token_noise=noise)


def mels_of(samples, conversation):
    return log_mel_batch([samples[start : start + num].float() / 32768 for start, num in conversation.windows])


def test_line_of_log_mels_equals_the_front_end(samples):
    plan = plan_of(several())
    line = LineLogMel(torch.device("cpu"))(samples, plan)
    assert line.shape == (SHAPE.num_mel_frames, 128)
    place = 0
    for conversation in several():
        if not conversation.windows:
            continue
        mel, lengths = mels_of(samples, conversation)
        for row, (window, length) in enumerate(zip(conversation.windows, lengths, strict=True)):
            seen = min(length + 1, 3_000)  # the last convolution of an even number of frames sees one more
            torch.testing.assert_close(line[place : place + seen], mel[row, :, :seen].T, atol=2e-5, rtol=0)
            place += window[1] // 160 + 2
            assert not line[place - 1].any()
    assert not line[place:].any()


def test_augmentation_changes_windows_alone_and_never_the_pitch_of_music(samples):
    music = picked([(0, 2 * SECOND)], 4, 1, labels=[(FRAME_INDEX["music"], 0, 50)])
    plan = plan_of([picked([(5 * SECOND, 2 * SECOND)], 4, 2), music])
    front_end = LineLogMel(torch.device("cpu"))
    plain = front_end(samples, plan)
    gaps = plan.frame_number < 0
    for augmentation in (
        Augmentation(equaliser=0.5), Augmentation(warp=0.1), Augmentation(mixing=0.1), Augmentation(time_masks=2),
        Augmentation(frequency_masks=2),
    ):  # fmt: skip
        torch.manual_seed(0)
        changed = front_end(samples, plan, augmentation)
        assert (changed[:200] - plain[:200]).abs().max() > 0.01
        unchanged = (changed[202:402] - plain[202:402]).abs().max() < 2e-3
        assert unchanged == bool(augmentation.warp or augmentation.mixing)
        assert not changed[gaps].any()
    torch.testing.assert_close(front_end(samples, plan, Augmentation()), plain)
    full = Augmentation(equaliser=0.5, warp=0.1, time_masks=2, frequency_masks=2, mixing=0.1)
    assert full.scaled(0.0) == Augmentation()
    assert full.scaled(1.0) == full


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a CPU by g++")
def test_compiled_log_mel_equals_its_twin(samples):
    plan = plan_of(several())
    plain, compiled = (LineLogMel(torch.device("cpu"), compiled=compiled) for compiled in (False, True))
    for augmentation in (None, all_tasks().augmentation):
        torch.manual_seed(0)
        wanted = plain(samples, plan, augmentation)
        torch.manual_seed(0)
        torch.testing.assert_close(compiled(samples, plan, augmentation), wanted, atol=1e-5, rtol=0)


def test_all_clips_of_an_item_are_changed_alike(samples):
    """Whoever is asked whether two clips have the same speaker must not be told of two loudspeakers."""
    clip = (5 * SECOND, 2 * SECOND)
    plan = plan_of([picked([clip], 4, 2), picked([clip, clip], 4, 2), picked([clip], 4, 2)])
    torch.manual_seed(3)
    changed = LineLogMel(torch.device("cpu"))(samples, plan, Augmentation(equaliser=0.5, warp=0.1, mixing=0.1))
    first, second, third, fourth = (changed[202 * k : 202 * k + 200] for k in range(4))
    torch.testing.assert_close(second, third, atol=1e-5, rtol=1e-5)
    assert (first - second).abs().max() > 0.01
    assert (third - fourth).abs().max() > 0.01


def test_packed_equals_one_at_a_time(model, samples):
    plan = plan_of(several())
    mel = LineLogMel(torch.device("cpu"))(samples, plan)
    with torch.no_grad():
        both = sequences_of(plan, model)
        frames = encode(model, mel, plan, both[0])
        features = model.encoder.layer_norm(frames.view(-1, 2, 32).mean(1))
        _, states = decode(model, features, plan, both[1])
        start = 0
        for conversation in several():
            ids = torch.from_numpy(conversation.ids.astype(np.int64))
            mels = mels_of(samples, conversation) if conversation.windows else (None, ())
            wanted = model(ids, [len(ids)], mels[0], list(mels[1]))
            torch.testing.assert_close(model.logits(states[start : start + len(ids)]), wanted, atol=1e-5, rtol=1e-5)
            start += len(ids)


def test_only_the_assistants_words_are_learnt():
    plan = plan_of(several())
    known = plan.weights > 0
    wanted = [int(id_) for one in several() for id_ in one.ids[one.learnt > 0]]
    assert plan.targets[known].tolist() == wanted
    assert float(plan.weights.sum()) == pytest.approx(1.0)
    ends = np.cumsum([len(one.ids) for one in several()])
    assert plan.predicts[known].tolist() == [int(end) - 4 + k for end in ends for k in range(3)]


def test_noise_reaches_inputs_of_answers_alone():
    quiet, noisy = plan_of(several()), plan_of(several(), noise=1.0)
    changed = (quiet.ids != noisy.ids).nonzero()[:, 0].tolist()
    assert changed
    assert set(changed) <= set((quiet.predicts[quiet.weights > 0] + 1).tolist())
    assert torch.equal(quiet.targets, noisy.targets)


def test_frame_labels_equal_a_plain_loop():
    plan = plan_of(several())
    wanted = torch.zeros(SHAPE.num_frames // 2, len(FRAME_NAMES), dtype=torch.bool)
    wanted[0:10, 3] = True
    wanted[49:50, FRAME_INDEX["onset"]] = True
    assert torch.equal(frame_targets(plan), wanted)
    assert int(plan.is_heard.sum()) == sum(num // 640 for one in several() for _, num in one.windows)


def test_no_row_is_read_often_for_nothing():
    """Rooms that are not used read every row as often as any other: their gradients are added one after another."""
    plan = plan_of(several())
    heard = int(plan.is_heard.sum())
    unused = {
        "source": (plan.source[2 * heard :], SHAPE.num_mel_frames // 2),
        "audio": (plan.audio[~plan.is_audio], SHAPE.num_frames // 2),
        "ids": (plan.ids[int(plan.is_audio.nonzero().max()) + 40 :], 50),
        "predicts": (plan.predicts[plan.weights == 0], SHAPE.num_tokens),
        "ctc": (plan.ctc_frames[0, int(plan.ctc_lengths[0]) :], SHAPE.num_frames),
    }
    for name, (indices, num_rows) in unused.items():
        counts = indices.bincount(minlength=1)
        assert len(counts) <= num_rows, name
        assert int(counts.max()) <= len(indices) // num_rows + 2, name


def test_clock_knows_the_second_and_the_clip(model):
    conversations = several()
    plan = plan_of(conversations)
    seen = set()
    for place, second, clip in zip(
        plan.clock_place.tolist(), plan.clock_s.tolist(), plan.clock_clip.tolist(), strict=True
    ):
        assert bool(plan.is_audio[place])
        number = int(torch.searchsorted(plan.decoder_offsets.long(), place, right=True)) - 1
        start = int(plan.decoder_offsets[number])
        before = int(plan.is_audio[start:place].sum())
        one = conversations[number]
        of_each = [sum(n // 640 for c, (_, n) in zip(one.clips, one.windows, strict=True) if c == k) for k in (0, 1)]
        assert clip == int(before >= of_each[0])
        assert second == (before - clip * of_each[0]) // 25
        seen.add((number, clip))
    assert seen == {(0, 0), (1, 0), (1, 1), (3, 0)}


def losses_and_gradients(model, heads, samples, layers, mode):
    plan = plan_of(several())
    parameters = [p for p in [*model.parameters(), *heads.parameters()] if p.requires_grad]
    runner = StepRunner(model, heads, parameters, "eager")
    runner.layers = layers
    for parameter in parameters:
        parameter.grad = None
    found = runner(LineLogMel(torch.device("cpu"))(samples, plan), plan, mode)
    return found, [None if p.grad is None else p.grad.clone() for p in parameters]


def test_traced_for_the_compiler_equals_plain(model, samples):
    heads, mode = Heads(32, 32), Mode(Weights())
    torch._dynamo.reset()
    plain, gradients = losses_and_gradients(model, heads, samples, Layers(), mode)
    same, others = losses_and_gradients(model, heads, samples, Layers.compiled("aot_eager"), mode)
    for name, value in plain.items():
        torch.testing.assert_close(value, same[name])
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_one_compiled_function_serves_all_layers(model, samples):
    """Another layer, or another step of the same shape, is no other program; on a GPU each would cost seconds."""
    counter = CompileCounter()
    torch._dynamo.reset()
    layers = Layers.compiled(counter)
    plan = plan_of(several())
    mel = LineLogMel(torch.device("cpu"))(samples, plan)
    both = sequences_of(plan, model)
    frames = encode(model, mel, plan, both[0], layers)
    decode(model, model.encoder.layer_norm(frames.view(-1, 2, 32).mean(1)), plan, both[1], layers)
    assert counter.frame_count == 2


def test_ctc_gradient_may_be_taken_apart(model, samples):
    """What the CUDA graphs do: the loss of detached logits, whose gradient enters the backward pass."""
    heads, plan = Heads(32, 32), plan_of(several())
    inputs = Inputs.of(LineLogMel(torch.device("cpu"))(samples, plan), plan)
    parts = forward(model, heads, inputs, sequences_of(plan, model), Weights())
    parameters = [p for p in model.parameters() if p.requires_grad]
    logits = parts.ctc_logits.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(0.5 * ctc_loss(logits, plan), logits)
    given = (torch.ones(()), gradient)
    apart = torch.autograd.grad((parts.total, parts.ctc_logits), parameters, given, retain_graph=True)
    whole = torch.autograd.grad(parts.total + 0.5 * ctc_loss(parts.ctc_logits, plan), parameters)
    for one, other in zip(apart, whole, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_the_encoder_alone_and_the_deaf_decoder(model, samples):
    heads = Heads(32, 32)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    _, alone = losses_and_gradients(model, heads, samples, Layers(), Mode(Weights(answer=0.0)))
    touched = {name: grad is not None for name, grad in zip(names, alone, strict=False)}
    assert not any(on for name, on in touched.items() if name.startswith(("decoder", "projector")))
    _, deaf = losses_and_gradients(
        model, heads, samples, Layers(), Mode(Weights(ctc=0.0, frames=0.0, clock=0.0), encoder_listens=False)
    )
    moved = {name: grad is not None and bool(grad.any()) for name, grad in zip(names, deaf, strict=False)}
    assert all(on for name, on in moved.items() if name.startswith("decoder.layers"))
    assert not any(on for name, on in moved.items() if name.startswith("encoder.layers"))


class TwiceCaptured(StepRunner):
    """Replays that add a step's gradients a number of times, as a graph with a mistake in it might."""

    times = 1

    def _captured(self, mel, plan, mode):
        for _ in range(self.times):
            losses = self._plain(mel, plan, mode)
        return losses


@pytest.mark.parametrize(("times", "speed"), [(1, "graphs"), (2, "eager")])
def test_captured_steps_that_differ_from_launched_ones_are_not_taken(model, samples, times, speed):
    heads, plan = Heads(32, 32), plan_of(several())
    parameters = [p for p in [*model.parameters(), *heads.parameters()] if p.requires_grad]
    runner = TwiceCaptured(model, heads, parameters, "graphs")
    runner.times = times
    apart = runner.prepare(LineLogMel(torch.device("cpu"))(samples, plan), plan, Mode(Weights()))
    assert apart == pytest.approx(times - 1, abs=0.01)
    assert runner.speed == speed
    assert all(p.grad is None for p in parameters)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_graphs_equal_plain_on_a_gpu(tmp_path):
    results = bench(all_tasks(), torch.device("cuda"), tmp_path)
    assert results["graphs"]["difference"] < 0.05


def test_the_check_of_flash_attention_finds_what_is_wrong(monkeypatch):
    """The right formula passes the check that picks a way of calling FlashAttention; one that leaks does not."""

    def right(query, key, value, sequences, causal):
        return nano_layers._by_one(query, key, value, (70, 3), causal)

    def leaking(query, key, value, sequences, causal):
        return nano_layers._by_one(query, key, value, (73,), causal)

    monkeypatch.setattr(nano_layers, "_flash", right)
    nano_layers._check_flash("window", torch.device("cpu"))
    monkeypatch.setattr(nano_layers, "_flash", leaking)
    with pytest.raises(AssertionError):
        nano_layers._check_flash("window", torch.device("cpu"))

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from audioflamingo.speech.mels import frames_of_mels
from audioflamingo.speech.speaker import Speaker
from audioflamingo.speech.storage import load_voice
from audioflamingo.speech.stream import SPEECH_RATE_HZ
from audioflamingo.speech.synthesis import OwnSpeaker, Synthesis
from audioflamingo.train.voice import VoiceJob, run, save
from audioflamingo.train.voice_data import FliteTeacher, render_shard, save_readings
from audioflamingo.train.voice_losses import Critics, critic_loss, fooling_loss, log_mels, mel_loss, stft_loss
from audioflamingo.train.voice_pool import ReadingPool, jittered
from audioflamingo.train.voice_recipe import code_bits, corrupted, mel_voice, recipe_by_name, sound_alone, tiny_voice
from audioflamingo.train.voice_trainer import VoiceTrainer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with one small shard."""
    folder = tmp_path_factory.mktemp("voice")
    (folder / "shards").mkdir()
    save_readings(render_shard(1, 0, FliteTeacher(), 12), folder / "shards" / "shard-000000.npz")
    return folder


@pytest.fixture
def pool(work):
    pool = ReadingPool(work / "shards", CPU)
    pool.load_new()
    return pool


def trained(recipe, pool, num_steps, first_progress=0.0, last_progress=1.0):
    """A trainer after some steps, its clock moved by hand; and all losses."""
    trainer, losses = VoiceTrainer(recipe, CPU), []
    trainer.learn_lexicon(pool, {})
    for number in range(num_steps):
        share = first_progress + (last_progress - first_progress) * number / num_steps
        trainer.spent_s = share * recipe.budget_s
        losses.append({name: float(value) for name, value in trainer.step(pool).items()})
    return trainer, losses


@pytest.mark.parametrize("target", ["mel", "codes"])
def test_losses_fall_and_the_trained_voice_streams_as_one_shot(target, pool, tmp_path):
    trainer, losses = trained(tiny_voice(target), pool, 60)
    assert all(np.isfinite(list(step.values())).all() for step in losses)
    for name in ("mel", "speech", "durations", "words"):
        seen = [step[name] for step in losses if name in step]
        assert np.mean(seen[-4:]) < 0.9 * np.mean(seen[:4]), name
    assert any("match" in step for step in losses)
    job = VoiceJob(tmp_path, tmp_path / "out", 1.0)
    save(trainer, job)
    voice = load_voice(tmp_path / "out" / "voice")
    reading = pool.readings[0]
    whole, words = [], []
    for unit in range(3):
        chosen = reading.units == unit
        words.append((reading.phones[chosen].tolist(), reading.durations[chosen].clip(1).tolist()))
    for sizes in ([1, 1, 1], [3]):
        with Synthesis(voice) as synthesis:
            parts = []
            for start in range(0, 3, sizes[0]):
                parts += [synthesis.feed(phones, durations=d) for phones, d in words[start : start + sizes[0]]]
            whole.append(torch.cat([*parts, synthesis.flush()]))
    torch.testing.assert_close(whole[0], whole[1], atol=1e-4, rtol=0)
    assert len(Speaker(OwnSpeaker(voice)).say("Hello there.")) > 0.2 * SPEECH_RATE_HZ


def test_codes_carry_the_sound(pool):
    """The decoder must hear what the codes say: those of another time must give a worse sound."""
    recipe = replace(tiny_voice("codes"), critics_from=2.0, crops=4)
    trainer, _ = trained(recipe, pool, 100, 0.02, 0.2)
    sound = pool.crops(np.random.default_rng(0), 8, 25)
    with torch.no_grad():
        codes = trainer.voice.quantiser(trainer.encoder(sound))
        right, wrong = (
            mel_loss(trainer.voice.wave_decoder.whole(one), sound) for one in (codes, codes.roll(5, dims=2))
        )
    assert right < wrong - 0.1


def test_code_bits_tell_a_codec_that_says_nothing():
    levels = torch.tensor([8, 5, 5, 5])
    silent = torch.full((2, 8, 4, 50), 2)
    assert float(code_bits(silent, levels)) == 0
    silent[:, 0, 1, ::2] = 3  # one dimension says yes or no
    assert float(code_bits(silent, levels)) == pytest.approx(1)
    full = torch.stack([torch.arange(40) % int(count) for count in levels]).expand(1, 8, -1, -1)
    assert float(code_bits(full, levels)) == pytest.approx(8 * np.log2(1_000), rel=1e-5)


def test_whole_clips_are_encoded_without_a_search_for_convolutions(pool, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    trainer, seen = VoiceTrainer(tiny_voice("codes"), CPU), []
    trainer.encoder.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cudnn.benchmark))
    trainer.targets(pool.crops(trainer.rng, 2, 5))
    assert seen == [False]
    assert torch.backends.cudnn.benchmark


def test_the_vocoder_can_go_on_alone(pool, tmp_path):
    trainer, _ = trained(tiny_voice("mel"), pool, 4)
    before = {name: tensor.clone() for name, tensor in trainer.voice.state_dict().items()}
    other = VoiceTrainer(sound_alone(tiny_voice("mel")), CPU)
    other.voice.load_state_dict(before)
    other.spent_s = 0.5 * other.recipe.budget_s
    losses = other.step(pool)
    assert {"mel", "stft", "match"} <= losses.keys()
    assert not {"speech", "words"} & losses.keys()
    after = other.voice.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"wave_decoder"}
    with pytest.raises(ValueError, match="recipe mel"):
        sound_alone(tiny_voice("codes"))


def test_a_piece_goes_on_where_the_last_one_stopped(pool):
    recipe = tiny_voice("mel")
    trainer, _ = trained(recipe, pool, 6, 0.3, 0.5)
    file = io.BytesIO()
    torch.save(trainer.state(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other = VoiceTrainer(recipe, CPU)
    other.restore(state)
    assert (other.num_steps, other.spent_s) == (trainer.num_steps, trainer.spent_s)
    trainer.rng = np.random.default_rng((recipe.seed, trainer.num_steps))
    other.learn_lexicon(pool, {})
    torch.manual_seed(3)
    one = trainer.step(pool)
    torch.manual_seed(3)
    two = other.step(pool)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_whole_job_runs_in_pieces(work, tmp_path):
    recipe = tiny_voice("mel", budget_s=6.0)
    for until_s in (2.0, 4.0):
        job = VoiceJob(work, tmp_path / "out", until_s, num_workers=1, max_shards=1, first_hours=1e-3)
        trainer = run(recipe, job, CPU)
        assert trainer.spent_s >= until_s
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert lines[-1]["words"] > 20
    voice = load_voice(tmp_path / "out" / "voice")
    assert set(voice.pronouncer.exceptions) <= set(trainer.lexicon)
    assert all(file.stat().st_size <= 15_500_000 for file in (tmp_path / "out").glob("weights-*.safetensors"))


def test_perfect_sound_has_no_loss_and_noise_has_some():
    torch.manual_seed(0)
    real = 0.1 * torch.randn(2, 9_600)
    assert mel_loss(real, real) == 0
    assert stft_loss(real, real) == 0
    assert mel_loss(torch.zeros_like(real), real) > 0.5
    critics = Critics(4).requires_grad_(False)
    assert float(critic_loss(critics(real), critics(real))) == pytest.approx(2.0, abs=0.5)
    assert fooling_loss(critics(real), critics(real))[1] == 0


def test_mels_stand_where_their_sound_is():
    samples = torch.zeros(1, 9_600)
    samples[:, 4_800:] = torch.randn(4_800)
    mels = log_mels(samples)
    assert mels.shape == (1, 80, 40)
    energy = mels.mean(1)[0]
    assert energy[:17].max() < energy[23:].min()
    frames = frames_of_mels(mels)
    assert torch.equal(frames[0, :80, 3], mels[0, :, 12])
    assert torch.equal(frames[0, 240:, 3], mels[0, :, 15])


def test_batches_hold_what_the_readings_say(pool):
    clips = pool.clips(np.random.default_rng(0), 20.0)
    speech = clips.speech
    assert clips.samples.shape[1] % 960 == 0
    assert (speech.durations.sum(1) <= clips.samples.shape[1] // 240).all()
    assert (-(-speech.durations.sum(1) // 4) == clips.num_frames).all()
    crops = pool.crops(np.random.default_rng(0), 3, 10)
    assert crops.shape == (3, 9_600)
    assert 0.01 < crops.abs().max() <= 1


def test_jitter_keeps_the_sum():
    durations = np.array([1, 5, 9, 1, 1, 7])
    rng = np.random.default_rng(0)
    changed = [jittered(durations, rng) for _ in range(50)]
    assert all(one.sum() == durations.sum() and one.min() >= 1 for one in changed)
    assert any((one != durations).any() for one in changed)


def test_history_is_corrupted_as_much_as_the_recipe_says():
    recipe = mel_voice()
    levels = torch.tensor([8, 5, 5, 5])
    history = torch.ones(400, 32, 20)
    torch.manual_seed(0)
    out = corrupted(history, levels, recipe)
    is_dropped = (out == 0).flatten(1).all(1)
    assert is_dropped.float().mean() == pytest.approx(0.1, abs=0.05)
    wrong = (out[~is_dropped] != 1).any(1).float().mean()
    assert wrong == pytest.approx(0.15, abs=0.02)
    assert out.abs().max() <= 1


def test_recipes_have_names():
    assert recipe_by_name("codes", 60.0).budget_s == 60
    with pytest.raises(ValueError, match="mel, codes, paper"):
        recipe_by_name("gold")

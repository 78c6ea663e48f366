"""Music Flamingo: rotary time embedding, boundary tokens, and logits, against transformers' own class."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from audioflamingo.audio import num_audio_tokens
from audioflamingo.config import ModelConfig, TimeRotaryConfig
from audioflamingo.errors import CheckpointError
from audioflamingo.model.rotary_time import rotate_in_time, time_angles
from audioflamingo.model.weights import load_config, load_flamingo

TOLERANCE = 1e-4
BOUNDARIES = (251, 252)
WEIGHT_STD = 0.2


@pytest.fixture(scope="module")
def music_config(tiny_config):
    return dataclasses.replace(tiny_config, sound_boundaries=BOUNDARIES, time_rotary=TimeRotaryConfig())


@pytest.fixture(scope="module")
def music_reference(music_config):
    from transformers import MusicFlamingoConfig, MusicFlamingoForConditionalGeneration

    torch.manual_seed(0)
    model = MusicFlamingoForConditionalGeneration(MusicFlamingoConfig(**music_config.to_dict())).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, WEIGHT_STD)
    return model


@pytest.fixture(scope="module")
def music_folder(music_reference, tmp_path_factory):
    folder = tmp_path_factory.mktemp("music")
    music_reference.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def music(music_folder):
    return load_flamingo(music_folder)


def ids_of(*counts):
    """Text, then each sound between its boundaries, then text."""
    ids = [3, 4, 5]
    for count in counts:
        ids += [BOUNDARIES[0], *[250] * count, BOUNDARIES[1], 7]
    return torch.tensor([*ids, 8, 9])


@pytest.mark.parametrize("sizes", [[16_000], [480_000 + 24_000], [2 * 480_000 + 8_000, 48_000]])
def test_logits_are_those_of_transformers(music, music_reference, make_sound, sizes):
    sounds = [make_sound(size, seed) for seed, size in enumerate(sizes)]
    mel, mask = torch.cat([one.mel for one in sounds]), torch.cat([one.mask for one in sounds])
    ids = ids_of(*map(num_audio_tokens, sizes))
    with torch.no_grad():
        expected = music_reference(
            input_ids=ids[None], attention_mask=torch.ones_like(ids)[None], input_features=mel,
            input_features_mask=mask, use_cache=False,
        ).logits[0]  # fmt: skip
        numbers = [number for one in sounds for number in range(len(one.mel))]
        audio, _ = music.embed_audio(mel, mask.sum(-1).tolist(), numbers)
        from audioflamingo.model.attention import Packing
        from audioflamingo.model.decoder import CausalContext

        packing = Packing.of([len(ids)], music.device)
        merged = music.merge(ids, audio)
        found = music.logits(music.hidden_states(merged, packing.positions, CausalContext(packing)))
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_the_rotation_matters_and_leaves_most_channels_alone(music_config):
    features = torch.randn(20, 32, generator=torch.Generator().manual_seed(0))
    turned = rotate_in_time(features, [15, 5], [0, 1], music_config.time_rotary)
    assert torch.equal(turned[:, 12:], features[:, 12:])  # two axes of int(32 * 0.2) channels each
    assert torch.equal(turned[0], features[0])  # at time zero nothing turns
    assert not torch.allclose(turned[1:, :12], features[1:, :12], atol=1e-3)
    torch.testing.assert_close(turned.norm(dim=1), features.norm(dim=1))


def test_the_two_variants():
    numbers, places = torch.tensor([0.0, 1.0]), torch.tensor([10.0, 10.0])
    nvidia = TimeRotaryConfig("nvidia", 1200 / (2 * math.pi))
    ours = {one.variant: time_angles(numbers, places, 8, one) for one in (TimeRotaryConfig(), nvidia)}
    # The first rate is 1 in both, so that only the scale of the window axis differs there, by 2 pi.
    assert ours["nvidia"][1, 0] == pytest.approx(float(ours["transformers"][1, 0]) * 2 * math.pi, rel=1e-5)
    assert ours["nvidia"][1, 8] == pytest.approx(float(ours["transformers"][1, 8]), rel=1e-5)
    assert not torch.allclose(ours["nvidia"][:, 10], ours["transformers"][:, 10], rtol=1e-2)
    seconds = 750 * 0.04 + 10 * 0.04
    assert ours["transformers"][1, 0] == pytest.approx(-seconds * 2 * math.pi / 1200, rel=1e-5)


def test_configurations_round_trip(music_config, music_folder, tmp_path):
    assert load_config(music_folder) == music_config
    named = dataclasses.replace(music_config, time_rotary=TimeRotaryConfig("nvidia", 1200 / (2 * math.pi)))
    assert ModelConfig.from_dict(json.loads(json.dumps(named.to_dict()))) == named
    assert ModelConfig.from_dict(ModelConfig().to_dict()).time_rotary is None


@pytest.mark.parametrize(
    "change", [{"time_rotary_variant": "x"}, {"audio_bos_token_id": -1}, {"rope_parameters": {"rope_theta": -2}}]
)
def test_broken_configurations(music_config, change):
    with pytest.raises(CheckpointError):
        ModelConfig.from_dict(music_config.to_dict() | change)


def test_prompts_have_boundaries_and_the_engine_answers(music_folder, tmp_path):
    """The whole way, with a tokenizer that has the boundaries, beside transformers' greedy tokens."""
    import shutil
    import sys
    from pathlib import Path

    sys.path.append(str(Path(__file__).parents[1] / "unit"))
    from small_tokenizer import small_tokenizer, write_json_layout
    from transformers import MusicFlamingoConfig, MusicFlamingoForConditionalGeneration, WhisperFeatureExtractor

    from audioflamingo import Audio, Message, load_model
    from audioflamingo.prompt import build

    tokenizer = small_tokenizer()
    words = tokenizer.encode_plain("ab")
    config = dataclasses.replace(
        load_config(music_folder), audio_token_id=tokenizer.sound, sound_boundaries=(words[0], words[-1]),
    )  # fmt: skip
    config = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, vocab_size=tokenizer.vocab_size))
    torch.manual_seed(1)
    reference = MusicFlamingoForConditionalGeneration(MusicFlamingoConfig(**config.to_dict())).eval()
    with torch.no_grad():
        for name, parameter in reference.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.1)
    folder = tmp_path / "music"
    reference.save_pretrained(folder)
    write_json_layout(folder)
    (folder / "processor_config.json").write_text(json.dumps({"max_audio_len": 1200}))
    model = load_model(folder, device="cpu")
    assert model.defaults.max_windows == 40
    samples = [np.random.default_rng(seed).standard_normal(size).astype(np.float32) * 0.1
               for seed, size in enumerate((490_000, 16_000))]  # fmt: skip
    messages = [Message("user", (*map(Audio, samples), "What?"))]
    prompt = build(messages, model.tokenizer, model.template)
    for span in prompt.spans:
        assert prompt.ids[span.start - 1] == words[0]
        assert prompt.ids[span.start + span.num_tokens] == words[-1]
    windows = [samples[0][:480_000], samples[0][480_000:], samples[1]]
    out = WhisperFeatureExtractor(feature_size=128)(
        windows, sampling_rate=16_000, return_tensors="pt", return_attention_mask=True
    )
    ids = torch.tensor([prompt.ids])
    with torch.no_grad():
        logits = reference(
            input_ids=ids, attention_mask=torch.ones_like(ids), input_features=out["input_features"],
            input_features_mask=out["attention_mask"],
        ).logits[0, -1]  # fmt: skip
    assert model.generate([messages], max_new_tokens=1)[0].token_ids == (int(logits.argmax()),)
    shutil.rmtree(folder)

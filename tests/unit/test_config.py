"""Configurations go to config.json and back, and one of another model is refused with every reason."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioflamingo.config import (
    AUDIO_TOKENS_PER_WINDOW,
    ENCODER_FRAMES_PER_WINDOW,
    HOP_SAMPLES,
    MEL_FRAMES_PER_WINDOW,
    NANO,
    WINDOW_S,
    DecoderConfig,
    EncoderConfig,
    ModelConfig,
)
from audioflamingo.errors import CheckpointError
from audioflamingo.types import SAMPLE_RATE_HZ

sizes = st.integers(1, 4096)


@st.composite
def configs(draw):
    encoder_heads, kv_heads = draw(st.integers(1, 32)), draw(st.integers(1, 16))
    return ModelConfig(
        encoder=EncoderConfig(
            width=encoder_heads * draw(st.integers(1, 128)),
            num_layers=draw(st.integers(1, 100)),
            num_heads=encoder_heads,
            ffn_width=draw(sizes),
            num_mel_bins=draw(sizes),
            max_positions=draw(sizes),
        ),
        decoder=DecoderConfig(
            vocab_size=300,
            width=draw(sizes),
            num_layers=draw(st.integers(1, 100)),
            num_heads=kv_heads * draw(st.integers(1, 8)),
            num_kv_heads=kv_heads,
            head_dim=2 * draw(sizes),
            ffn_width=draw(sizes),
            max_positions=draw(sizes),
            rope_theta=draw(st.floats(1, 1e9)),
            norm_eps=draw(st.floats(1e-9, 1e-2)),
        ),
        audio_token_id=draw(st.integers(0, 299)),
    )


@given(configs())
def test_config_json_comes_back(config):
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_transformers_reads_what_we_write():
    from transformers import AudioFlamingo3Config

    for config in (ModelConfig(), NANO):
        theirs = AudioFlamingo3Config(**copy.deepcopy(config.to_dict()))
        assert ModelConfig.from_dict(theirs.to_dict()) == config


def test_rates_divide_exactly():
    assert WINDOW_S * SAMPLE_RATE_HZ == MEL_FRAMES_PER_WINDOW * HOP_SAMPLES
    assert MEL_FRAMES_PER_WINDOW == 2 * ENCODER_FRAMES_PER_WINDOW == 4 * AUDIO_TOKENS_PER_WINDOW


def test_older_names_mean_the_same():
    values = ModelConfig().to_dict()
    encoder, text = values["audio_config"], values["text_config"]
    encoder["d_model"] = encoder.pop("hidden_size")
    encoder["encoder_layers"] = encoder.pop("num_hidden_layers")
    encoder["encoder_attention_heads"] = encoder.pop("num_attention_heads")
    encoder["encoder_ffn_dim"] = encoder.pop("intermediate_size")
    text["rope_theta"] = text.pop("rope_parameters")["rope_theta"]
    text["rope_scaling"] = None
    del text["head_dim"]
    values["audio_token_index"] = values.pop("audio_token_id")
    assert ModelConfig.from_dict(values) == ModelConfig()


def test_all_complaints_come_at_once():
    values = ModelConfig().to_dict()
    values["text_config"].update(model_type="llama", use_sliding_window=True, tie_word_embeddings=True)
    values["audio_config"].update(activation_function="relu", scale_embedding=True)
    values.update(projector_hidden_act="relu", projector_bias=False)
    values["text_config"]["rope_parameters"] = {"rope_type": "yarn", "rope_theta": 1e6}
    with pytest.raises(CheckpointError) as caught:
        ModelConfig.from_dict(values)
    for word in ("llama", "sliding", "tie_word", "activation_function", "scale_embedding", "projector_hidden_act",
                 "projector_bias", "yarn"):  # fmt: skip
        assert word in str(caught.value)


@pytest.mark.parametrize("values", [{}, {"model_type": "musicflamingo"}, {"model_type": "audioflamingo3"}])
def test_another_model_is_refused(values):
    with pytest.raises(CheckpointError, match="not an Audio Flamingo 3 configuration"):
        ModelConfig.from_dict(values)


@pytest.mark.parametrize(
    ("part", "name", "value", "complaint"),
    [
        ("text_config", "num_hidden_layers", 10**9, "num_hidden_layers in config.json is 1000000000"),
        ("text_config", "hidden_size", "3584", "expected an integer"),
        ("text_config", "hidden_size", True, "expected an integer"),
        ("text_config", "hidden_size", 0, "expected an integer from 1"),
        ("text_config", "vocab_size", None, "lacks vocab_size"),
        ("text_config", "num_attention_heads", None, "lacks num_attention_heads"),
        ("text_config", "num_key_value_heads", 5, "28 query heads are not a multiple of 5"),
        ("text_config", "head_dim", 3, "even"),
        ("text_config", "rms_norm_eps", -1, "expected a positive number"),
        ("text_config", "rms_norm_eps", 10**400, "expected a positive number"),
        ("text_config", "rope_parameters", {"rope_type": "default"}, "rope_theta in config.json is None"),
        ("text_config", "rope_parameters", "default", "rope_theta in config.json is None"),
        ("text_config", "rope_parameters", {"rope_theta": float("nan")}, "expected a positive number"),
        ("audio_config", "num_attention_heads", 7, "not a multiple of its 7 heads"),
        ("audio_config", "hidden_size", [1280], "expected an integer"),
        (None, "audio_token_id", 151_672, "below the vocabulary's 151672"),
        (None, "audio_token_id", "x", "audio_token_id is 'x'"),
        (None, "text_config", [], "text_config is missing"),
    ],
)
def test_an_impossible_value_is_named(part, name, value, complaint):
    values = ModelConfig().to_dict()
    (values[part] if part else values)[name] = value
    with pytest.raises(CheckpointError, match=complaint):
        ModelConfig.from_dict(values)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=300)
@given(data=st.data(), value=json_values)
def test_any_value_anywhere_gives_a_config_or_a_clear_error(data, value):
    values = ModelConfig().to_dict()
    place = data.draw(st.sampled_from([values, values["audio_config"], values["text_config"]]))
    place[data.draw(st.sampled_from(sorted(place)))] = value
    try:
        config = ModelConfig.from_dict(values)
    except CheckpointError:
        return
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_the_summary_is_plain_numbers():
    assert ModelConfig().summary()["decoder"]["vocab_size"] == 151_672

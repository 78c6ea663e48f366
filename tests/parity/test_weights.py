"""Checkpoints in every spelling hold the same model, and what we write transformers loads without a complaint."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from audioflamingo.model.weights import load_config, load_flamingo, save_flamingo
from audioflamingo.model.weights.names import from_ours, to_ours


def flat_folder(folder, tensors, config, spelling):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    save_file({from_ours(name, spelling): tensor for name, tensor in tensors.items()}, folder / "model.safetensors")
    return folder


def nvidia_folder(folder, tensors, config, tower_prefix=""):
    """Three folders as NVIDIA publishes them; the tower's names may stand under a prefix."""
    parts = {"llm": {}, "sound_tower": {}, "sound_mm_projector": {}}
    for name, tensor in tensors.items():
        part, key = from_ours(name, "nvidia").split("/")
        parts[part][tower_prefix + key if part == "sound_tower" else key] = tensor
    values = config.to_dict()
    encoder = values["audio_config"]
    configs = {
        "llm": values["text_config"] | {"architectures": ["Qwen2ForCausalLM"], "rope_theta": 1e6},
        "sound_tower": {
            "model_type": "qwen2_audio_encoder",
            "d_model": encoder["hidden_size"],
            "encoder_layers": encoder["num_hidden_layers"],
            "encoder_attention_heads": encoder["num_attention_heads"],
            "encoder_ffn_dim": encoder["intermediate_size"],
            "num_mel_bins": encoder["num_mel_bins"],
            "max_source_positions": encoder["max_source_positions"],
        },
        "sound_mm_projector": {"model_type": "sound_mm_projector"},
    }
    for part, held in parts.items():
        (folder / part).mkdir(parents=True)
        save_file(held, folder / part / "model.safetensors")
        (folder / part / "config.json").write_text(json.dumps(configs[part]))
    (folder / "config.json").write_text(json.dumps({"model_type": "llava_llama"}))
    (folder / "llm" / "added_tokens.json").write_text(json.dumps({"<sound>": config.audio_token_id}))
    return folder


def assert_equal_weights(model, expected):
    found = model.state_dict()
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_weights_equal_those_of_the_reference(reference, flamingo):
    expected = {to_ours(name, "transformers"): tensor for name, tensor in reference.state_dict().items()}
    assert_equal_weights(flamingo, expected)
    assert not flamingo.training
    assert not flamingo.encoder.embed_positions.weight.requires_grad


@pytest.mark.parametrize("spelling", ["legacy", "transformers"])
def test_both_hub_spellings_hold_the_same_weights(flamingo, tmp_path, spelling):
    folder = flat_folder(tmp_path / "flat", flamingo.state_dict(), flamingo.config, spelling)
    assert_equal_weights(load_flamingo(folder), flamingo.state_dict())


@pytest.mark.parametrize("tower_prefix", ["", "audio_tower.", "model.", "model.audio_tower."])
def test_nvidia_folders_hold_the_same_weights(flamingo, tmp_path, tower_prefix):
    folder = nvidia_folder(tmp_path / "nvidia", flamingo.state_dict(), flamingo.config, tower_prefix)
    assert load_config(folder) == flamingo.config
    assert_equal_weights(load_flamingo(folder), flamingo.state_dict())


def test_the_spelling_that_transformers_writes_is_read_sharded_too(reference, flamingo, tmp_path):
    reference.save_pretrained(tmp_path, max_shard_size="60KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert_equal_weights(load_flamingo(tmp_path), flamingo.state_dict())


@torch.no_grad()
@pytest.mark.parametrize("max_shard_bytes", [5_000_000_000, 60_000])
def test_transformers_loads_what_we_save(flamingo, make_sound, make_ids, tmp_path, reference_logits, max_shard_bytes):
    from transformers import AudioFlamingo3ForConditionalGeneration

    save_flamingo(flamingo, tmp_path / "saved", max_shard_bytes=max_shard_bytes)
    model, info = AudioFlamingo3ForConditionalGeneration.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"))
    sound = make_sound(30_000)
    ids = make_ids(sound.num_audio_tokens)
    found = reference_logits(ids, sound, model=model.eval())
    torch.testing.assert_close(found, reference_logits(ids, sound), atol=0, rtol=0)
    ours = flamingo(ids, [len(ids)], sound.mel, sound.num_mel_frames)
    torch.testing.assert_close(found, ours, atol=1e-4, rtol=0)


def test_a_saved_folder_names_its_dtype_and_format(flamingo, tmp_path):
    from transformers import AudioFlamingo3ForConditionalGeneration

    save_flamingo(flamingo, tmp_path / "half", dtype=torch.bfloat16)
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    with safe_open(tmp_path / "half" / "model.safetensors", "pt") as opened:
        assert opened.metadata() == {"format": "pt"}
    assert AudioFlamingo3ForConditionalGeneration.from_pretrained(tmp_path / "half").dtype == torch.bfloat16
    expected = {name: tensor.bfloat16() for name, tensor in flamingo.state_dict().items()}
    assert_equal_weights(load_flamingo(tmp_path / "half"), expected)


def test_a_config_written_by_transformers_means_the_same(reference_folder, tiny_config):
    assert load_config(reference_folder) == tiny_config


def test_a_wrong_nvidia_folder_is_told(flamingo, tmp_path):
    folder = nvidia_folder(tmp_path / "nvidia", flamingo.state_dict(), flamingo.config)
    held = load_file(folder / "sound_mm_projector" / "model.safetensors")
    save_file({name.replace("layers.2", "layers.3"): x for name, x in held.items()},
              folder / "sound_mm_projector" / "model.safetensors")  # fmt: skip
    with pytest.raises(ValueError, match=r"left over sound_mm_projector/layers\.3"):
        load_flamingo(folder)
    shutil.rmtree(folder / "llm")
    with pytest.raises(ValueError, match="model_type is 'llava_llama'"):
        load_flamingo(folder)

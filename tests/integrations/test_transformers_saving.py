"""Checkpoints there and back, the loader that they carry, and what is refused."""

import json
import os
import subprocess
import sys

import pytest
import torch
import transformers

import audioflamingo.integrations.transformers as integration
from audioflamingo.errors import CheckpointError
from audioflamingo.model.weights import load_flamingo

LOAD_WITHOUT_IMPORT = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoProcessor
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
inputs = processor(audio=torch.zeros(8000), text="What?", return_tensors="pt")
model.generate(**inputs, max_new_tokens=2)
print(type(model).__module__, type(processor).__module__, model.generated_on)
"""


@pytest.fixture(scope="module")
def saved(shared_model, processor, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved")
    shared_model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


def test_a_call_with_truncation_leaves_no_trace_in_what_is_saved(processor, tmp_path):
    processor(text="one two three four", truncation=True, max_length=2)
    processor.save_pretrained(tmp_path)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    assert tokenizer["truncation"] is None
    assert tokenizer["padding"] is None


def test_stock_transformers_loads_what_we_write(saved, stock, processor, sound):
    model = transformers.AudioFlamingo3ForConditionalGeneration.from_pretrained(saved)
    for name, parameter in stock.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter), name
    theirs = transformers.AudioFlamingo3Processor.from_pretrained(saved)
    text = "<|im_start|>user\n<sound>Hm?<|im_end|>\n"
    ours = processor(text=text, audio=sound(0.5))
    assert torch.equal(theirs(text=text, audio=sound(0.5))["input_ids"], ours["input_ids"])


def test_ours_loads_it_too_by_both_ways(saved, shared_model):
    expected = shared_model.state_dict()
    again = integration.AudioFlamingo3ForConditionalGeneration.from_pretrained(saved)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.state_dict().items())
    flamingo = load_flamingo(saved)
    assert torch.equal(flamingo.decoder.lm_head.weight, expected["lm_head.weight"])


def test_the_folder_names_the_architecture_and_the_loader(saved, shared_model):
    config = json.loads((saved / "config.json").read_text())
    assert config["architectures"] == ["AudioFlamingo3ForConditionalGeneration"]
    assert config["model_type"] == "audioflamingo3"
    assert config["auto_map"]["AutoModelForCausalLM"].startswith("audioflamingo_loader.")
    assert sorted(path.name for path in saved.glob("*.py")) == ["audioflamingo_loader.py"]
    assert not hasattr(shared_model.config, "auto_map")  # saving leaves no trace in the model


def test_trusting_the_checkpoints_code_suffices(saved, tmp_path):
    environment = {**os.environ, "HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD_WITHOUT_IMPORT, str(saved)],
        capture_output=True, text=True, env=environment, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    home = "audioflamingo.integrations.transformers"
    assert done.stdout.split() == [f"{home}.model", f"{home}.processor", "engine"]


def test_resized_embeddings_are_run_and_saved(model, processor, sound, tmp_path):
    inputs = processor(text="What?", audio=sound(0.5))
    before = model.generate(**inputs, max_new_tokens=4)
    model.resize_token_embeddings(2100, mean_resizing=False)
    with torch.no_grad():
        model.lm_head.weight[2048:] = 0
    assert torch.equal(model.generate(**inputs, max_new_tokens=4), before)
    assert model.generated_on == "engine"
    model.save_pretrained(tmp_path)
    again = integration.AudioFlamingo3ForConditionalGeneration.from_pretrained(tmp_path)
    assert again.lm_head.weight.shape[0] == again.config.text_config.vocab_size == 2100


def test_another_architecture_is_refused(tmp_path):
    config = {"model_type": "qwen2", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for one in (integration.AudioFlamingo3ForConditionalGeneration, integration.AudioFlamingo3Encoder):
        with pytest.raises(CheckpointError, match="is a checkpoint of qwen2, expected audioflamingo3"):
            one.from_pretrained(tmp_path)


def test_a_checkpoint_with_a_tensor_missing_is_refused(saved, tmp_path):
    from safetensors.torch import load_file, save_file

    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    lost = next(name for name in tensors if name.endswith("lm_head.weight"))
    save_file(
        {name: one for name, one in tensors.items() if name != lost}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(CheckpointError, match=r"lacks 1 of the model's tensors, .*: lm_head\.weight; use the complete"):
        integration.AudioFlamingo3ForConditionalGeneration.from_pretrained(tmp_path)


def test_the_encoder_alone_gives_25_features_a_second(folder, stock, sound, processor, tmp_path):
    encoder = integration.AudioFlamingo3Encoder.from_pretrained(folder)
    samples = sound(31.0)
    features = encoder.embed(samples)
    assert features.shape == (775, 32)
    inputs = processor(audio=[samples, sound(0.5)])
    output = encoder(**inputs)
    with torch.no_grad():
        theirs = stock.model.audio_tower(**inputs).last_hidden_state
    torch.testing.assert_close(output.last_hidden_state[0], theirs[0], atol=1e-4, rtol=0)
    torch.testing.assert_close(output.last_hidden_state[2, :12], theirs[2, :12], atol=1e-4, rtol=0)
    assert not output.last_hidden_state[2, 12:].any()
    torch.testing.assert_close(output.pooler_output[2], theirs[2, :12].mean(0), atol=1e-4, rtol=0)
    torch.testing.assert_close(features[:750], theirs[0], atol=1e-4, rtol=0)
    encoder.save_pretrained(tmp_path)
    again = integration.AudioFlamingo3Encoder.from_pretrained(tmp_path)
    torch.testing.assert_close(again.embed(samples), features)
    assert len(encoder(**inputs, output_hidden_states=True).hidden_states) == 3

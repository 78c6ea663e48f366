"""Adapters over the tiny reference model, made and saved by peft, and the spellings in which they are published."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

RANK, ALPHA = 4, 6
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
BASE = "base_model.model."
SPELLINGS = {
    "transformers": ("model.language_model.", "lm_head."),
    "legacy": ("language_model.model.", "language_model.lm_head."),
    "nvidia": ("llm.model.", "llm.lm_head."),
    "nvidia with model": ("model.llm.model.", "model.llm.lm_head."),
}


@pytest.fixture(scope="session")
def peft_adapter(reference_folder, tmp_path_factory):
    """A folder that peft wrote, the extra tensors, and peft's own merged model."""
    from transformers import AudioFlamingo3ForConditionalGeneration

    torch.manual_seed(1)
    base = AudioFlamingo3ForConditionalGeneration.from_pretrained(reference_folder, dtype=torch.float32)
    targets = [name for name, _ in base.named_modules() if "language_model.layers" in name and name.endswith(LINEARS)]
    model = get_peft_model(base, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets, lora_dropout=0.05))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.2)
    folder = tmp_path_factory.mktemp("peft")
    model.save_pretrained(folder)
    vocabulary, width = base.get_input_embeddings().weight.shape
    tables = {name: torch.randn(vocabulary, width) * 0.2 for name in ("embed_tokens.weight", "lm_head.weight")}
    twin = model.merge_and_unload().eval()
    with torch.no_grad():
        twin.get_input_embeddings().weight.copy_(tables["embed_tokens.weight"])
        twin.lm_head.weight.copy_(tables["lm_head.weight"])
    return folder, tables, twin


@pytest.fixture
def write_adapter(peft_adapter, tmp_path):
    """A function of (spelling, pickled) to a folder with the adapter in that spelling."""

    def write(spelling="legacy", pickled=True, name="think"):
        source, tables, _ = peft_adapter
        folder = tmp_path / name
        folder.mkdir()
        body, head = SPELLINGS[spelling]
        tensors = {
            key.replace(f"{BASE}model.language_model.", f"{BASE}{body}"): tensor
            for key, tensor in load_file(source / "adapter_model.safetensors").items()
        }
        assert all(body in key for key in tensors)
        save_file(tensors, folder / "adapter_model.safetensors")
        (folder / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())
        prefix = BASE if "nvidia" in spelling else ""
        extra = {
            f"{prefix}{body}embed_tokens.weight": tables["embed_tokens.weight"],
            f"{prefix}{head}weight": tables["lm_head.weight"],
        }
        if pickled:
            torch.save(extra, folder / "non_lora_trainables.bin")
        else:
            save_file(extra, folder / "non_lora_trainables.safetensors")
        return folder

    return write


@pytest.fixture
def edit_config():
    """A function that changes values of a folder's adapter_config.json."""

    def edit(folder, **values):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return edit

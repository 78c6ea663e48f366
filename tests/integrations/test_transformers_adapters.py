"""Adapters: the think folder with its further tensors, and LoRA on our engine without merging."""

import copy
import json

import peft
import pytest
import torch
from safetensors.torch import save_file

from audioflamingo.errors import CheckpointError, OptionError
from audioflamingo.integrations.transformers import AudioFlamingo3ForConditionalGeneration
from audioflamingo.model.weights.names import from_ours, to_ours

RANK = 4


def legacy(name):
    return from_ours(to_ours(name, "transformers"), "legacy")


def as_hub(model):
    """LoRA tensors for all linears of the decoder under the names of the released folder, as PEFT writes them."""
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for path, module in model.model.language_model.named_modules():
        if isinstance(module, torch.nn.Linear):
            name = "base_model.model." + legacy(f"model.language_model.{path}.weight").removesuffix(".weight")
            tensors[f"{name}.lora_A.weight"] = torch.randn(RANK, module.in_features, generator=generator)
            tensors[f"{name}.lora_B.weight"] = 0.1 * torch.randn(module.out_features, RANK, generator=generator)
    return tensors


def write_think(root, model, *, extra=None, change=None, suffix=".bin"):
    folder = root / "think"
    folder.mkdir()
    tensors = as_hub(model)
    if change:
        change(tensors)
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    targets = sorted({name.removeprefix("base_model.model.").partition(".lora_")[0] for name in tensors})
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2, "target_modules": targets, "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    if extra is not None and suffix == ".bin":
        torch.save(extra, folder / "non_lora_trainables.bin")
    elif extra is not None:
        save_file(extra, folder / "non_lora_trainables.safetensors", {"format": "pt"})
    return folder


@pytest.fixture
def inputs(processor, sound):
    return processor(text="What is it?", audio=sound(0.5))


@pytest.fixture
def embeddings(shared_model):
    generator = torch.Generator().manual_seed(1)
    shape = shared_model.get_input_embeddings().weight.shape
    return {"language_model.model.embed_tokens.weight": 0.1 * torch.randn(shape, generator=generator)}


@torch.no_grad()
def logits(model, inputs):
    return model(**inputs).logits


@torch.no_grad()
def merged_by_hand(model, embeddings):
    """The same by arithmetic on a copy: W + B A * alpha / r, and the embeddings in place."""
    merged = copy.deepcopy(model)
    tensors = as_hub(merged)
    for name, matrix in tensors.items():
        if name.endswith("lora_A.weight"):
            ours = to_ours(name.removeprefix("base_model.model.").replace("lora_A.", ""), "legacy")
            weight = merged.get_parameter(from_ours(ours, "transformers"))
            weight += tensors[name.replace("lora_A", "lora_B")] @ matrix * (2 / RANK)
    merged.get_input_embeddings().weight.copy_(embeddings["language_model.model.embed_tokens.weight"])
    return merged


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_the_think_adapter_is_loaded_with_all_its_tensors(model, inputs, embeddings, tmp_path, suffix):
    before, expected = logits(model, inputs), logits(merged_by_hand(model, embeddings), inputs)
    write_think(tmp_path, model, extra=embeddings, suffix=suffix)
    model.load_adapter(tmp_path, subfolder="think")
    torch.testing.assert_close(logits(model, inputs), expected, atol=2e-5, rtol=0)
    assert not any(parameter.requires_grad for name, parameter in model.named_parameters() if "lora" in name)
    model.disable_adapters()
    assert torch.equal(logits(model, inputs), before)
    model.enable_adapters()
    torch.testing.assert_close(logits(model, inputs), expected, atol=2e-5, rtol=0)
    model.delete_adapter("default")
    assert torch.equal(logits(model, inputs), before)


def test_it_is_loaded_with_the_model_and_runs_on_the_engine(folder, model, inputs, embeddings, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    write_think(tmp_path, model, extra=embeddings)
    expected = merged_by_hand(model, embeddings).generate(**inputs, max_new_tokens=8)
    thinking = AudioFlamingo3ForConditionalGeneration.from_pretrained(tmp_path, think=True)
    assert torch.equal(thinking.generate(**inputs, max_new_tokens=8), expected)
    assert thinking.generated_on == "engine"
    assert not torch.equal(expected, model.generate(**inputs, max_new_tokens=8))
    thinking.save_pretrained(tmp_path / "again")
    model.load_adapter(tmp_path / "again")
    assert torch.equal(model.generate(**inputs, max_new_tokens=8), expected)


def drop(part):
    def change(tensors):
        del tensors[next(name for name in tensors if part in name)]

    return change


def drop_layer(tensors):
    for name in [name for name in tensors if ".layers.1." in name]:
        del tensors[name]


def rename(tensors):
    first = next(iter(tensors))
    tensors[first.replace("layers.0", "layers.7")] = tensors.pop(first)


def misspell(tensors):
    first = next(iter(tensors))
    tensors[first.replace("language_model.model.layers", "speech_model.layers")] = tensors.pop(first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename, r"no such tensor in the model: .*layers\.7\.self_attn\.q_proj"),
        (misspell, "no such tensor in the model: .*speech_model"),
        (drop("lora_B"), r"q_proj has \{'lora_A'"),
        (drop_layer, r"layers\.1\.mlp\.down_proj has no pair"),
        (lambda tensors: tensors.update({name: one[:, :-1].contiguous() for name, one in tensors.items()}), "expected"),
    ],
)
def test_tensors_that_fit_nothing_are_an_error_and_nothing_is_changed(model, inputs, tmp_path, change, message):
    before = logits(model, inputs)
    write_think(tmp_path, model, change=change)
    with pytest.raises(CheckpointError, match=message):
        model.load_adapter(tmp_path, subfolder="think")
    assert torch.equal(logits(model, inputs), before)
    assert not any("lora" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"language_model.model.embed_tokens.weight": torch.zeros(9, 48)}, r"\(9, 48\), in the model \(2048, 48\)"),
        ({"vision_tower.weight": torch.zeros(2)}, "no such tensor in the model: vision_tower.weight"),
        ({"language_model.lm_head.weight": 3}, "holds something else than tensors by name"),
    ],
)
def test_further_tensors_that_fit_nothing_are_an_error(model, tmp_path, extra, message):
    write_think(tmp_path, model, extra=extra)
    with pytest.raises(CheckpointError, match=message):
        model.load_adapter(tmp_path, subfolder="think")


class Harmful:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of the checkpoint ran')",))


def test_code_in_a_pickled_file_is_refused_unrun(model, tmp_path):
    write_think(tmp_path, model, extra={"language_model.lm_head.weight": Harmful()})
    with pytest.raises(CheckpointError, match="is not an archive of plain tensors"):
        model.load_adapter(tmp_path, subfolder="think")


@pytest.mark.parametrize(
    ("values", "message"),
    [({"r": 8}, r"\(4, 48\).*expected.*\(8, 48\)"), ({"use_dora": True}, "use_dora"), ({"r": True}, "r is True")],
)
def test_settings_that_the_tensors_do_not_keep_to_are_refused(model, inputs, tmp_path, values, message):
    before = logits(model, inputs)
    path = write_think(tmp_path, model) / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    with pytest.raises(CheckpointError, match=message):
        model.load_adapter(tmp_path, subfolder="think")
    assert torch.equal(logits(model, inputs), before)


def test_a_file_that_is_larger_than_the_model_is_not_opened(model, tmp_path):
    path = write_think(tmp_path, model) / "non_lora_trainables.bin"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    with pytest.raises(CheckpointError, match="belongs to another base model"):
        model.load_adapter(tmp_path, subfolder="think")


def test_an_adapter_named_as_nvidia_names_it_is_read(model, inputs, embeddings, tmp_path):
    def as_nvidia(name):
        return name.replace("base_model.model.language_model.", "base_model.model.llm.")

    expected = logits(merged_by_hand(model, embeddings), inputs)
    extra = {"model.llm.model.embed_tokens.weight": next(iter(embeddings.values()))}
    folder = write_think(tmp_path, model, extra=extra)
    tensors = {as_nvidia(name): tensor for name, tensor in as_hub(model).items()}
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    model.load_adapter(tmp_path, subfolder="think")
    torch.testing.assert_close(logits(model, inputs), expected, atol=2e-5, rtol=0)
    with pytest.raises(CheckpointError, match="'default' is loaded already"):
        model.load_adapter(tmp_path, subfolder="think")


def test_a_folder_without_an_adapter_and_another_kind_are_refused(model, tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no adapter_config\.json"):
        model.load_adapter(tmp_path, subfolder="think")
    folder = write_think(tmp_path, model)
    (folder / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    with pytest.raises(CheckpointError, match="peft_type is 'IA3'"):
        model.load_adapter(tmp_path, subfolder="think")


def test_a_peft_model_generates_on_the_engine_what_stock_would(model, stock, inputs):
    config = peft.LoraConfig(r=RANK, target_modules=["q_proj", "v_proj", "fc1"], modules_to_save=["lm_head"])
    found = []
    for one in (model, copy.deepcopy(stock)):
        wrapped = peft.get_peft_model(one, config).eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for _, parameter in sorted(wrapped.named_parameters()):
                if parameter.requires_grad:
                    parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        found.append(wrapped.generate(**inputs, max_new_tokens=8, do_sample=False))
    assert torch.equal(*found)
    assert model.generated_on == "engine"


def test_adapters_of_ones_own_are_added_switched_and_removed(model, inputs):
    before = logits(model, inputs)
    for call in (model.disable_adapters, model.enable_adapters, model.active_adapters):
        with pytest.raises(OptionError, match="no adapter is in the model"):
            call()
    torch.manual_seed(0)
    for name in ("one", "two"):
        model.add_adapter(peft.LoraConfig(r=RANK, target_modules=["q_proj"], init_lora_weights=False), name)
    assert model.active_adapters() == ["two"]
    second = logits(model, inputs)
    model.set_adapter("one")
    first = logits(model, inputs)
    assert not torch.equal(first, second)
    model.set_adapter(["one", "two"])
    assert model.active_adapters() == ["one", "two"]
    model.set_adapter("two")
    assert torch.equal(logits(model, inputs), second)
    with pytest.raises(OptionError, match="no adapter is named 'three'; there are one, two"):
        model.set_adapter("three")
    with pytest.raises(OptionError, match="'one' is in the model already"):
        model.add_adapter(peft.LoraConfig(target_modules=["q_proj"]), "one")
    with pytest.raises(OptionError, match="adapter_config is a dict"):
        model.add_adapter({}, "three")
    model.delete_adapter(["one", "two"])
    assert torch.equal(logits(model, inputs), before)


def test_an_adapter_that_peft_wrote_goes_in_and_out(model, stock, inputs, tmp_path):
    config = peft.LoraConfig(r=RANK, target_modules=r".*language_model.*_proj", init_lora_weights=False)
    wrapped = peft.get_peft_model(copy.deepcopy(stock), config).eval()
    expected = logits(wrapped, inputs)
    wrapped.save_pretrained(tmp_path / "written")
    model.load_adapter(tmp_path / "written")
    torch.testing.assert_close(logits(model, inputs), expected, atol=2e-5, rtol=0)
    model.save_pretrained(tmp_path / "again")
    read = peft.PeftModel.from_pretrained(copy.deepcopy(stock), tmp_path / "again").eval()
    torch.testing.assert_close(logits(read, inputs), expected, atol=2e-5, rtol=0)

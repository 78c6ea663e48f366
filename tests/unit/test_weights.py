"""The name table, and everything about a checkpoint's folder that must be told rather than loaded."""

import json
import logging
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from audioflamingo.config import ModelConfig
from audioflamingo.errors import CheckpointError
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.weights import load_config, load_flamingo, resolve, save_flamingo
from audioflamingo.model.weights import read as reading
from audioflamingo.model.weights.locate import RELEASES, _say_terms
from audioflamingo.model.weights.names import SPELLINGS, from_ours, to_ours
from audioflamingo.model.weights.write import plan_shards

with torch.device("meta"):
    NAMES = sorted(Flamingo(ModelConfig()).state_dict())


@pytest.fixture(scope="module")
def model(tiny_config):
    torch.manual_seed(0)
    return Flamingo(tiny_config)


@pytest.fixture
def folder(model, tmp_path):
    save_flamingo(model, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


@pytest.fixture
def sharded(model, tmp_path):
    save_flamingo(model, tmp_path / "sharded", max_shard_bytes=60_000)
    return tmp_path / "sharded"


def change_tensors(folder, change, file="model.safetensors"):
    tensors = load_file(folder / file)
    change(tensors)
    save_file(tensors, folder / file, metadata={"format": "pt"})


def change_json(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def first_shard(folder):
    return sorted(folder.glob("*.safetensors"))[0]


@given(name=st.sampled_from(NAMES), spelling=st.sampled_from(SPELLINGS))
def test_every_name_comes_back_from_every_spelling(name, spelling):
    assert to_ours(from_ours(name, spelling), spelling) == name


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_two_tensors_share_a_name(spelling):
    assert len({from_ours(name, spelling) for name in NAMES}) == len(NAMES)


@given(st.text(max_size=60), st.sampled_from(SPELLINGS))
def test_names_of_no_model_are_no_names_of_ours(text, spelling):
    ours = to_ours(text, spelling)
    assert ours is None or to_ours(from_ours(ours, spelling), spelling) == ours


@pytest.mark.parametrize(
    ("name", "legacy", "transformers", "nvidia"),
    [
        ("decoder.lm_head.weight", "language_model.lm_head.weight", "lm_head.weight", "llm/lm_head.weight"),
        (
            "decoder.layers.3.mlp.up_proj.weight",
            "language_model.model.layers.3.mlp.up_proj.weight",
            "model.language_model.layers.3.mlp.up_proj.weight",
            "llm/model.layers.3.mlp.up_proj.weight",
        ),
        ("encoder.conv1.bias", "audio_tower.conv1.bias", "model.audio_tower.conv1.bias", "sound_tower/conv1.bias"),
        (
            "projector.linear_2.bias",
            "multi_modal_projector.linear_2.bias",
            "model.multi_modal_projector.linear_2.bias",
            "sound_mm_projector/layers.2.bias",
        ),
    ],
)
def test_names_are_those_of_the_released_checkpoints(name, legacy, transformers, nvidia):
    assert [from_ours(name, spelling) for spelling in SPELLINGS] == [legacy, transformers, nvidia]


def test_what_transformers_5_17_doubles_is_understood():
    assert to_ours("language_model.model.model.norm.weight", "legacy") == "decoder.norm.weight"


@pytest.mark.parametrize("max_shard_bytes", [10**9, 60_000, 1])
def test_saved_and_loaded_is_equal_to_the_bit(model, tmp_path, max_shard_bytes):
    save_flamingo(model, tmp_path / "x", max_shard_bytes=max_shard_bytes)
    loaded = load_flamingo(tmp_path / "x")
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert loaded.config == model.config
    assert all(parameter.device.type == "cpu" for parameter in loaded.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_are_kept_unless_asked(model, folder, tmp_path, dtype):
    assert load_flamingo(folder, dtype=dtype).dtype == dtype
    save_flamingo(model, tmp_path / "cast", dtype=dtype)
    assert {parameter.dtype for parameter in load_flamingo(tmp_path / "cast").parameters()} == {dtype}


def test_a_loaded_model_does_not_lean_on_its_file(model, folder):
    loaded = load_flamingo(folder)
    with open(folder / "model.safetensors", "r+b") as file:
        file.truncate(0)
    assert torch.equal(loaded.decoder.norm.weight, model.decoder.norm.weight)


@given(st.dictionaries(st.text(min_size=1), st.integers(1, 100), min_size=1, max_size=20), st.integers(1, 150))
def test_shards_hold_everything_in_order_within_their_size(sizes, limit):
    shards = plan_shards(sizes, limit)
    assert [name for shard in shards for name in shard] == list(sizes)
    assert all(len(shard) == 1 or sum(sizes[name] for name in shard) <= limit for shard in shards)


def test_a_missing_tensor_is_named(folder):
    change_tensors(folder, lambda tensors: tensors.pop("audio_tower.conv1.bias"))
    with pytest.raises(CheckpointError, match=r"\(1 difference\): missing encoder\.conv1\.bias"):
        load_flamingo(folder)


def test_a_left_over_tensor_is_named(folder):
    change_tensors(folder, lambda tensors: tensors.update({"vision.weight": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match=r"left over vision\.weight"):
        load_flamingo(folder)


def test_a_misshapen_tensor_is_named_with_both_shapes(folder):
    change_tensors(folder, lambda tensors: tensors.update({"audio_tower.conv1.bias": torch.zeros(31)}))
    with pytest.raises(CheckpointError, match=r"misshapen audio_tower\.conv1\.bias: \(31,\), .* \(32,\)"):
        load_flamingo(folder)


def test_integers_are_no_weights(folder):
    change_tensors(folder, lambda tensors: tensors.update({"audio_tower.conv1.bias": torch.zeros(32).to(torch.int8)}))
    with pytest.raises(CheckpointError, match="is I8, not one of F64, F32, F16, BF16"):
        load_flamingo(folder)


def test_mixed_dtypes_need_a_choice(folder):
    change_tensors(folder, lambda tensors: tensors.update({"audio_tower.conv1.bias": torch.zeros(32).half()}))
    with pytest.raises(CheckpointError, match="mixes F16 and F32; say which to use"):
        load_flamingo(folder)
    assert load_flamingo(folder, dtype=torch.float32).dtype == torch.float32


def test_the_same_tensor_in_two_spellings_is_refused(folder):
    change_tensors(folder, lambda tensors: tensors.update({"model.audio_tower.conv1.bias": torch.zeros(32)}))
    with pytest.raises(CheckpointError, match=r"stored more than once (model\.)?audio_tower\.conv1\.bias"):
        load_flamingo(folder)


def test_many_differences_are_counted_and_the_first_shown(folder):
    change_tensors(folder, lambda tensors: [tensors.pop(name) for name in list(tensors)[:20]])
    with pytest.raises(CheckpointError, match="20 differences") as caught:
        load_flamingo(folder)
    assert str(caught.value).count("missing ") == reading.MAX_COMPLAINTS
    assert str(caught.value).endswith("; and 12 more")


def test_a_config_of_another_size_does_not_fit(folder):
    change_json(folder / "config.json", lambda values: values["text_config"].update(intermediate_size=81))
    with pytest.raises(CheckpointError, match=r"misshapen .*mlp.*config\.json asks for"):
        load_flamingo(folder)


def test_a_missing_shard_is_named(sharded):
    shard = first_shard(sharded)
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"missing shard {shard.name}"):
        load_flamingo(sharded)


def test_an_index_that_disagrees_with_its_shards_is_refused(sharded):
    index = sharded / "model.safetensors.index.json"
    moved = next(iter(json.loads(index.read_text())["weight_map"]))
    change_json(index, lambda values: values["weight_map"].update({moved: max(values["weight_map"].values())}))
    with pytest.raises(CheckpointError, match="disagrees with its index") as caught:
        load_flamingo(sharded)
    assert f"{moved} is not in" in str(caught.value)
    assert "is not in the index" in str(caught.value)


def test_a_tensor_in_two_shards_is_refused(sharded):
    first, second = sorted(sharded.glob("*.safetensors"))[:2]
    name, tensor = next(iter(load_file(first).items()))
    change_tensors(sharded, lambda tensors: tensors.update({name: tensor}), second.name)
    with pytest.raises(CheckpointError, match=f"{name} in {second.name} is not in the index"):
        load_flamingo(sharded)


@pytest.mark.parametrize("shard", ["../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "..\\x", "x.bin", 7])
def test_an_index_names_only_files_beside_it(sharded, shard):
    index = sharded / "model.safetensors.index.json"
    change_json(index, lambda values: values["weight_map"].update({"audio_tower.conv1.bias": shard}))
    with pytest.raises(CheckpointError, match="expected the name of a safetensors file beside it"):
        load_flamingo(sharded)


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"\xff" * 100, b"\x08\0\0\0\0\0\0\0{{{{{{{{", b"PK\x03\x04" * 9])
def test_a_corrupt_file_is_told(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a readable safetensors file"):
        load_flamingo(folder)


def test_a_truncated_file_is_told(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is not a readable safetensors file"):
        load_flamingo(folder)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "holds a JSON list"),
        (b"[" * 100_000, "not valid JSON"),
        (b"\xff", "not valid"),
    ],
)
def test_a_broken_config_is_told(folder, content, complaint):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=complaint):
        load_config(folder)


def test_a_huge_config_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(reading, "MAX_JSON_BYTES", 100)
    with pytest.raises(CheckpointError, match="at most 100 are read"):
        load_config(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth"])
def test_pickles_are_never_opened(folder, name):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/x'\ntR.")
    with pytest.raises(CheckpointError, match=r"only pickled weights.*never opened here; convert"):
        load_flamingo(folder)


def test_an_empty_folder_and_a_missing_one_are_told(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"holds no \*\.safetensors"):
        load_flamingo(folder)
    with pytest.raises(CheckpointError, match="is not a folder"):
        load_flamingo(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"config\.json does not exist"):
        load_config(tmp_path)


def test_two_sets_of_weights_are_refused(folder, sharded):
    shutil.copy(folder / "model.safetensors", sharded)
    with pytest.raises(CheckpointError, match="two sets of weights"):
        load_flamingo(sharded)
    shutil.copy(folder / "model.safetensors", folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="holds 2 safetensors files"):
        load_flamingo(folder)


def nvidia_configs(folder, config):
    values = config.to_dict()
    for part, content in (("llm", values["text_config"]), ("sound_tower", values["audio_config"])):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(content))
    (folder / "sound_mm_projector").mkdir()
    return folder / "llm"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("added_tokens.json", {"<sound>": 250, "[PAD]": 251}),
        ("tokenizer.json", {"added_tokens": [{"id": 3, "content": "x"}, {"id": 250, "content": "<sound>"}]}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"250": {"content": "<sound>"}}}),
    ],
)
def test_the_placeholder_comes_from_the_tokenizer(tiny_config, tmp_path, file, content):
    (nvidia_configs(tmp_path, tiny_config) / file).write_text(json.dumps(content))
    assert load_config(tmp_path) == tiny_config


@pytest.mark.parametrize(
    "content", [{}, {"added_tokens": 5}, {"added_tokens": [7, {"content": "<sound>", "id": None}]}]
)
def test_a_tokenizer_without_the_placeholder_is_told(tiny_config, tmp_path, content):
    (nvidia_configs(tmp_path, tiny_config) / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"gives <sound> the ids \[.*\]; expected one"):
        load_config(tmp_path)


def test_a_tokenizer_that_contradicts_itself_is_told(tiny_config, tmp_path):
    tokenizer = nvidia_configs(tmp_path, tiny_config)
    (tokenizer / "added_tokens.json").write_text(json.dumps({"<sound>": 250}))
    (tokenizer / "tokenizer.json").write_text(json.dumps({"added_tokens": [{"id": 249, "content": "<sound>"}]}))
    with pytest.raises(CheckpointError, match="expected one"):
        load_config(tmp_path)


def test_saving_refuses_to_overwrite_unless_asked(model, folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="exists already"):
        save_flamingo(model, folder)
    save_flamingo(model, folder, overwrite=True, max_shard_bytes=60_000)
    assert (folder / "tokenizer.json").read_text() == "{}"
    assert not (folder / "model.safetensors").exists()
    load_flamingo(folder)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_failed_save_leaves_nothing_and_harms_nothing(model, folder, monkeypatch):
    before = (folder / "model.safetensors").read_bytes()

    def fail(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr("audioflamingo.model.weights.write.save_file", fail)
    for target in (folder, folder.parent / "new"):
        with pytest.raises(OSError, match="no space"):
            save_flamingo(model, target, overwrite=True)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_model_with_other_tensors_is_not_written(tiny_config, tmp_path):
    changed = Flamingo(tiny_config)
    changed.projector.lora = torch.nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match="merge adapters"):
        save_flamingo(changed, tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"dtype is torch\.int8"):
        save_flamingo(Flamingo(tiny_config), tmp_path / "x", dtype=torch.int8)
    assert not list(tmp_path.iterdir())


def test_a_folder_resolves_to_itself(folder):
    assert resolve(folder) == folder
    assert resolve(str(folder)) == folder


@pytest.mark.parametrize("name", ["whisper", "a/b/c", "../x", "", "/no/such/folder", "owner/", "-/x y"])
def test_an_unknown_name_lists_what_works(name):
    with pytest.raises(
        CheckpointError, match="expected nano, af3, af3-think, af3-chat, an existing folder, or a hub id"
    ):
        resolve(name)


@pytest.mark.parametrize("name", ["af3", "af3-think", "af3-chat", "someone/something"])
def test_a_hub_name_without_a_network_is_one_clear_line(name, caplog, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    _say_terms.cache_clear()
    with caplog.at_level(logging.WARNING), pytest.raises(CheckpointError, match="could not be had") as caught:
        resolve(name, offline=True)
    assert "\n" not in str(caught.value)
    assert RELEASES.get(name, name) in str(caught.value)
    assert ("non-commercial" in caplog.text) == (name in RELEASES)

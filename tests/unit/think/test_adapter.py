"""Adapters in every spelling against peft's own merge, and everything that is wrong with one in one error."""

import pickle
import zipfile

import pytest
import torch
from safetensors.torch import load_file, save_file

from audioflamingo.errors import CheckpointError
from audioflamingo.model.lora import SwitchedAdapter, merged
from audioflamingo.model.weights import load_flamingo
from audioflamingo.think import adapter_folder, read_adapter

TOLERANCE = 1e-4
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SPELLINGS = ("transformers", "legacy", "nvidia", "nvidia with model")


@pytest.fixture
def base(reference_folder):
    """A model of its own for each test: hooks stay on it."""
    return load_flamingo(reference_folder)


@pytest.mark.parametrize("pickled", [True, False])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_logits_are_those_of_pefts_merge(
    base, write_adapter, peft_adapter, make_sound, make_ids, reference_logits, spelling, pickled
):
    adapter = read_adapter(write_adapter(spelling, pickled), base)
    assert len(adapter.low_rank) == 2 * len(LINEARS)
    sound = make_sound(24_000)
    ids = make_ids(sound.num_audio_tokens)
    expected = reference_logits(ids, sound, model=peft_adapter[2])
    plain = reference_logits(ids, sound)
    switched = SwitchedAdapter(base, adapter)
    with torch.no_grad():
        off = base(ids, [len(ids)], sound.mel, sound.num_mel_frames)
        with switched.on([len(ids)], [True]):
            on = base(ids, [len(ids)], sound.mel, sound.num_mel_frames)
    torch.testing.assert_close(on, expected, atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(off, plain, atol=TOLERANCE, rtol=TOLERANCE)
    assert not torch.allclose(on, off, atol=1e-2)


def test_merged_is_the_same(base, write_adapter, peft_adapter, make_ids, reference_logits):
    ids = make_ids(0)
    base.load_state_dict(merged(base, read_adapter(write_adapter(), base)))
    with torch.no_grad():
        found = base(ids, [len(ids)])
    expected = reference_logits(ids, model=peft_adapter[2])
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_rows_that_did_not_ask_are_untouched_to_the_last_bit(base, write_adapter, make_ids):
    switched = SwitchedAdapter(base, read_adapter(write_adapter(), base))
    ids = [make_ids(0, seed, 12) for seed in range(3)]
    lengths, packed = [12] * 3, torch.cat(ids)

    # The head sees one row a sequence in the engine, so hidden states are compared here.
    def hidden(marks):
        from audioflamingo.model.attention import Packing
        from audioflamingo.model.decoder import CausalContext

        packing = Packing.of(lengths, base.device)
        with torch.no_grad(), switched.on(lengths, marks):
            states = base.hidden_states(base.merge(packed, None), packing.positions, CausalContext(packing))
            return base.logits(states[packing.offsets[1:] - 1])

    none, some, every = hidden([False] * 3), hidden([False, True, False]), hidden([True] * 3)
    assert torch.equal(some[[0, 2]], none[[0, 2]])
    torch.testing.assert_close(some[1], every[1], atol=1e-5, rtol=1e-5)
    switched.remove()
    assert torch.equal(hidden([True] * 3), none)


def complaints(folder, base):
    with pytest.raises(CheckpointError) as error:
        read_adapter(folder, base)
    assert "\n" not in str(error.value)
    return str(error.value)


def edited(folder, change):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    return folder


def test_all_that_is_wrong_is_one_error(base, write_adapter):
    def change(tensors):
        keys = sorted(tensors)
        tensors["base_model.model.language_model.model.layers.7.self_attn.q_proj.lora_A.weight"] = torch.zeros(4, 48)
        del tensors[keys[0]]
        tensors[keys[3]] = torch.zeros(4, 3)
        tensors[keys[4]] = torch.zeros(3, tensors[keys[4]].shape[1])

    text = complaints(edited(write_adapter(), change), base)
    assert "4 complaints" in text
    for part in ("layers.7", "has only its B", "(4, 3)", "(3, "):
        assert part in text


def test_half_an_adapter_lists_what_lacks(base, write_adapter):
    def change(tensors):
        for key in [key for key in tensors if ".layers.1." in key]:
            del tensors[key]

    text = complaints(edited(write_adapter(), change), base)
    assert f"{len(LINEARS)} complaints" in text
    assert "decoder.layers.1.mlp.down_proj has no pair" in text


def test_an_adapter_of_another_base(write_adapter, base):
    folder = write_adapter()
    torch.save({"language_model.model.embed_tokens.weight": torch.zeros(300, 48)}, folder / "non_lora_trainables.bin")
    assert "(300, 48), the base has (256, 48)" in complaints(folder, base)


def test_a_trained_table_that_cannot_be_switched(write_adapter, base):
    folder = write_adapter()
    name = "language_model.model.norm.weight"
    torch.save({name: base.decoder.norm.weight.detach().clone()}, folder / "non_lora_trainables.bin")
    assert not read_adapter(folder, base).replaced  # equal to the base's own: nothing to switch
    torch.save({name: torch.zeros(48)}, folder / "non_lora_trainables.bin")
    assert "decoder.norm.weight differs" in complaints(folder, base)


def test_a_folder_without_its_configuration_is_told_what_an_adapter_is(write_adapter, base):
    folder = write_adapter()
    (folder / "adapter_config.json").unlink()
    text = complaints(folder, base)
    assert "has no adapter_config.json; an adapter's folder holds it and adapter_model.safetensors" in text


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"peft_type": "IA3"}, "(1 complaint): peft_type"),
        ({"r": 0}, "r is 0"),
        ({"r": 8}, "(8, 48)"),
        ({"lora_alpha": "x"}, "lora_alpha"),
        ({"use_dora": True, "bias": "all", "rank_pattern": {".*": 2}}, "3 complaints"),
    ],
)
def test_settings_that_mean_something_else(write_adapter, edit_config, base, values, part):
    folder = write_adapter()
    edit_config(folder, **values)
    assert part in complaints(folder, base)


def test_rank_stabilised_scale(write_adapter, edit_config, base):
    folder = write_adapter()
    plain = next(iter(read_adapter(folder, base).low_rank.values())).scale
    edit_config(folder, use_rslora=True)
    assert next(iter(read_adapter(folder, base).low_rank.values())).scale == pytest.approx(plain * 2)  # sqrt(4)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("code in a checkpoint was run",))


def test_pickles_run_no_code(write_adapter, base):
    folder = write_adapter()
    (folder / "non_lora_trainables.bin").write_bytes(pickle.dumps({"a": Bomb()}))
    assert "plain tensors" in complaints(folder, base)
    torch.save({"a": Bomb()}, folder / "non_lora_trainables.bin")
    assert "plain tensors" in complaints(folder, base)


def test_a_bomb_of_zeros_is_not_unpacked(write_adapter, base):
    path = write_adapter() / "non_lora_trainables.bin"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/data/0", "w") as file:
        for _ in range(40):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    assert "unpacks to" in complaints(path.parent, base)


def test_a_file_that_is_too_large_is_not_opened(write_adapter, base):
    path = write_adapter() / "non_lora_trainables.bin"
    with path.open("ab") as file:
        file.truncate(64 << 20)
    assert "another base" in complaints(path.parent, base)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_missing_files_are_named(write_adapter, base, name):
    folder = write_adapter()
    (folder / name).unlink()
    assert name in complaints(folder, base)


def test_both_spellings_of_the_folder_are_found(tmp_path):
    assert adapter_folder(tmp_path) is None
    (tmp_path / "stage35").mkdir()
    assert adapter_folder(tmp_path) == tmp_path / "stage35"
    (tmp_path / "think").mkdir()
    assert adapter_folder(tmp_path) == tmp_path / "think"


@pytest.mark.parametrize(
    "named", ["all-linear", r".*language_model.*\.(q_proj|down_proj)", ["q_proj", "model.language_model.down_proj"]]
)
def test_a_kind_that_the_configuration_names_is_missed(write_adapter, edit_config, base, named):
    def change(tensors):
        for key in [key for key in tensors if "down_proj" in key]:
            del tensors[key]

    folder = edited(write_adapter(), change)
    edit_config(folder, target_modules=named)
    text = complaints(folder, base)
    assert "2 complaints" in text
    assert "decoder.layers.1.mlp.down_proj has no pair, though it is to have one" in text


def test_a_pattern_from_a_file_is_not_run(write_adapter, edit_config, base):
    folder = write_adapter()
    edit_config(folder, target_modules=r"(([a-z.]+)+)+\.\d\.nothing")
    assert read_adapter(folder, base).low_rank


def test_tables_that_the_configuration_names_are_missed(write_adapter, edit_config, base):
    folder = write_adapter()
    edit_config(folder, modules_to_save=["embed_tokens", "lm_head"])
    assert len(read_adapter(folder, base).replaced) == 2
    (folder / "non_lora_trainables.bin").unlink()
    assert "(2 complaints): modules_to_save names embed_tokens, of which no tensor is there" in complaints(folder, base)

"""The base of an adapter in its safetensors header: PEFT reads on, and another base is one error."""

import json

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from audioflamingo.errors import CheckpointError
from audioflamingo.model.fingerprint import fingerprint
from audioflamingo.model.skeleton import skeleton
from audioflamingo.model.weights import load_flamingo
from audioflamingo.think import read_adapter
from audioflamingo.think.base import BASE_KEY, state_base, stated_base

FILE = "adapter_model.safetensors"


@pytest.fixture
def base(reference_folder):
    return load_flamingo(reference_folder)


def test_it_is_written_beside_the_tensors_and_read_back(base, write_adapter):
    folder = write_adapter()
    before = load_file(folder / FILE)
    assert stated_base(folder) is None
    for _ in range(2):  # written once more, it is replaced
        state_base(folder / FILE, fingerprint(base))
        assert torch.equal(stated_base(folder).values, fingerprint(base).values)
    after = load_file(folder / FILE)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [path.name for path in folder.glob("*.stated")] == []


def test_the_same_gives_the_same_bytes(base, write_adapter):
    """What the header's order decides, too: a run that was stopped ends with the same file."""
    files = []
    for name in "abcd":
        folder = write_adapter(name=name)
        save_file(load_file(folder / FILE), folder / FILE, {"format": "pt"})
        state_base(folder / FILE, fingerprint(base))
        files.append((folder / FILE).read_bytes())
    assert len(set(files)) == 1


def test_what_cannot_be_seen_is_not_stated(base, write_adapter):
    folder = write_adapter()
    before = (folder / FILE).read_bytes()
    state_base(folder / FILE, fingerprint(skeleton(base.config)))
    assert (folder / FILE).read_bytes() == before


def test_peft_reads_on(base, write_adapter, peft_adapter, recwarn):
    folder = write_adapter("transformers", pickled=False)
    state_base(folder / FILE, fingerprint(base))
    found = peft.load_peft_weights(str(folder), device="cpu")
    expected = load_file(peft_adapter[0] / FILE)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    peft.PeftConfig.from_pretrained(str(folder))
    assert not [warning for warning in recwarn if "adapter" in str(warning.message).lower()]


def test_on_its_own_base_it_is_used_and_on_another_refused(base, write_adapter):
    folder = write_adapter()
    state_base(folder / FILE, fingerprint(base))
    assert read_adapter(folder, base).low_rank
    base.decoder.layers[1].mlp.up_proj.weight.data.mul_(1.1)
    with pytest.raises(CheckpointError) as error:
        read_adapter(folder, base, name="mine")
    text = str(error.value)
    assert "\n" not in text
    for part in (str(folder), "'mine'", "1 of ", "decoder.layers.1.mlp.up_proj.weight", "any_base=True", "train lora"):
        assert part in text
    assert read_adapter(folder, base, any_base=True).low_rank


def test_the_weights_that_a_model_was_loaded_with_count(base, write_adapter):
    """An adapter that was worked in before does not make another one a stranger."""
    folder = write_adapter()
    state_base(folder / FILE, fingerprint(base))
    base.fingerprint = fingerprint(base)
    base.decoder.layers[0].mlp.up_proj.weight.data.mul_(2)
    assert read_adapter(folder, base).low_rank


@pytest.mark.parametrize("text", ["", "{}", "[" * 100_000, json.dumps({"version": 99})])
def test_what_cannot_be_read_is_one_error(base, write_adapter, text):
    folder = write_adapter()
    file = folder / FILE
    save_file(load_file(file), file, {"format": "pt", BASE_KEY: text})
    with pytest.raises(CheckpointError, match="base_weights in its header cannot be read"):
        read_adapter(folder, base)
    assert read_adapter(folder, base, any_base=True).low_rank

"""One checkpoint in every spelling gives the same answers; a broken one gives one line, from the API and the shell."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from audioflamingo import Audio, CheckpointError, Message, load_model
from audioflamingo.cli.main import main
from audioflamingo.model.weights import load_config, load_flamingo, save_flamingo
from audioflamingo.model.weights.names import NVIDIA_FOLDERS, from_ours

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from small_tokenizer import write_json_layout, write_parts_layout

MAX_NEW_TOKENS = 12
SIDE_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")


@pytest.fixture(scope="module")
def weights(checkpoint):
    return load_flamingo(checkpoint).state_dict()


@pytest.fixture
def flat(checkpoint, weights, tmp_path):
    """A function of a spelling to a folder in it, in one file."""

    def write(spelling):
        folder = tmp_path / spelling
        folder.mkdir()
        for name in ("config.json", *SIDE_FILES):
            shutil.copy(checkpoint / name, folder)
        save_file({from_ours(name, spelling): x for name, x in weights.items()}, folder / "model.safetensors")
        return folder

    return write


def renamed(values, names):
    return {names.get(key, key): value for key, value in values.items()}


def config_of_nvidia(part, config):
    """The config.json of one of NVIDIA's folders, in the words of its own model class."""
    values = config.to_dict()
    old_names = {
        "hidden_size": "d_model",
        "num_hidden_layers": "encoder_layers",
        "num_attention_heads": "encoder_attention_heads",
        "intermediate_size": "encoder_ffn_dim",
    }
    text = {key: value for key, value in values["text_config"].items() if key != "rope_parameters"}
    return {
        "llm": text | {"architectures": ["Qwen2ForCausalLM"], "rope_theta": config.decoder.rope_theta},
        "sound_tower": renamed(values["audio_config"], old_names) | {"model_type": "qwen2_audio_encoder"},
        "sound_mm_projector": {"model_type": "sound_mm_projector"},
    }[part]


@pytest.fixture
def nvidia(checkpoint, weights, tmp_path):
    """A function of the tokenizer's layout to a checkpoint in NVIDIA's three folders."""

    def write(write_tokenizer):
        folder = tmp_path / f"nvidia_{write_tokenizer.__name__}"
        config = load_config(checkpoint)
        for part in NVIDIA_FOLDERS:
            (folder / part).mkdir(parents=True)
            (folder / part / "config.json").write_text(json.dumps(config_of_nvidia(part, config)))
            names = {name: from_ours(name, "nvidia") for name in weights}
            held = {theirs.split("/")[1]: weights[name] for name, theirs in names.items() if theirs.startswith(part)}
            save_file(held, folder / part / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"model_type": "llava_llama"}))
        write_tokenizer(folder / "llm")
        shutil.copy(checkpoint / "generation_config.json", folder / "llm")
        return folder

    return write


@pytest.fixture(scope="module")
def conversations(noise):
    sounds = [Audio(noise(duration_s, seed), f"noise {seed}") for seed, duration_s in enumerate((0.5, 31, 2))]
    return [
        [Message("user", (sounds[0], "What is it?"))],
        "No sound at all?",
        [Message("user", (sounds[1], "And this?"))],
        [Message("user", (sounds[2], sounds[0], "Which is louder?"))],
    ]


@pytest.fixture(scope="module")
def answers(model, conversations):
    """The answers of the folder that transformers wrote."""
    return model.generate(conversations, max_new_tokens=MAX_NEW_TOKENS)


@pytest.mark.parametrize("spelling", ["legacy", "transformers"])
def test_both_hub_spellings_answer_the_same(flat, conversations, answers, spelling):
    model = load_model(flat(spelling), device="cpu")
    assert model.generate(conversations, max_new_tokens=MAX_NEW_TOKENS) == answers


@pytest.mark.parametrize("write_tokenizer", [write_parts_layout, write_json_layout])
def test_nvidia_folders_answer_the_same(nvidia, conversations, answers, model, write_tokenizer, capsys):
    folder = nvidia(write_tokenizer)
    assert (folder / "llm" / "tokenizer.json").exists() == (write_tokenizer is write_json_layout)
    found = load_model(folder, device="cpu")
    assert found.generate(conversations, max_new_tokens=MAX_NEW_TOKENS) == answers
    assert found.info["options"] == model.info["options"]
    assert main(["info", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_parameters"] == model.info["num_parameters"]


@torch.no_grad()
def reference_tokens(model, transformers_model, sound, question):
    """transformers' greedy tokens through its own processor."""
    from transformers import AudioFlamingo3Processor, PreTrainedTokenizerFast, WhisperFeatureExtractor

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model.tokenizer._backend, pad_token="[PAD]")
    processor = AudioFlamingo3Processor(WhisperFeatureExtractor(feature_size=128), tokenizer)
    text = model.template.render([{"role": "user", "content": f"<sound>\n{question}"}], add_generation_prompt=True)
    inputs = processor(text=[text], audio=[sound.samples])
    generated = transformers_model.generate(
        **inputs, do_sample=False, max_new_tokens=MAX_NEW_TOKENS, eos_token_id=list(model.tokenizer.eos_ids),
        pad_token_id=model.tokenizer.pad,
    )  # fmt: skip
    return tuple(generated[0, inputs["input_ids"].shape[1] :].tolist())


def test_long_sounds_in_a_ragged_batch_give_transformers_tokens(model, transformers_model, noise):
    """75 s and 600 s, 3 and 20 windows, beside a short one: all the tokens that each gets from transformers alone."""
    sounds = [Audio(noise(duration_s, seed), f"{duration_s} s") for seed, duration_s in enumerate((75, 0.3, 600))]
    conversations = [[Message("user", (sound, "What is it?"))] for sound in sounds]
    replies = model.generate([*conversations, "No sound?"], max_new_tokens=MAX_NEW_TOKENS)
    assert [reply.usage.audio_tokens for reply in replies] == [1875, 7, 15_000, 0]
    for sound, reply in zip(sounds, replies[:3], strict=True):
        assert reply.token_ids == reference_tokens(model, transformers_model, sound, "What is it?")
    for conversation, reply in zip(conversations[:2], replies, strict=False):
        assert model.generate([conversation], max_new_tokens=MAX_NEW_TOKENS) == [reply]


@pytest.fixture
def sharded(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "sharded")
    (folder / "model.safetensors").unlink()
    save_flamingo(load_flamingo(checkpoint), folder, overwrite=True, max_shard_bytes=200_000)
    return folder


def without_a_shard(folder):
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    shards[1].unlink()
    return shards[1].name


def with_a_wrong_shape(folder):
    shard = sorted(folder.glob("model-*.safetensors"))[0]
    held = load_file(shard)
    name = next(name for name, tensor in held.items() if tensor.ndim > 1)
    save_file(held | {name: held[name][:, :-1].contiguous()}, shard)
    return f"misshapen {name}"


def with_a_truncated_shard(folder):
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-100])
    return shard.name


def changed_config(folder, part, **values):
    config = json.loads((folder / "config.json").read_text())
    (config[part] if part else config).update(values)
    (folder / "config.json").write_text(json.dumps(config))


def with_one_layer_less(folder):
    changed_config(folder, "text_config", num_hidden_layers=1)
    return "left over language_model.model.layers.1"


def with_another_architecture(folder):
    changed_config(folder, None, model_type="whisper")
    return "model_type is 'whisper'"


def with_another_activation(folder):
    changed_config(folder, "text_config", hidden_act="gelu")
    return "text_config.hidden_act is 'gelu', expected 'silu'"


def with_a_broken_config(folder):
    (folder / "config.json").write_text('{"model_type": ')
    return "config.json is not valid JSON"


def without_a_config(folder):
    (folder / "config.json").unlink()
    return "config.json does not exist"


def with_broken_defaults(folder):
    (folder / "generation_config.json").write_text('{"repetition_penalty": -1}')
    return "repetition_penalty is -1"


@pytest.mark.parametrize(
    "break_it",
    [
        without_a_shard, with_a_wrong_shape, with_a_truncated_shard, with_one_layer_less, with_another_architecture,
        with_another_activation, with_a_broken_config, without_a_config, with_broken_defaults,
    ],
)  # fmt: skip
def test_a_broken_checkpoint_is_one_line_from_the_api_and_the_shell(sharded, break_it, capsys):
    assert load_model(sharded, device="cpu").ask(None, "Hello?", max_new_tokens=2).token_ids
    part = break_it(sharded)
    with pytest.raises(CheckpointError) as caught:
        load_model(sharded, device="cpu")
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    for words in (["info", str(sharded)], ["ask", "--model", str(sharded), *example_sound(sharded), "What?"]):
        assert main(words) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert part in printed.err
        assert len([line for line in printed.err.splitlines() if "Error" in line or part in line]) == 1
        assert "Traceback" not in printed.err


def example_sound(folder):
    import soundfile

    path = folder.parent / "tone.wav"
    soundfile.write(path, [0.1, -0.1] * 4_000, 16_000)
    return [str(path)]


def test_a_missing_part_of_nvidias_tokenizer_is_told(nvidia):
    folder = nvidia(write_parts_layout)
    (folder / "llm" / "merges.txt").unlink()
    with pytest.raises(CheckpointError, match=r"neither tokenizer\.json nor vocab\.json with merges\.txt"):
        load_model(folder, device="cpu")

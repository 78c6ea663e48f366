import json
import shutil

import pytest
import torch
from small_tokenizer import train as train_tokenizer
from small_tokenizer import with_specials
from tiny_training import write_rows
from tokenizers import Regex, pre_tokenizers

from audioflamingo import load_model
from audioflamingo.cli.main import main
from audioflamingo.errors import FlamingoError
from audioflamingo.model.weights import load_flamingo
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.tokenizer.files import LLAMA3_WORDS
from audioflamingo.train.backbone import read_backbone_config, write_aligned_base

transformers = pytest.importorskip("transformers")
SIZES = {
    "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 480, "max_position_embeddings": 20_000,
    "bos_token_id": 3, "eos_token_id": 5,
}  # fmt: skip


def llama_tokenizer():
    backend = train_tokenizer()
    words = pre_tokenizers.Split(Regex(LLAMA3_WORDS), behavior="isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.normalizer = None
    backend.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    backend.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
    return backend


def write_backbone(folder, family="qwen2", shards="5GB", **changes):
    torch.manual_seed(0)
    kinds = {"qwen2": ("Qwen2Config", "Qwen2ForCausalLM"), "llama": ("LlamaConfig", "LlamaForCausalLM")}
    config, model = (getattr(transformers, name) for name in kinds[family])
    sizes = {**SIZES, **({"head_dim": 12} if family == "llama" else {}), **changes}
    network = model(config(**sizes)).float()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.1)
    network.save_pretrained(folder, max_shard_size=shards)
    (llama_tokenizer() if family == "llama" else with_specials()).save(str(folder / "tokenizer.json"))
    return network.eval()


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("qwen2", {}),
        ("qwen2", {"tie_word_embeddings": True, "shards": "50KB"}),
        ("llama", {"tie_word_embeddings": True, "rope_theta": 5e5}),
        ("llama", {}),
    ],
)
def test_a_backbone_gives_the_same_words_as_in_transformers(base, tmp_path, family, changes):
    theirs = write_backbone(tmp_path / "text", family, **changes)
    folder = write_aligned_base(base, tmp_path / "text", tmp_path / "out", seed=1)
    ours, encoder = load_flamingo(folder), load_flamingo(base).encoder
    ids = torch.randint(400, (30,), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(ids[None]).logits[0]
        found = ours(ids, [30])
    torch.testing.assert_close(found[:, :400], expected[:, :400], rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1
    assert all(torch.equal(t, ours.encoder.state_dict()[name]) for name, t in encoder.state_dict().items())
    reference = transformers.AudioFlamingo3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(reference(input_ids=ids[None]).logits[0], found, rtol=1e-4, atol=1e-4)


def test_new_tokens_begin_as_what_stands_nearest_to_them(base, tmp_path):
    theirs = write_backbone(tmp_path / "text", "llama")
    folder = write_aligned_base(base, tmp_path / "text", tmp_path / "out", seed=1)
    model, tokenizer = load_flamingo(folder), Tokenizer.from_folder(folder)
    table, before = model.decoder.embed_tokens.weight, theirs.get_input_embeddings().weight
    assert torch.equal(table[tokenizer.im_start], before[3])
    assert torch.equal(table[tokenizer.im_end], before[5])
    torch.testing.assert_close(table[tokenizer.sound], before.mean(0))
    assert model.config.audio_token_id == tokenizer.sound
    assert tokenizer.encode("A dog") == Tokenizer(with_specials(llama_tokenizer())).encode("A dog")


def test_the_projector_speaks_as_loud_as_the_words(base, tmp_path):
    write_backbone(tmp_path / "text")
    model = load_flamingo(write_aligned_base(base, tmp_path / "text", tmp_path / "out", seed=1))
    features = torch.randn(500, model.config.encoder.width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        loud = model.projector(features).std()
    assert loud == pytest.approx(float(model.decoder.embed_tokens.weight.detach().std()), rel=0.25)


def test_stage_1_aligns_it_and_the_result_answers(base, tmp_path, capsys):
    write_backbone(tmp_path / "text", "llama")
    rows = write_rows(tmp_path / "rows", 8)
    words = ["train", "stage_1", "--base", str(base), "--backbone", str(tmp_path / "text"), "--data", str(rows)]
    words += ["--out", str(tmp_path / "out"), "--batch-s", "4", "--epochs", "2", "--device", "cpu"]
    assert main(words) == 0
    before, after = load_flamingo(tmp_path / "out" / "base"), load_flamingo(tmp_path / "out" / "model")
    changed = {n.partition(".")[0] for n, t in before.state_dict().items() if not torch.equal(t, after.state_dict()[n])}
    assert changed == {"projector"}
    assert "MFU" in (err := capsys.readouterr().err)
    assert "memory: about" in err
    model = load_model(tmp_path / "out" / "model", device="cpu")
    assert model.ask(tmp_path / "rows" / "s0.wav", "What is it?", max_new_tokens=3) is not None
    other = write_backbone(tmp_path / "other", "qwen2")
    assert other is not None
    assert main([*words[:5], str(tmp_path / "other"), *words[6:]]) == 2
    assert "another backbone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"model_type": "mistral"}, "'mistral' model; a backbone is one of qwen2, llama"),
        ({"attention_bias": True, "hidden_act": "gelu"}, "hidden_act is 'gelu'.*attention_bias is True"),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1.0}},
            "the rope type is 'llama3', expected 'default'",
        ),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_what_our_decoder_cannot_be_is_refused(tmp_path, values, reason):
    write_backbone(tmp_path, "llama")
    config = json.loads((tmp_path / "config.json").read_text()) | values
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FlamingoError, match=reason) as caught:
        read_backbone_config(tmp_path)
    assert "\n" not in str(caught.value)


def test_files_that_do_not_fit_together_are_refused(base, tmp_path):
    write_backbone(tmp_path / "text")
    config = json.loads((tmp_path / "text" / "config.json").read_text()) | {"intermediate_size": 96}
    (tmp_path / "text" / "config.json").write_text(json.dumps(config))
    with pytest.raises(FlamingoError, match=r"misshapen decoder.layers.0.mlp.gate_proj.weight"):
        write_aligned_base(base, tmp_path / "text", tmp_path / "out", seed=1)
    shutil.rmtree(tmp_path / "text")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "config.json").write_text(json.dumps(config | {"intermediate_size": 80}))
    with_specials().save(str(tmp_path / "text" / "tokenizer.json"))
    with pytest.raises(FlamingoError, match=r"no .*safetensors"):
        write_aligned_base(base, tmp_path / "text", tmp_path / "out", seed=1)
    assert not (tmp_path / "out").exists()


def test_other_stages_do_not_take_a_backbone(capsys, tmp_path):
    assert main(["train", "stage_2", "--backbone", str(tmp_path), "--data", "x", "--out", "y"]) == 2
    assert "--backbone" in capsys.readouterr().err

"""A byte-level BPE of a few hundred tokens, trained on the spot and written in both of the released layouts."""

import json

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from audioflamingo.tokenizer import QWEN2_WORDS, Tokenizer

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<sound>", "[BOS]", "[PAD]"]
CORPUS = [
    "system\nYou are a helpful assistant.\nuser\nWhat is the sound in this audio?\n\nassistant\n",
    "Transcribe the input speech. Please describe the audio in detail; they're birds, aren't they?\n",
    "A dog barks twice, then the rain begins.\t Über die Brücke  日本語の音声 звук\r\n",
]


def train(num_merged=200):
    backend = Backend(models.BPE())
    backend.normalizer = normalizers.NFC()
    words = pre_tokenizers.Split(Regex(QWEN2_WORDS), behavior="isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + num_merged, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(CORPUS * 10, trainer)
    return backend


def with_specials(backend=None):
    backend = backend or train()
    backend.add_special_tokens(SPECIALS)
    backend.add_tokens([AddedToken("<tool_call>", special=False, normalized=False)])
    return backend


def small_tokenizer():
    return Tokenizer(with_specials())


def write_json_layout(folder):
    with_specials().save(str(folder / "tokenizer.json"))
    config = {"pad_token": "[PAD]", "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def write_parts_layout(folder):
    """As NVIDIA's `llm` folder: vocab.json, merges.txt, and the added tokens in the configuration."""
    backend = train()
    backend.model.save(str(folder))
    added = with_specials(backend).get_added_tokens_decoder()
    decoder = {
        str(token_id): {"content": token.content, "special": token.special, "normalized": token.normalized}
        for token_id, token in added.items()
    }
    config = {
        "added_tokens_decoder": decoder,
        "pad_token": {"__type": "AddedToken", "content": "[PAD]", "special": True},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "added_tokens.json").write_text(json.dumps({token.content: i for i, token in added.items()}))
    return folder

"""Music Flamingo and Audio Flamingo Next: their processor's prompts, and thirty minutes, against transformers."""

import dataclasses

import numpy as np
import pytest
import torch

from audioflamingo import Audio, AudioError, Message, load_model
from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig, TimeRotaryConfig
from audioflamingo.model.weights import resolve
from audioflamingo.prompt import build

BOUNDARY_TOKENS = ["<|sound_bos|>", "<|sound_eos|>"]
NUM_WINDOWS = 60  # thirty minutes, as Audio Flamingo Next takes
SYSTEM = "You know all about music."
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n" + SYSTEM + "<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% if message['content'] | selectattr('type', 'equalto', 'audio') | list %}<sound>{% endif %}"
    "{% for item in message['content'] | selectattr('type', 'equalto', 'text') %}{{ item['text'] }}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def processor():
    """transformers' own, with the embedded model's tokenizer and the boundaries added to it."""
    from transformers import AutoTokenizer, MusicFlamingoProcessor, WhisperFeatureExtractor

    tokenizer = AutoTokenizer.from_pretrained(resolve("nano"))
    tokenizer.add_special_tokens({"additional_special_tokens": BOUNDARY_TOKENS})
    extractor = WhisperFeatureExtractor(feature_size=128, return_attention_mask=True)
    return MusicFlamingoProcessor(extractor, tokenizer, chat_template=TEMPLATE, max_audio_len=NUM_WINDOWS * 30)


@pytest.fixture(scope="module")
def reference(processor):
    """transformers' own model, tiny and random."""
    from transformers import MusicFlamingoConfig, MusicFlamingoForConditionalGeneration

    first, last = processor.tokenizer.convert_tokens_to_ids(BOUNDARY_TOKENS)
    config = ModelConfig(
        encoder=EncoderConfig(width=32, num_layers=1, num_heads=2, ffn_width=48),
        decoder=DecoderConfig(
            vocab_size=len(processor.tokenizer), width=48, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16,
            ffn_width=80, max_positions=60_000,
        ),
        audio_token_id=processor.audio_token_id, sound_boundaries=(first, last), time_rotary=TimeRotaryConfig(),
    )  # fmt: skip
    torch.manual_seed(0)
    model = MusicFlamingoForConditionalGeneration(MusicFlamingoConfig(**config.to_dict())).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.1)
    return model


@pytest.fixture(scope="module")
def model(reference, processor, tmp_path_factory):
    """Ours, from what transformers writes."""
    folder = tmp_path_factory.mktemp("next")
    reference.save_pretrained(folder)
    processor.save_pretrained(folder)
    return load_model(folder, device="cpu")


def noise(num_samples, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


@pytest.mark.parametrize("num_samples", [16_000, 480_000, 480_000 + 8_000])
def test_prompts_and_tokens_are_transformers(model, reference, processor, num_samples):
    samples, question = noise(num_samples), "Name the key and the tempo."
    content = [{"type": "text", "text": question}, {"type": "audio", "audio": samples}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=True, return_dict=True, add_generation_prompt=True
    )
    message = Message("user", (Audio(samples), question))
    assert build([message], model.tokenizer, model.template).ids == tuple(inputs["input_ids"][0].tolist())
    expected = reference.generate(**inputs, do_sample=False, max_new_tokens=6, eos_token_id=None)
    found = model.answer([message], max_new_tokens=6)
    ours = found.token_ids
    assert ours == tuple(expected[0, inputs["input_ids"].shape[1] :].tolist())[: len(ours)]


def test_the_limits_are_the_processors(model):
    assert model.defaults.max_windows == NUM_WINDOWS
    long = Audio(np.zeros(NUM_WINDOWS * 480_000 + 1, dtype=np.float32), "half an hour and a bit")
    with pytest.raises(AudioError, match=r"at most 1800 s \(60 windows"):
        model.ask(long, "What key?")
    size = model.measure([Message("user", (dataclasses.replace(long, samples=long.samples[:-1]), "What key?"))])
    assert size.num_audio_tokens == NUM_WINDOWS * 750
    assert size.fits


def test_features_of_thirty_minutes_are_transformers(model, reference):
    """Random log-mels, the last window a part of one; then a second, short sound, whose windows count anew."""
    generator = torch.Generator().manual_seed(0)
    mel = torch.randn(NUM_WINDOWS + 1, 128, 3_000, generator=generator)
    frames = [3_000] * (NUM_WINDOWS - 1) + [1_234, 400]
    mask = (torch.arange(3_000) < torch.tensor(frames)[:, None]).int()
    counts = [((count - 1) // 2 + 1) // 2 for count in frames]
    placeholder = reference.config.audio_token_id
    ids = torch.tensor([5, *[placeholder] * sum(counts[:-1]), 6, 7, *[placeholder] * counts[-1], 8])
    with torch.no_grad():
        expected = reference.model.get_audio_features(mel, mask, input_ids=ids[None]).pooler_output
        found, num_tokens = model.model.embed_audio(mel, frames, [*range(NUM_WINDOWS), 0])
    assert num_tokens == counts
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)

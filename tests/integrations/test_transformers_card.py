"""The example on the released model's card, word for word, on the embedded model."""

from pathlib import Path

import numpy as np
import pytest
import torch

import audioflamingo.integrations.transformers as integration
from audioflamingo import load_audio

EXAMPLE = Path(__file__).parents[2] / "examples" / "dog_then_bell.wav"


@pytest.fixture(scope="module")
def name():
    return str(integration.resolve("nano"))


def beep():
    time_s = np.arange(32_000) / 16_000
    return (0.3 * np.sin(2 * np.pi * 880 * time_s)).astype(np.float32)


def test_the_cards_example_runs_as_it_stands(name):
    from transformers import AutoModelForCausalLM, AutoProcessor

    audio_array = load_audio(EXAMPLE).samples

    model = AutoModelForCausalLM.from_pretrained(name, torch_dtype=torch.bfloat16, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(name, trust_remote_code=True)

    inputs = processor(audio=audio_array, text="Describe what you hear in this audio.", return_tensors="pt")
    outputs = model.generate(**inputs, max_new_tokens=256)
    response = processor.decode(outputs[0], skip_special_tokens=True)

    assert model.dtype == torch.bfloat16
    assert model.generated_on == "engine"
    answer = processor.decode(outputs[0], skip_special_tokens=True, answer_only=True)
    question = "user\nDescribe what you hear in this audio.\nassistant\n"
    assert response == f"system\nYou are a helpful assistant.\n{question}{answer}"
    assert "dog" in answer.lower()
    assert outputs[0, -1] in model.generation_config.eos_token_id


def test_the_answer_is_that_of_the_api(name):
    from transformers import AutoModelForCausalLM, AutoProcessor

    import audioflamingo

    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(name)
    question = "What do you hear?"
    inputs = processor(audio=beep(), text=question)
    outputs = model.generate(**inputs, max_new_tokens=64, do_sample=False)
    reply = audioflamingo.load_model("nano", device="cpu").ask(beep(), question, sample_rate_hz=16_000)
    assert tuple(outputs[0, inputs["input_ids"].shape[1] :].tolist()) == reply.token_ids


def test_our_classes_take_the_short_name_of_the_embedded_model(name):
    for one in (integration.AudioFlamingo3ForConditionalGeneration, integration.AudioFlamingo3Encoder):
        assert one.from_pretrained("nano").config.name_or_path in (name, "")
    assert integration.AudioFlamingo3Processor.from_pretrained("nano").max_audio_len == 600


@pytest.mark.parametrize("auto", ["AutoModelForCausalLM", "AutoModelForMultimodalLM", "AutoModelForSeq2SeqLM"])
def test_every_auto_class_for_the_model_finds_ours(folder, auto, processor, sound):
    import transformers

    model = getattr(transformers, auto).from_pretrained(folder, device_map="auto", attn_implementation="eager")
    assert type(model) is integration.AudioFlamingo3ForConditionalGeneration
    assert model.config._attn_implementation == "eager"
    model.generate(**processor(text="What?", audio=sound(0.5)), max_new_tokens=2)
    assert model.generated_on == "engine"


def test_the_plain_auto_model_has_encoder_and_decoder_but_no_head(folder, stock):
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    assert type(model) is integration.AudioFlamingo3Model
    theirs = stock.model.state_dict()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in model.state_dict().items())

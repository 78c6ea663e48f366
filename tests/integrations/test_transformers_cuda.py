"""The integration on an NVIDIA GPU in bf16 with the embedded model: beside stock transformers, batched, compiled."""

import wave
from pathlib import Path

import numpy as np
import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("dog_then_bell.wav", "rooster.wav", "woman_speaking.wav")
OPTIONS = {"do_sample": False, "max_new_tokens": 24}


def samples_of(name):
    """(N,) float32 at 16 kHz, by the standard library alone."""
    with wave.open(str(EXAMPLES / name)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.float32) / 32_768


@pytest.fixture(scope="module")
def name():
    import audioflamingo.integrations.transformers as integration

    return str(integration.resolve("nano"))


@pytest.fixture(scope="module")
def nano(name):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(name, dtype=torch.bfloat16, attn_implementation="sdpa").to("cuda")


@pytest.fixture(scope="module")
def nano_processor(name):
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(name)


@pytest.fixture(scope="module")
def inputs(nano_processor):
    """A ragged batch, on the CPU in fp32 as the processor gives it."""
    sounds = [samples_of(name) for name in NAMES]
    return nano_processor(text=["What do you hear?"] * len(sounds), audio=sounds)


def answers(processor, tokens):
    return processor.decode(tokens, skip_special_tokens=True, answer_only=True)


def test_a_batch_answers_as_stock_transformers_does(nano, nano_processor, name, inputs):
    from transformers import AudioFlamingo3ForConditionalGeneration

    stock = AudioFlamingo3ForConditionalGeneration.from_pretrained(name, dtype=torch.bfloat16).to("cuda")
    on_gpu = inputs.to("cuda")
    found = nano.generate(**on_gpu, **OPTIONS)
    assert nano.generated_on == "engine"
    theirs = {**on_gpu, "input_features": on_gpu["input_features"].to(torch.bfloat16)}
    assert answers(nano_processor, found) == answers(nano_processor, stock.generate(**theirs, **OPTIONS))
    assert "dog" in answers(nano_processor, found)[0].lower()


def test_rows_answer_as_they_do_alone(nano, nano_processor, inputs):
    together = answers(nano_processor, nano.generate(**inputs.to("cuda"), **OPTIONS))
    for row, name in enumerate(NAMES):
        alone = nano_processor(text="What do you hear?", audio=samples_of(name)).to("cuda")
        assert answers(nano_processor, nano.generate(**alone, **OPTIONS)) == [together[row]]


def test_inputs_left_on_the_cpu_in_fp32_are_brought_over(nano, inputs):
    features = nano.model.get_audio_features(inputs["input_features"], inputs["input_features_mask"]).pooler_output
    assert (features.device.type, features.dtype) == ("cuda", torch.bfloat16)
    assert features.isfinite().all()


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_logits_of_the_kernels_agree(nano, inputs, implementation):
    on_gpu = {**inputs.to("cuda")}
    on_gpu["input_features"] = on_gpu["input_features"].to(torch.bfloat16)
    with torch.no_grad():
        expected = nano(**on_gpu).logits.float()
        nano.set_attn_implementation(implementation)
        found = nano(**on_gpu).logits.float()
    nano.set_attn_implementation("sdpa")
    shown = on_gpu["attention_mask"].bool()
    assert (found - expected)[shown].norm() / expected[shown].norm() < 0.02


def test_device_map_auto_loads_onto_the_gpu_and_trains_there(name, nano_processor):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(name, dtype=torch.bfloat16, device_map="auto").train()
    assert model.device.type == "cuda"
    messages = [
        {"role": "user", "content": [{"type": "audio", "audio": samples_of(NAMES[0])}, {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": "A dog."},
    ]
    batch = nano_processor.apply_chat_template([messages], tokenize=True, return_dict=True, output_labels=True)
    loss = model(**batch.to("cuda")).loss
    loss.backward()
    assert loss.isfinite()
    assert model.model.audio_tower.conv1.weight.grad.abs().sum() > 0


def test_sampling_with_a_seed_repeats_itself(nano, inputs):
    def drawn():
        torch.manual_seed(0)
        return nano.generate(**inputs.to("cuda"), max_new_tokens=8, do_sample=True, temperature=1.5)

    assert torch.equal(drawn(), drawn())

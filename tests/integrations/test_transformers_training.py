"""Training: a LoRA fine-tune of the embedded model by peft and Trainer, and gradient checkpointing."""

import copy

import numpy as np
import peft
import pytest
import torch
from transformers import Trainer, TrainingArguments

import audioflamingo.integrations.transformers as integration

ANSWERS = {220.0: "A low tone.", 1760.0: "A high tone."}


def tone(frequency_hz, seed):
    generator = np.random.default_rng(seed)
    time_s = np.arange(8_000) / 16_000
    clean = 0.3 * np.sin(2 * np.pi * frequency_hz * time_s)
    return (clean + 0.01 * generator.standard_normal(len(clean))).astype(np.float32)


@pytest.fixture(scope="module")
def nano():
    name = integration.resolve("nano")
    model = integration.AudioFlamingo3ForConditionalGeneration.from_pretrained(name, dtype=torch.float32)
    return model, integration.AudioFlamingo3Processor.from_pretrained(name)


def conversation(frequency_hz, seed):
    question = [{"type": "audio", "audio": tone(frequency_hz, seed)}, {"type": "text", "text": "Low or high?"}]
    return [{"role": "user", "content": question}, {"role": "assistant", "content": ANSWERS[frequency_hz]}]


def test_peft_and_trainer_lower_the_loss(nano, tmp_path):
    model, processor = nano
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=8, lora_alpha=16, target_modules=r".*language_model.*_proj"))
    examples = [{"conversation": conversation(pitch, seed)} for seed in range(8) for pitch in ANSWERS]

    def collate(rows):
        conversations = [row["conversation"] for row in rows]
        return processor.apply_chat_template(conversations, tokenize=True, return_dict=True, output_labels=True)

    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=8, per_device_train_batch_size=4, learning_rate=5e-3, logging_steps=1,
        save_strategy="no", report_to=[], remove_unused_columns=False, use_cpu=True, seed=0, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model=wrapped, args=arguments, train_dataset=examples, data_collator=collate)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]
    wrapped.save_pretrained(tmp_path / "adapter")
    question = processor(text="Low or high?", audio=tone(1760.0, 99))
    answer = wrapped.eval().generate(**question, max_new_tokens=16)
    assert model.generated_on == "engine"
    again = peft.PeftModel.from_pretrained(
        integration.AudioFlamingo3ForConditionalGeneration.from_pretrained(
            integration.resolve("nano"), dtype=torch.float32
        ),
        tmp_path / "adapter",
    )
    assert torch.equal(again.generate(**question, max_new_tokens=16), answer)


def test_gradient_checkpointing_changes_no_gradient(model, processor, sound, ask):
    conversations = [[*ask(sound(0.5)), {"role": "assistant", "content": "A dog."}]]
    inputs = processor.apply_chat_template(conversations, tokenize=True, return_dict=True, output_labels=True)
    checkpointed = copy.deepcopy(model)
    checkpointed.gradient_checkpointing_enable()
    for one in (model, checkpointed):
        one.train()
        one(**inputs).loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            expected = checkpointed.get_parameter(name).grad
            torch.testing.assert_close(parameter.grad, expected, atol=2e-5, rtol=1e-3, msg=name)

"""A LoRA fine-tune with peft and Trainer, on sounds made here: the embedded model learns to call tones low or high.

It takes a minute on two cores.

    pip install '.[transformers]'
    python examples/transformers_finetune.py
"""

import tempfile

import numpy as np
import peft
import torch
from transformers import Trainer, TrainingArguments

import audioflamingo.integrations.transformers as integration

ANSWERS = {220.0: "A low tone.", 1760.0: "A high tone."}
QUESTION = "Is the tone low or high?"


def tone(frequency_hz, seed):
    """(8000,) float32: half a second of a sine in a little noise."""
    time_s = np.arange(8_000) / 16_000
    noise = np.random.default_rng(seed).standard_normal(len(time_s))
    return (0.3 * np.sin(2 * np.pi * frequency_hz * time_s) + 0.01 * noise).astype(np.float32)


def collate(rows):
    """A batch; the loss is taken on the assistant's words alone."""
    conversations = [
        [
            {
                "role": "user",
                "content": [
                    {"type": "audio", "audio": tone(row["pitch"], row["seed"])},
                    {"type": "text", "text": QUESTION},
                ],
            },
            {"role": "assistant", "content": ANSWERS[row["pitch"]]},
        ]
        for row in rows
    ]
    return processor.apply_chat_template(conversations, tokenize=True, return_dict=True, output_labels=True)


name = integration.resolve("nano")
model = integration.AudioFlamingo3ForConditionalGeneration.from_pretrained(name, dtype=torch.float32)
processor = integration.AudioFlamingo3Processor.from_pretrained(name)
lora = peft.LoraConfig(r=8, lora_alpha=16, target_modules=r".*language_model.*_proj")
wrapped = peft.get_peft_model(model, lora)
arguments = TrainingArguments(
    output_dir=tempfile.mkdtemp(),
    max_steps=20,
    per_device_train_batch_size=8,
    learning_rate=5e-3,
    logging_steps=5,
    save_strategy="no",
    report_to=[],
    remove_unused_columns=False,
)
examples = [{"pitch": pitch, "seed": seed} for seed in range(40) for pitch in ANSWERS]
Trainer(model=wrapped, args=arguments, train_dataset=examples, data_collator=collate).train()

wrapped.eval()
for pitch in ANSWERS:
    inputs = processor(text=QUESTION, audio=tone(pitch, seed=999)).to(model.device)
    outputs = wrapped.generate(**inputs, max_new_tokens=16)
    print(f"{pitch:6.0f} Hz: {processor.decode(outputs[0], skip_special_tokens=True, answer_only=True)}")

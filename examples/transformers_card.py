"""The example on the released model's card, as it stands there, on the embedded model.

For the released model, say name = "nvidia/audio-flamingo-3-hf".

    pip install '.[transformers]'
    python examples/transformers_card.py [sound]
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoProcessor

import audioflamingo.integrations.transformers as integration
from audioflamingo import load_audio

name = integration.resolve("nano")
audio_array = load_audio(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("dog_then_bell.wav")).samples

model = AutoModelForCausalLM.from_pretrained(name, torch_dtype=torch.bfloat16, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(name, trust_remote_code=True)

inputs = processor(audio=audio_array, text="Describe what you hear in this audio.", return_tensors="pt")
outputs = model.generate(**inputs, max_new_tokens=256)
response = processor.decode(outputs[0], skip_special_tokens=True)
print(response)

print("\nThe answer alone:", processor.decode(outputs[0], skip_special_tokens=True, answer_only=True))
print("It ran on:", model.generated_on)

"""Makes transformers' Auto classes find ours."""

from __future__ import annotations

from audioflamingo.integrations.transformers.configuration import MODEL_TYPE, AudioFlamingo3Config
from audioflamingo.integrations.transformers.model import AudioFlamingo3ForConditionalGeneration, AudioFlamingo3Model
from audioflamingo.integrations.transformers.pipelines import register_pipeline
from audioflamingo.integrations.transformers.processor import AudioFlamingo3Processor
from audioflamingo.integrations.transformers.reference import (
    PROCESSOR_NAMES,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    AutoModelForSeq2SeqLM,
    AutoProcessor,
    register_tensor_names,
    tensor_names_of,
)


def register() -> None:
    """Register the classes; a second call changes nothing."""
    AutoConfig.register(MODEL_TYPE, AudioFlamingo3Config, exist_ok=True)
    AutoModel.register(AudioFlamingo3Config, AudioFlamingo3Model, exist_ok=True)
    for auto in (AutoModelForCausalLM, AutoModelForMultimodalLM, AutoModelForSeq2SeqLM):
        auto.register(AudioFlamingo3Config, AudioFlamingo3ForConditionalGeneration, exist_ok=True)
    AutoProcessor.register(AudioFlamingo3Config, AudioFlamingo3Processor, exist_ok=True)
    # The hub's names of tensors are mapped for classes outside transformers only where somebody asks for it.
    register_tensor_names(MODEL_TYPE, tensor_names_of(MODEL_TYPE), overwrite=True)
    # Checkpoints name their processor's class, and names of transformers' own table win over registered ones.
    PROCESSOR_NAMES.pop(MODEL_TYPE, None)
    register_pipeline()

"""All that we take from transformers, in one place, and without its types: these change with every release.

A name that a version lacks shows here, at import, and not in the middle of a run.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_transformers: Any = import_module("transformers")
_conversion: Any = import_module("transformers.conversion_mapping")
_outputs: Any = import_module("transformers.modeling_outputs")
_any_to_any: Any = import_module("transformers.pipelines.any_to_any")
_pipelines: Any = import_module("transformers.pipelines")
_processors: Any = import_module("transformers.models.auto.processing_auto")

AutoConfig: Any = _transformers.AutoConfig
AutoModel: Any = _transformers.AutoModel
AutoModelForCausalLM: Any = _transformers.AutoModelForCausalLM
AutoModelForMultimodalLM: Any = _transformers.AutoModelForMultimodalLM
AutoModelForSeq2SeqLM: Any = _transformers.AutoModelForSeq2SeqLM
AutoProcessor: Any = _transformers.AutoProcessor
BatchFeature: Any = _transformers.BatchFeature
PreTrainedConfig: Any = _transformers.PreTrainedConfig

ReferenceConfig: Any = _transformers.AudioFlamingo3Config
ReferenceEncoder: Any = _transformers.AudioFlamingo3Encoder
ReferenceForConditionalGeneration: Any = _transformers.AudioFlamingo3ForConditionalGeneration
ReferenceModel: Any = _transformers.AudioFlamingo3Model
ReferenceProcessor: Any = _transformers.AudioFlamingo3Processor

BaseModelOutputWithPooling: Any = _outputs.BaseModelOutputWithPooling

PROCESSOR_NAMES: Any = _processors.PROCESSOR_MAPPING_NAMES
"""Model types to names of processors in transformers itself."""

AnyToAnyPipeline: Any = _any_to_any.AnyToAnyPipeline
Chat: Any = _any_to_any.Chat
ReturnType: Any = _any_to_any.ReturnType
PIPELINES: Any = _pipelines.PIPELINE_REGISTRY
"""What `pipeline(...)` knows of tasks."""

tensor_names_of: Any = _conversion.get_checkpoint_conversion_mapping
register_tensor_names: Any = _conversion.register_checkpoint_conversion_mapping

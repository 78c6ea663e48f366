"""`pipeline("audio-text-to-text")`, the task that the hub files this model under and transformers itself does not have.

It takes and gives what transformers' "any-to-any" does, with two differences: sounds are read by this package, so that
librosa is not needed, and the answer comes without the prompt unless `return_full_text=True` asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audioflamingo.errors import PromptError
from audioflamingo.integrations.transformers.processor import AudioFlamingo3Processor
from audioflamingo.integrations.transformers.reference import (
    PIPELINES,
    AnyToAnyPipeline,
    AutoModelForMultimodalLM,
    Chat,
    ReturnType,
)
from audioflamingo.integrations.transformers.rows import is_formatted

TASK = "audio-text-to-text"
_RETURN_OPTIONS = ("return_full_text", "return_tensors", "return_type")


class AudioTextToTextPipeline(AnyToAnyPipeline):  # type: ignore[misc]
    """Questions about sounds: chats, `text=` with `audio=`, or mappings of both."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Not the parent's own, which in some versions wants librosa.
        super(AnyToAnyPipeline, self).__init__(*args, **kwargs)

    def preprocess(self, inputs: Any = None, **options: Any) -> Any:
        """One input, or a list of equals, to what the model takes.

        Raises:
            FlamingoError: texts and sounds cannot be used; see the processor.
        """
        if isinstance(inputs, Chat) or not isinstance(self.processor, AudioFlamingo3Processor):
            return super().preprocess(inputs, **options)
        given = dict(inputs) if isinstance(inputs, Mapping) else {"text": inputs}
        text = given.pop("text", None)
        if text is None:
            raise PromptError("a sound came without a text; give the question as text=..., or a chat")
        further = options.pop("processor_kwargs", None) or {}
        options.pop("continue_final_message", None)  # of chats
        chosen = {**options, **further}
        if isinstance(text, str) and not is_formatted(text):
            chosen.setdefault("as_chat", True)
        model_inputs = self.processor(text=text, **given, **chosen).to(dtype=self.dtype)
        model_inputs["text"] = text
        return model_inputs

    def _sanitize_parameters(self, **options: Any) -> Any:
        is_text = options.get("generation_mode") in (None, "text")
        if is_text and all(options.get(name) is None for name in _RETURN_OPTIONS):
            chosen = getattr(self, "_postprocess_params", {})
            options["return_type"] = chosen.get("return_type", ReturnType.NEW_TEXT)
        return super()._sanitize_parameters(**options)


def register_pipeline() -> None:
    """Let `pipeline(...)` know the task, unless transformers has come to know it itself."""
    if TASK in PIPELINES.get_supported_tasks():
        return
    PIPELINES.register_pipeline(
        TASK, pipeline_class=AudioTextToTextPipeline, pt_model=(AutoModelForMultimodalLM,), type="multimodal"
    )
    # Otherwise `save_pretrained` of a pipeline would write a copy of this file into the checkpoint.
    del AudioTextToTextPipeline._registered_impl

"""transformers' processor for Audio Flamingo 3 that takes what people have: any sounds, any rate, plain questions."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from audioflamingo.audio import NUM_MEL_BINS, limit, num_audio_tokens
from audioflamingo.config import WINDOW_S
from audioflamingo.errors import AudioError, CheckpointError, PromptError
from audioflamingo.integrations.transformers import loader
from audioflamingo.integrations.transformers.conversations import Conversation, normalised, template_messages
from audioflamingo.integrations.transformers.features import features_of
from audioflamingo.integrations.transformers.labels import LabelScope, assistant_mask, labels_of
from audioflamingo.integrations.transformers.loading import located
from audioflamingo.integrations.transformers.options import CALL_OPTIONS, Settings, settings_of
from audioflamingo.integrations.transformers.reference import BatchFeature, ReferenceProcessor
from audioflamingo.integrations.transformers.rows import (
    Row,
    check_message,
    check_placeholders,
    is_formatted,
    rows_of,
)
from audioflamingo.integrations.transformers.sources import as_audio, is_one_sound
from audioflamingo.prompt import strip_transcription
from audioflamingo.tokenizer import IM_END, IM_START
from audioflamingo.types import SAMPLE_RATE_HZ, Audio

ANSWER_OPENING = f"{IM_START}assistant\n"
_log = logging.getLogger(__name__)


class AudioFlamingo3Processor(ReferenceProcessor):  # type: ignore[misc]
    """Texts and sounds to model inputs, and tokens back to text."""

    def __init__(
        self,
        feature_extractor: Any,
        tokenizer: Any,
        chat_template: Any = None,
        audio_token: str = "<sound>",
        default_transcription_prompt: str = "Transcribe the input speech.",
        max_audio_len: int = 600,
    ) -> None:
        super().__init__(
            feature_extractor, tokenizer, chat_template, audio_token, default_transcription_prompt, max_audio_len
        )
        if getattr(feature_extractor, "feature_size", NUM_MEL_BINS) != NUM_MEL_BINS:
            raise CheckpointError(
                f"the feature extractor has {feature_extractor.feature_size} mel bins, expected {NUM_MEL_BINS}; use "
                "the preprocessor files of an Audio Flamingo 3 checkpoint"
            )

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Load the processor of a checkpoint: a folder or a hub id, see transformers; or "nano"."""
        return super().from_pretrained(located(name), *args, **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = "AutoProcessor") -> None:
        """Nothing: our checkpoints carry a loader that imports this package, not copies of its source."""

    def to_dict(self) -> dict[str, Any]:
        """What processor_config.json holds; it names the loader."""
        return {**super().to_dict(), "auto_map": dict(loader.PROCESSOR_MAP)}

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Write what transformers and this package load, and the loader for `trust_remote_code=True`."""
        loader.write(save_directory)
        # A call with truncation or padding leaves these in the tokenizer, and its file would cut texts for ever after.
        self.tokenizer.backend_tokenizer.no_truncation()
        self.tokenizer.backend_tokenizer.no_padding()
        return super().save_pretrained(save_directory, *args, **kwargs)

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        audio: Any = None,
        output_labels: bool = False,
        **options: Any,
    ) -> Any:
        """Make the model's inputs.

        A text that is a plain question becomes the user's message in the chat format, its sounds first, whenever the
        call has sounds. A text with `<sound>` or marks of the chat format is a written-out prompt and stays as it is.

        Args:
            text: one text or several; None gives features alone.
            audio: one sound, several for one text, or a list with one entry a text: a sound, a list of them or None.
                A sound is a (N,) floating array or tensor, a path, an address, the bytes of a file, an `Audio`, or a
                mapping with `array` and `sampling_rate`.
            output_labels: whether to add labels for training.
            options: those of `Settings`, and the tokenizer's, flat or in `text_kwargs`, `audio_kwargs` and
                `common_kwargs`.

        Returns:
            A BatchFeature: `input_ids` and `attention_mask` (B, T), padded on the left; where there are sounds,
            `input_features` (W, 128, 3000) float32 and `input_features_mask` (W, 3000); `labels` (B, T) if asked for.

        Raises:
            FlamingoError: sounds, texts or options cannot be used or do not fit together; see the message.
        """
        settings = settings_of(options)
        if text is None:
            if audio is None:
                raise PromptError("neither text nor audio came; give at least one of them")
            sources = [audio] if is_one_sound(audio) else list(audio)
            return BatchFeature(self._features(self._load(sources, settings), settings))
        rows = [self._written(row, settings, audio is not None) for row in rows_of(text, audio)]
        check_placeholders(rows)
        audios = self._load([source for row in rows for source in row.sources], settings)
        inputs = self._encode([self._expanded(row, waiting) for waiting in [iter(audios)] for row in rows], settings)
        self._check_lengths(inputs, audios, settings)
        if output_labels:
            inputs["labels"] = self._labels(inputs, settings.label_scope)
        return BatchFeature({**inputs, **(self._features(audios, settings) if audios else {})})

    def apply_chat_template(
        self,
        conversation: Conversation | Sequence[Conversation],
        chat_template: str | None = None,
        *,
        tokenize: bool = False,
        return_dict: bool = False,
        return_assistant_tokens_mask: bool = False,
        return_tensors: str | None = None,
        processor_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """Write conversations out, with any number of sounds at any turn.

        Args:
            conversation: messages, or a list of conversations. Contents are strings or lists of items; a sound is
                `{"type": "audio", "audio" or "path" or "url": source}`.
            chat_template: another template than the checkpoint's.
            tokenize: whether to give the model's inputs and not the text.
            return_dict: whether to give all of them and not the ids alone.
            return_assistant_tokens_mask: whether to add `assistant_masks` (B, T), 1 at the assistant's words.
            return_tensors: "pt" or None; both give tensors.
            processor_kwargs: options of `__call__`.
            options: more of these, and what the template takes, such as `add_generation_prompt`.

        Raises:
            FlamingoError: sounds, messages or options cannot be used or do not fit together; see the message.
        """
        conversations, is_batch = normalised(conversation)
        template_options, call_options = _split_options({**(processor_kwargs or {}), **options})
        rate = settings_of(call_options).sampling_rate
        written, sounds = [], []
        for one in conversations:
            messages, audios = template_messages(one, rate, loads=tokenize)
            written.append(messages)
            sounds.append(list(audios) or None)
        texts = super().apply_chat_template(written, chat_template, tokenize=False, **template_options)
        if not tokenize:
            return texts if is_batch else texts[0]
        if return_tensors is not None:
            call_options["return_tensors"] = return_tensors
        audio = sounds if any(sounds) else None
        inputs = self(text=texts, audio=audio, **{**call_options, "as_chat": False})
        if return_assistant_tokens_mask:
            inputs["assistant_masks"] = self._answers(inputs["input_ids"]).long()
        return inputs if return_dict else inputs["input_ids"]

    def apply_transcription_request(
        self, audio: Any, prompt: str | Sequence[str | None] | None = None, tokenize: bool = True, **options: Any
    ) -> Any:
        """Inputs that ask for the words spoken in each sound.

        Args:
            audio: a sound or a list of sounds.
            prompt: what to ask instead of the usual, for all or one a sound.
            tokenize: whether to give the model's inputs and not the texts.
            options: see `__call__`.

        Raises:
            PromptError: there is no sound, or another number of prompts.
        """
        sounds = [audio] if is_one_sound(audio) else list(audio or ())
        prompts = [prompt] * len(sounds) if prompt is None or isinstance(prompt, str) else list(prompt)
        if not sounds or len(prompts) != len(sounds):
            raise PromptError(f"{len(prompts)} prompt(s) for {len(sounds)} sound(s); give one each, or one for all")
        conversations = [
            [{"role": "user", "content": [{"type": "audio", "audio": sound}, {"type": "text", "text": asked}]}]
            for sound, asked in zip(sounds, (p or self.default_transcription_prompt for p in prompts), strict=True)
        ]
        return self.apply_chat_template(
            conversations, tokenize=tokenize, add_generation_prompt=True, return_dict=True, **options
        )

    def decode(self, *args: Any, strip_prefix: bool = False, answer_only: bool = False, **kwargs: Any) -> Any:
        """Text of tokens, see the tokenizer.

        Args:
            args: as the tokenizer has them; rows or a single row.
            strip_prefix: whether to leave out the model's introduction to a transcript.
            answer_only: whether to leave out the prompt, up to where the assistant's last message opens.
            kwargs: as the tokenizer has them.
        """
        if answer_only:
            args = (self._answer_ids(args[0]), *args[1:])
        decoded = self.tokenizer.decode(*args, **kwargs)
        if not strip_prefix:
            return decoded
        return strip_transcription(decoded) if isinstance(decoded, str) else [*map(strip_transcription, decoded)]

    def batch_decode(self, *args: Any, **kwargs: Any) -> Any:
        """`decode` for rows."""
        return self.decode(*args, **kwargs)

    def _written(self, row: Row, settings: Settings, has_sounds: bool) -> Row:
        """The row with its text in the chat format, if it is a plain question."""
        as_chat = settings.as_chat
        if as_chat is None:
            as_chat = has_sounds and not is_formatted(row.text)
        if not as_chat:
            return row
        check_message(row.text)
        stand_ins = [{"type": "audio", "audio": index} for index in range(len(row.sources))]
        conversation = [{"role": "user", "content": [*stand_ins, {"type": "text", "text": row.text}]}]
        messages, order = template_messages(conversation, SAMPLE_RATE_HZ, loads=False)
        text = super().apply_chat_template([messages], tokenize=False, add_generation_prompt=True)[0]
        return replace(row, text=text, sources=tuple(row.sources[index] for index in order))

    def _load(self, sources: Sequence[Any], settings: Settings) -> list[Audio]:
        audios = []
        for number, source in enumerate(sources, start=1):
            audio = as_audio(source, settings.sampling_rate, f"audio {number}")
            windows = max(1, int(self.max_audio_len // WINDOW_S))
            if settings.long_audio == "error" and audio.duration_s > windows * WINDOW_S:
                raise AudioError(
                    f"{audio.name} is {_seconds(audio.duration_s)} s; the model takes at most {windows * WINDOW_S} s. "
                    "Pass long_audio='truncate' to keep its beginning, or give its parts as several sounds"
                )
            parts = limit(audio, max_windows=windows, long_audio=settings.long_audio)
            for note in parts.notes:
                _log.warning("%s", note)
            audios.append(parts.parts[0][0])
        return audios

    def _features(self, audios: Sequence[Audio], settings: Settings) -> dict[str, torch.Tensor]:
        features, mask = features_of(audios, settings.device)
        return {"input_features": features, "input_features_mask": mask}

    def _expanded(self, row: Row, waiting: Any) -> str:
        """The row's text with each placeholder once per audio token of its sound."""
        first, *rest = row.text.split(self.audio_token)
        counts = (num_audio_tokens(len(next(waiting).samples)) for _ in rest)
        return first + "".join(self.audio_token * count + piece for count, piece in zip(counts, rest, strict=True))

    def _encode(self, texts: list[str], settings: Settings) -> dict[str, Any]:
        inputs = dict(self.tokenizer(texts, **settings.tokenizer_options))
        if settings.return_mm_token_type_ids:
            inputs["mm_token_type_ids"] = torch.tensor(self.create_mm_token_type_ids(inputs["input_ids"]))
        return inputs

    def _check_lengths(self, inputs: Mapping[str, Any], audios: Sequence[Audio], settings: Settings) -> None:
        ids, most = inputs["input_ids"], settings.max_prompt_tokens
        num_audio = sum(num_audio_tokens(len(audio.samples)) for audio in audios)
        kept = int((ids == self.audio_token_id).sum())
        if kept != num_audio:
            raise PromptError(f"truncation cut {num_audio - kept} audio tokens off; raise max_length or leave it out")
        longest = int(inputs["attention_mask"].sum(-1).max())
        if longest > most:
            raise PromptError(
                f"a text takes {longest:,} tokens with its sounds; at most {most:,} fit. Shorten the sounds or the "
                "text, or raise max_prompt_tokens where the model has more positions"
            )

    def _labels(self, inputs: Mapping[str, Any], scope: LabelScope) -> torch.Tensor:
        ids = inputs["input_ids"]
        if scope == "reference":
            return labels_of(ids, inputs["attention_mask"], None, (self.audio_token_id, self.tokenizer.pad_token_id))
        learned = self._answers(ids)
        silent = (~learned.any(-1)).nonzero().flatten().tolist()
        if silent:
            raise PromptError(
                f"text {silent[0] + 1} has no message of the assistant, so there is nothing to learn; write one into "
                "it, or pass label_scope='reference' to learn all of the text"
            )
        return labels_of(ids, inputs["attention_mask"], learned, (self.audio_token_id,))

    def _answers(self, ids: torch.Tensor) -> torch.Tensor:
        opening = self.tokenizer.encode(ANSWER_OPENING, add_special_tokens=False)
        return assistant_mask(ids, opening, self.tokenizer.convert_tokens_to_ids(IM_END))

    def _answer_ids(self, rows: Any) -> Any:
        ids = torch.as_tensor(rows)
        opening = self.tokenizer.encode(ANSWER_OPENING, add_special_tokens=False)
        answers = [_after_last(row.tolist(), opening) for row in (ids if ids.ndim == 2 else ids[None])]
        return answers if ids.ndim == 2 else answers[0]


def _seconds(duration_s: float) -> str:
    """Rounded, but never to a whole number that it is not."""
    short = f"{duration_s:g}"
    return short if float(short) == duration_s or "." in short else f"{duration_s:.4f}"


def _after_last(ids: list[int], opening: list[int]) -> list[int]:
    size = len(opening)
    for start in range(len(ids) - size, -1, -1):
        if ids[start : start + size] == opening:
            return ids[start + size :]
    return ids


def _split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the template and options of the call."""
    of_call = {name: value for name, value in options.items() if name in CALL_OPTIONS}
    return {name: value for name, value in options.items() if name not in CALL_OPTIONS}, of_call

"""Our own voice at work: units of text to sound, each as soon as it is complete.

Phones of a unit -> durations -> subframes -> codec frames -> samples. A codec frame that two units share waits for the
second, so that the sound does not depend on how the text came; `flush` fills the last one with silence.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from audioflamingo.model.threads import threads_for
from audioflamingo.speech.codec import (
    CODEC_FRAME_SAMPLES,
    FSQ,
    HOP_SAMPLES,
    SUBFRAMES,
    WaveDecoder,
)
from audioflamingo.speech.known_words import known_words
from audioflamingo.speech.mels import SILENT_FEATURE, mels_of_frames
from audioflamingo.speech.model import SpeechConfig, SpeechModel, expand, layers
from audioflamingo.speech.phones import PAUSE_ID, PHONE_IDS, PHONES, VOWELS
from audioflamingo.speech.polish import Polish
from audioflamingo.speech.pronounce import Pronouncer
from audioflamingo.speech.stream import SPEECH_RATE_HZ
from audioflamingo.speech.streaming import StreamState
from audioflamingo.speech.text_units import Unit
from audioflamingo.speech.voice import Sound, Utterance

SUBFRAME_MS = 1000 * HOP_SAMPLES / SPEECH_RATE_HZ
MAX_PHONE_SUBFRAMES = 40
MAX_LOG_DURATION = 6.0
CLOSING_MS = 80  # of silence, in which the last sound dies away
ARTICLE, ARTICLE_BEFORE_VOWEL = "the", [PHONE_IDS["dh"], PHONE_IDS["iy0"]]


class OwnVoice(nn.Module):
    """All parts that speak: pronunciation, the speech model, and the decoder to sound."""

    def __init__(
        self, config: SpeechConfig, voice_names: tuple[str, ...], *, pronouncer: Pronouncer | None = None
    ) -> None:
        super().__init__()
        assert len(voice_names) == config.num_voices
        self.config, self.voice_names = config, voice_names
        self.pronouncer = pronouncer or Pronouncer(layers(128, 3, 4, 256))
        self.model = SpeechModel(config)
        self.quantiser = FSQ(config.codec)
        self.wave_decoder = WaveDecoder(config.codec, config.feature_width)
        self.polish = Polish() if config.target == "mel" else None
        self.polished: tuple[str, ...] = ()  # voices that it makes clearer; measured, not guessed

    def polish_of(self, index: int) -> Polish | None:
        """What polishes a voice's sound, if anything does."""
        return self.polish if self.voice_names[index] in self.polished else None

    def delay(self, index: int) -> int:
        """Samples by which a voice's sound comes late."""
        polish = self.polish_of(index)
        return self.wave_decoder.delay + (0 if polish is None else polish.delay)

    def sound(self, features: Tensor, index: int, state: StreamState) -> Tensor:
        """(B, feature width, T) of the speech model to (B, 960 T) samples, `delay` late."""
        late: Tensor = self.wave_decoder(features, state)
        polish = self.polish_of(index)
        return late if polish is None else polish(late, mels_of_frames(features), state)

    def last_sound(self, index: int, state: StreamState) -> Tensor:
        """(1, `delay`) samples that are still to come when no more features do."""
        num_frames = -(-self.delay(index) // CODEC_FRAME_SAMPLES)
        silence = self.quantiser.levels.new_zeros(1, self.config.feature_width, num_frames, dtype=torch.float32)
        late: Tensor = self.wave_decoder(silence, state)
        if (polish := self.polish_of(index)) is not None:
            late = polish(late, mels_of_frames(torch.full_like(silence, SILENT_FEATURE)), state)
        return late[:, : self.delay(index)]


class Synthesis:
    """One stream of speech. Enter it with `with`; leaving it frees its memory.

    Args:
        voice: whose parts are used.
        voice_index: which of its voices speaks.
        rate: speed relative to the voice's own.

    Attributes:
        words_end: sample of the whole sound at which the last phones of `feed` end, their pause not counted. What
            `feed` returns ends before it: sound comes late, and a codec frame may be shared with what follows.
    """

    def __init__(self, voice: OwnVoice, voice_index: int = 0, rate: float = 1.0) -> None:
        self._voice, self._rate = voice, rate
        self._model = voice.model
        self._device = next(voice.parameters()).device
        self._voices = torch.tensor([voice_index], device=self._device)
        self._state = StreamState()
        self._pending = torch.zeros(1, 0, voice.config.text.width, device=self._device)
        self._past = torch.zeros(1, voice.config.codec.code_width, 1, device=self._device)
        self._num_units = 0
        self._num_subframes = 0
        self.words_end = 0
        self._index = voice_index
        self._num_late = voice.delay(voice_index)  # samples at the start that belong to nothing

    def __enter__(self) -> Synthesis:
        self._state.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._state.__exit__(None, None, None)

    @torch.inference_mode()
    def feed(self, phones: list[int], pause_ms: float = 0.0, durations: list[int] | None = None) -> Tensor:
        """Speak one unit.

        Args:
            phones: ids; may be empty where there is only a pause.
            pause_ms: silence after them.
            durations: in subframes, of the phones and, where there is one, of the pause; predicted by default.

        Returns:
            (N,) float32 samples that are ready.
        """
        pause = [PAUSE_ID] if pause_ms > 0 else []
        if not phones + pause:
            return torch.zeros(0, device=self._device)
        ids = torch.tensor([phones + pause], device=self._device)
        units = torch.full_like(ids, self._num_units)
        self._num_units += 1
        hidden = self._model.read(ids, self._voices, units, self._state)
        chosen = self._durations(hidden, pause_ms) if durations is None else torch.tensor([durations])
        chosen = chosen.to(self._device)
        index, since, until = expand(chosen, int(chosen.sum()))
        self.words_end = (self._num_subframes + int(chosen[:, : len(phones)].sum())) * HOP_SAMPLES
        self._num_subframes += int(chosen.sum())
        subframes = torch.take_along_dim(hidden, index[..., None], dim=1) + self._model.place(since, until)
        self._pending = torch.cat([self._pending, subframes], dim=1)
        return self._speak_pending()

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """The rest of the sound; ends the stream."""
        first = self.feed([], CLOSING_MS)
        missing = -self._pending.shape[1] % SUBFRAMES
        if missing:
            self._pending = torch.cat([self._pending, self._pending[:, -1:].expand(-1, missing, -1)], dim=1)
        last = self._speak_pending()
        return torch.cat([first, last, self._on_time(self._voice.last_sound(self._index, self._state)[0])])

    def _durations(self, hidden: Tensor, pause_ms: float) -> Tensor:
        predicted = self._model.log_durations(hidden).clamp(0, MAX_LOG_DURATION).expm1() / self._rate
        durations = predicted.round().clamp(1, MAX_PHONE_SUBFRAMES).long()
        if pause_ms > 0:  # by punctuation, not by the model: it is what the text says
            durations[:, -1] = max(1, round(pause_ms / self._rate / SUBFRAME_MS))
        return durations

    def _speak_pending(self) -> Tensor:
        num_frames = self._pending.shape[1] // SUBFRAMES
        if num_frames == 0:
            return torch.zeros(0, device=self._device)
        cut = num_frames * SUBFRAMES
        ready, self._pending = self._pending[:, :cut], self._pending[:, cut:]
        if self._model.history is None:
            out = self._model.speak(self._model.frame_input(ready, self._voices, None), self._state)
            features = out.transpose(1, 2)
        else:
            features = torch.cat([self._next_code(one) for one in torch.split(ready, SUBFRAMES, dim=1)], dim=2)
        return self._on_time(self._voice.sound(features, self._index, self._state)[0])

    def _next_code(self, subframes: Tensor) -> Tensor:
        """(1, K L, 1) levels of the next codec frame, the likeliest of each dimension."""
        x = self._model.frame_input(subframes, self._voices, self._past)
        logits = self._model.level_logits(self._model.speak(x, self._state))
        indices = torch.stack([one.argmax(-1) for one in logits], dim=-1)  # (1, 1, K, L)
        self._past = self._voice.quantiser.from_indices(indices.permute(0, 2, 3, 1))
        return self._past

    def _on_time(self, late: Tensor) -> Tensor:
        cut = min(self._num_late, len(late))
        self._num_late -= cut
        return late[cut:]


def frames_of(num_subframes: int) -> int:
    """Codec frames that hold so many subframes."""
    return -(-num_subframes // SUBFRAMES)


class OwnSpeaker:
    """Our voice behind the interface of all voices (`voice.Voice`)."""

    def __init__(self, voice: OwnVoice, voice_index: int = 0, rate: float = 1.0) -> None:
        self._voice, self._index, self._rate = voice.eval(), voice_index, rate
        known_words()  # read now and not before the first word

    @property
    def name(self) -> str:
        """See `Voice`."""
        return f"flamingo {self._voice.voice_names[self._index]}"

    @property
    def voice_names(self) -> tuple[str, ...]:
        """All that the same parts can speak with."""
        return self._voice.voice_names

    def variant(self, name: str | None = None, rate: float = 1.0) -> OwnSpeaker:
        """Another of its voices, or the same at another speed; the parts are shared, and nothing is loaded.

        Args:
            name: one of `voice_names`; None stays with this one.
            rate: speed relative to the voice's own.
        """
        return OwnSpeaker(self._voice, self._index if name is None else self._voice.voice_names.index(name), rate)

    def begin(self) -> Utterance:
        """See `Voice`."""
        return _Utterance(self._voice, Synthesis(self._voice, self._index, self._rate))


class _Utterance:
    def __init__(self, voice: OwnVoice, synthesis: Synthesis) -> None:
        self._pronouncer, self._synthesis = voice.pronouncer, synthesis
        self._source_end = 0  # of the text that was heard whole
        self._waiting: deque[tuple[int, int]] = deque()  # units: where in the sound they end, and where in the text
        self._num_samples = 0
        self._has_spoken = False
        self._has_held = False  # a "the" that waits for the word after it
        self._held_end: int | None = None  # and what of the text is said with it
        self._device = next(voice.parameters()).device
        self._frame_flops = 2 * sum(one.numel() for one in voice.parameters())
        synthesis.__enter__()

    def feed(self, unit: Unit) -> Iterator[Sound]:
        last = len(unit.words) - 1
        for number, word in enumerate(unit.words):
            pause_ms, source_end = (unit.pause_ms, unit.source_end) if number == last else (0, None)
            phones = self._phones(word)
            yield from self._held_word(phones)
            self._has_spoken = True
            if word == ARTICLE and not pause_ms:
                self._has_held, self._held_end = True, source_end
            else:
                yield self._word(phones, pause_ms, source_end)
        if not unit.words:
            yield from self._held_word([])
            if unit.pause_ms and self._has_spoken:  # silence alone is nothing to hear
                yield self._word([], unit.pause_ms, unit.source_end)
            else:
                self._waiting.append((self._synthesis.words_end, unit.source_end))

    def flush(self) -> Iterator[Sound]:
        yield from self._held_word([])
        if self._has_spoken:
            with threads_for(self._frame_flops, self._device, is_step=True):
                samples = self._synthesis.flush()
                self._waiting = deque((0, source_end) for _, source_end in self._waiting)
                last = self._sound(samples)
            yield last
        self._synthesis.__exit__()

    def _phones(self, word: str) -> list[int]:
        with threads_for(self._frame_flops, self._device, is_step=True):
            return self._pronouncer.phones(word)

    def _held_word(self, follower: list[int]) -> Iterator[Sound]:
        """The "the" that waited for the phones of its next word: before a vowel it is said otherwise."""
        if self._has_held:
            self._has_held = False
            is_vowel = PHONES[follower[0]].rstrip("01") in VOWELS if follower else False
            yield self._word(ARTICLE_BEFORE_VOWEL if is_vowel else self._phones(ARTICLE), 0, self._held_end)

    def _word(self, phones: list[int], pause_ms: float, source_end: int | None) -> Sound:
        # A word of a small voice is many tiny pieces: on a busy machine, two threads that wait for each other turn
        # tens of milliseconds into seconds. Around one word only, never around a yield, which the caller would be in.
        with threads_for(self._frame_flops, self._device, is_step=True):
            samples = self._synthesis.feed(phones, pause_ms)
            if source_end is not None:
                self._waiting.append((self._synthesis.words_end, source_end))
            return self._sound(samples)

    def _sound(self, samples: Tensor) -> Sound:
        self._num_samples += len(samples)
        while self._waiting and self._waiting[0][0] <= self._num_samples:
            self._source_end = self._waiting.popleft()[1]
        return Sound(samples.float().cpu().numpy().astype(np.float32), self._source_end)


assert CODEC_FRAME_SAMPLES == SUBFRAMES * HOP_SAMPLES

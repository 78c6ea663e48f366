"""What a client chose for its session or for one response, read from either dialect's shape and written back in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from audioflamingo.server.realtime.events import Dialect, EventError, Fields, shown
from audioflamingo.speech.engines import MAX_RATE, MIN_RATE
from audioflamingo.speech.stream import SPEECH_RATE_HZ

PCM = "pcm16"
DEFAULT_TURN_TEXT = "What do you hear?"
MAX_INSTRUCTION_CHARS = 16_384
MAX_TURN_TEXT_CHARS = 2_048
MARGIN_DB_AT_ONE = 18.0  # of the energy detector at threshold 1; its own 9 dB are the usual 0.5


@dataclass(frozen=True)
class Detection:
    """How the end of a spoken turn is found.

    Attributes:
        threshold: 0 to 1; how far speech must stand out of the noise, 9 dB at 0.5.
        prefix_padding_ms: sound kept from before the speech.
        silence_duration_ms: that ends a turn.
        create_response: whether a turn is answered at once.
        interrupt_response: whether speech stops the answer.
    """

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500
    create_response: bool = True
    interrupt_response: bool = True

    @property
    def margin_db(self) -> float:
        """The energy detector's margin."""
        return max(1.0, self.threshold * MARGIN_DB_AT_ONE)


@dataclass(frozen=True)
class Settings:
    """A session's settings, by the first dialect's names.

    Attributes:
        model: its name, which cannot be changed.
        voices: names of the server's voices; none where it cannot speak.
        voice: which of them speaks; None where there is none.
        speed: of speech, relative to the voice's own.
        instructions: the system message; empty leaves the model's own.
        modalities: "text", and "audio" where answers are spoken.
        turn_text: said to the model with a spoken turn that has no text beside it.
        turn_detection: None: the client commits.
        transcription: the client's wish to read its own words; None: none.
        temperature: of answers; None is the model's own.
        max_tokens: of an answer; None is the model's own.
    """

    model: str
    voices: tuple[str, ...] = ()
    voice: str | None = None
    speed: float = 1.0
    instructions: str = ""
    modalities: tuple[str, ...] = ("text",)
    turn_text: str = DEFAULT_TURN_TEXT
    turn_detection: Detection | None = Detection()
    transcription: Mapping[str, Any] | None = None
    temperature: float | None = None
    max_tokens: int | None = None

    @property
    def is_spoken(self) -> bool:
        """Whether answers are heard."""
        return "audio" in self.modalities

    @property
    def options(self) -> dict[str, Any]:
        """For the model; see `Options`."""
        chosen = {"temperature": self.temperature, "max_new_tokens": self.max_tokens}
        return {name: value for name, value in chosen.items() if value is not None}

    def updated(self, fields: Fields) -> Settings:
        """With what a `session.update`, or a `response.create`, holds.

        Raises:
            EventError: something in it is unknown, not allowed, or not to be had here.
        """
        settings = self
        for key, value in _flat(fields).items():
            read = _READERS.get(key)
            if read is None:
                known = ", ".join(_READERS)
                raise EventError(
                    f"{fields.name(key)} is not known here; allowed: {known}", "unknown_parameter", fields.name(key)
                )
            settings = read(settings, Fields({key: value}, fields.place), key)
        return settings

    def described(self, dialect: Dialect) -> dict[str, Any]:
        """The session as a dialect writes it, but for its id."""
        detection = None if self.turn_detection is None else {"type": "server_vad", **asdict(self.turn_detection)}
        shared = {
            "object": "realtime.session",
            "model": self.model,
            "instructions": self.instructions,
            "tools": [],
            "tool_choice": "auto",
            "turn_text": self.turn_text,
        }
        if dialect == "ga":
            return {
                **shared,
                "type": "realtime",
                "audio": {
                    "input": {"format": _pcm(), "transcription": self.transcription, "turn_detection": detection,
                              "noise_reduction": None},
                    "output": {"format": _pcm(), "voice": self.voice, "speed": self.speed},
                },
                "temperature": self.temperature,
                **self.answer_described(dialect),
            }  # fmt: skip
        return {
            **shared,
            "voice": self.voice,
            "speed": self.speed,
            "input_audio_format": PCM,
            "output_audio_format": PCM,
            "input_audio_transcription": self.transcription,
            "turn_detection": detection,
            "modalities": list(self.modalities),
            "temperature": self.temperature,
            "max_response_output_tokens": self.max_tokens or "inf",
        }

    def answer_described(self, dialect: Dialect) -> dict[str, Any]:
        """The part that stands in a response, too."""
        most = self.max_tokens or "inf"
        if dialect == "ga":
            return {"output_modalities": ["audio" if self.is_spoken else "text"], "max_output_tokens": most}
        return {
            "modalities": list(self.modalities),
            "voice": self.voice,
            "output_audio_format": PCM,
            "temperature": self.temperature,
            "max_output_tokens": most,
        }


def _pcm() -> dict[str, Any]:
    return {"type": "audio/pcm", "rate": SPEECH_RATE_HZ}


def _flat(fields: Fields) -> dict[str, Any]:
    """The second dialect's nested audio settings by the first one's names."""
    flat = {key: value for key, value in fields.values.items() if key != "audio"}
    if "audio" not in fields:
        return flat
    audio = fields.inner("audio")
    audio.only(("input", "output"))
    for side, names in _NESTED.items():
        if side in audio:
            for key, value in audio.inner(side).values.items():
                flat[names.get(key, f"audio.{side}.{key}")] = value
    return flat


_NESTED = {
    "input": {
        "format": "input_audio_format",
        "transcription": "input_audio_transcription",
        "turn_detection": "turn_detection",
        "noise_reduction": "input_audio_noise_reduction",
    },
    "output": {"format": "output_audio_format", "voice": "voice", "speed": "speed"},
}


def _instructions(settings: Settings, fields: Fields, key: str) -> Settings:
    return replace(settings, instructions=fields.text(key, "", most=MAX_INSTRUCTION_CHARS))


def _turn_text(settings: Settings, fields: Fields, key: str) -> Settings:
    return replace(settings, turn_text=fields.text(key, "", most=MAX_TURN_TEXT_CHARS))


def _modalities(settings: Settings, fields: Fields, key: str) -> Settings:
    given = fields.values[key]
    allowed = (["text"], ["audio"], ["text", "audio"], ["audio", "text"])
    if given not in allowed:
        raise EventError(
            f'{fields.name(key)} is {shown(given)}; allowed: ["text"], ["audio"], ["text", "audio"]',
            param=fields.name(key),
        )
    if "audio" in given and not settings.voices:
        raise EventError(
            f"{fields.name(key)} asks for audio, but this server has no voice; ask for ['text']", param=fields.name(key)
        )
    return replace(settings, modalities=("text", "audio") if "audio" in given else ("text",))


def _voice(settings: Settings, fields: Fields, key: str) -> Settings:
    if fields.values[key] is None:
        return settings
    if not settings.voices:
        raise EventError(f"{fields.name(key)}: this server has no voice; leave it out", param=fields.name(key))
    return replace(settings, voice=fields.one_of(key, settings.voices))


def _speed(settings: Settings, fields: Fields, key: str) -> Settings:
    return replace(settings, speed=fields.number(key, 1.0, low=MIN_RATE, high=MAX_RATE))


def _model(settings: Settings, fields: Fields, key: str) -> Settings:
    if fields.values[key] is not None:
        fields.one_of(key, [settings.model])
    return settings


def _format(settings: Settings, fields: Fields, key: str) -> Settings:
    given = fields.values[key]
    if given not in (None, PCM) and given not in ({"type": "audio/pcm"}, _pcm()):
        raise EventError(
            f"{fields.name(key)} is {shown(given)}; allowed: {PCM!r}, or {_pcm()}: 16 bits, mono",
            param=fields.name(key),
        )
    return settings


def _transcription(settings: Settings, fields: Fields, key: str) -> Settings:
    if fields.values[key] is None:
        return replace(settings, transcription=None)
    inner = fields.inner(key)
    inner.only(("model", "language"))
    wish = {"model": inner.text("model", settings.model, most=200)}
    if "language" in inner:
        wish["language"] = inner.text("language", most=20)
    return replace(settings, transcription=wish)


def _detection(settings: Settings, fields: Fields, key: str) -> Settings:
    if fields.values[key] is None:
        return replace(settings, turn_detection=None)
    inner = fields.inner(key)
    inner.only(("type", *asdict(Detection())))
    inner.one_of("type", ("server_vad",), "server_vad")
    usual = settings.turn_detection or Detection()
    detection = Detection(
        threshold=inner.number("threshold", usual.threshold, low=0, high=1),
        prefix_padding_ms=round(inner.number("prefix_padding_ms", usual.prefix_padding_ms, low=1, high=5_000)),
        silence_duration_ms=round(inner.number("silence_duration_ms", usual.silence_duration_ms, low=100, high=10_000)),
        create_response=inner.flag("create_response", usual.create_response),
        interrupt_response=inner.flag("interrupt_response", usual.interrupt_response),
    )
    return replace(settings, turn_detection=detection)


def _temperature(settings: Settings, fields: Fields, key: str) -> Settings:
    if fields.values[key] is None:
        return replace(settings, temperature=None)
    return replace(settings, temperature=fields.number(key, low=0, high=2))


def _max_tokens(settings: Settings, fields: Fields, key: str) -> Settings:
    given = fields.values[key]
    if given in (None, "inf"):
        return replace(settings, max_tokens=None)
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise EventError(
            f"{fields.name(key)} is {shown(given)}; allowed: a whole number from 1, or 'inf'", param=fields.name(key)
        )
    return replace(settings, max_tokens=given)


def _fixed(*allowed: Any) -> Callable[[Settings, Fields, str], Settings]:
    """A field that is taken where it asks for what is done anyway."""

    def read(settings: Settings, fields: Fields, key: str) -> Settings:
        given = fields.values[key]
        if given not in allowed:
            raise EventError(
                f"{fields.name(key)} is {shown(given)}, which this server cannot do; allowed: "
                + ", ".join(map(repr, allowed)),
                param=fields.name(key),
            )
        return settings

    return read


_READERS: dict[str, Callable[[Settings, Fields, str], Settings]] = {
    "model": _model,
    "voice": _voice,
    "instructions": _instructions,
    "modalities": _modalities,
    "output_modalities": _modalities,
    "turn_text": _turn_text,
    "turn_detection": _detection,
    "input_audio_format": _format,
    "output_audio_format": _format,
    "input_audio_transcription": _transcription,
    "input_audio_noise_reduction": _fixed(None),
    "temperature": _temperature,
    "max_response_output_tokens": _max_tokens,
    "max_output_tokens": _max_tokens,
    "tools": _fixed(None, []),
    "tool_choice": _fixed(None, "auto", "none"),
    "speed": _speed,
    "include": _fixed(None, []),
    "prompt": _fixed(None),
    "tracing": _fixed(None, "auto"),
    "truncation": _fixed(None, "auto"),
    "type": _fixed("realtime"),
}

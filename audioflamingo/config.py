"""Shapes of the model, as dataclasses, and their two-way mapping to the released checkpoint's config.json.

Every rate is derived from literals here or in `types`; a figure is written once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import pi
from typing import Any, Literal, get_args

from audioflamingo.errors import CheckpointError

HOP_SAMPLES = 160  # 10 ms at 16 kHz
WINDOW_S = 30
MAX_WINDOWS = 20  # ten minutes
MEL_FRAMES_PER_WINDOW = 3_000
ENCODER_FRAMES_PER_WINDOW = 1_500  # conv2 has stride 2
AUDIO_TOKENS_PER_WINDOW = 750  # pooling by 2
MAX_PROMPT_TOKENS = 16_000  # the model card's budget
MAX_NEW_TOKENS = 1_024
MAX_LAYERS = 1_000  # bounds for what a config.json may ask for
MAX_SIZE = 1 << 24
MAX_FLOAT = 1e12
MUSIC_MODEL_TYPE = "musicflamingo"
VARIANT_KEY = "time_rotary_variant"  # ours; a config.json without it means transformers' form


@dataclass(frozen=True)
class EncoderConfig:
    """AF-Whisper: the encoder of Whisper large-v3 with pooling by two before the last norm (paper, section 3.1)."""

    width: int = 1280
    num_layers: int = 32
    num_heads: int = 20
    ffn_width: int = 5120
    num_mel_bins: int = 128
    max_positions: int = ENCODER_FRAMES_PER_WINDOW
    norm_eps: float = 1e-5


@dataclass(frozen=True)
class DecoderConfig:
    """Qwen2.5: grouped-query attention, rotary positions, SwiGLU, RMSNorm."""

    vocab_size: int = 151_672
    width: int = 3584
    num_layers: int = 28
    num_heads: int = 28
    num_kv_heads: int = 4
    head_dim: int = 128
    ffn_width: int = 18_944
    max_positions: int = 32_768
    rope_theta: float = 1_000_000.0
    norm_eps: float = 1e-6


TimeRotaryVariant = Literal["transformers", "nvidia"]


@dataclass(frozen=True)
class TimeRotaryConfig:
    """Rotary time embedding of Music Flamingo and Audio Flamingo Next, see `model.rotary_time`.

    Attributes:
        variant: which of the two published forms.
        theta: base of the rates.
        max_positions: what positions are divided by.
        share: of the encoder's channels, for each of the two axes.
    """

    variant: TimeRotaryVariant = "transformers"
    theta: float = 1200.0
    max_positions: float = 1200.0
    share: float = 0.2


@dataclass(frozen=True)
class ModelConfig:
    """The whole model.

    Attributes:
        encoder: AF-Whisper.
        decoder: Qwen2.5.
        audio_token_id: the placeholder of one audio token.
        sound_boundaries: ids that stand before and behind every sound (Music Flamingo), or None.
        time_rotary: rotary time embedding (Music Flamingo), or None.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    audio_token_id: int = 151_669
    sound_boundaries: tuple[int, int] | None = None
    time_rotary: TimeRotaryConfig | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Read a config.json of the transformers form.

        Raises:
            CheckpointError: the architecture is another one; all complaints at once.
        """
        complaints = _complaints(values)
        if complaints:
            raise CheckpointError("config.json is not an Audio Flamingo 3 configuration: " + "; ".join(complaints))
        decoder = _decoder_config(values["text_config"])
        return cls(
            encoder=_encoder_config(values["audio_config"]),
            decoder=decoder,
            audio_token_id=_audio_token_id(values, decoder.vocab_size),
            sound_boundaries=_sound_boundaries(values, decoder.vocab_size) if _is_music(values) else None,
            time_rotary=_time_rotary(values) if _is_music(values) else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """The config.json that transformers 5 reads."""
        encoder, decoder = self.encoder, self.decoder
        return {
            **self._family(),
            "audio_token_id": self.audio_token_id,
            "projector_bias": True,
            "projector_hidden_act": "gelu",
            "tie_word_embeddings": False,
            "audio_config": {
                "model_type": "audioflamingo3_encoder",
                "hidden_size": encoder.width,
                "num_hidden_layers": encoder.num_layers,
                "num_attention_heads": encoder.num_heads,
                "intermediate_size": encoder.ffn_width,
                "num_mel_bins": encoder.num_mel_bins,
                "max_source_positions": encoder.max_positions,
                "activation_function": "gelu",
                "scale_embedding": False,
            },
            "text_config": {
                "model_type": "qwen2",
                "vocab_size": decoder.vocab_size,
                "hidden_size": decoder.width,
                "num_hidden_layers": decoder.num_layers,
                "num_attention_heads": decoder.num_heads,
                "num_key_value_heads": decoder.num_kv_heads,
                "head_dim": decoder.head_dim,
                "intermediate_size": decoder.ffn_width,
                "max_position_embeddings": decoder.max_positions,
                "rms_norm_eps": decoder.norm_eps,
                "rope_parameters": {"rope_type": "default", "rope_theta": decoder.rope_theta},
                "hidden_act": "silu",
                "tie_word_embeddings": False,
                "use_sliding_window": False,
            },
        }

    def _family(self) -> dict[str, Any]:
        if self.time_rotary is None or self.sound_boundaries is None:
            return {"architectures": ["AudioFlamingo3ForConditionalGeneration"], "model_type": "audioflamingo3"}
        rotary = self.time_rotary
        return {
            "architectures": ["MusicFlamingoForConditionalGeneration"],
            "model_type": MUSIC_MODEL_TYPE,
            "audio_bos_token_id": self.sound_boundaries[0],
            "audio_eos_token_id": self.sound_boundaries[1],
            VARIANT_KEY: rotary.variant,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": rotary.max_positions,
                "partial_rotary_factor": rotary.share,
            },
        }

    def summary(self) -> dict[str, Any]:
        """Plain numbers, for `flamingo info`."""
        return asdict(self)


NANO = ModelConfig(
    encoder=EncoderConfig(width=256, num_layers=9, num_heads=4, ffn_width=1024),
    decoder=DecoderConfig(
        vocab_size=2048, width=256, num_layers=7, num_heads=4, num_kv_heads=2, head_dim=64, ffn_width=768
    ),
    audio_token_id=2045,
)
"""The embedded model's size: the same architecture in 14.5 million parameters."""


def _complaints(values: Mapping[str, Any]) -> list[str]:
    found = [f"{part} is missing" for part in ("audio_config", "text_config") if not _is_mapping(values.get(part))]
    if values.get("model_type") not in ("audioflamingo3", MUSIC_MODEL_TYPE):
        found.insert(0, f"model_type is {values.get('model_type')!r}, expected 'audioflamingo3' or 'musicflamingo'")
    return found or _differences(values, values["audio_config"], values["text_config"])


def _differences(values: Mapping[str, Any], audio: Mapping[str, Any], text: Mapping[str, Any]) -> list[str]:
    """Settings with which the same tensors would mean another model."""
    expected = (
        ("text_config.model_type", text.get("model_type", "qwen2"), "qwen2"),
        ("text_config.hidden_act", text.get("hidden_act", "silu"), "silu"),
        ("text_config.use_sliding_window", bool(text.get("use_sliding_window")), False),
        ("tie_word_embeddings", bool(text.get("tie_word_embeddings") or values.get("tie_word_embeddings")), False),
        ("rope type", _rope(text).get("rope_type") or _rope(text).get("type") or "default", "default"),
        ("audio_config.activation_function", audio.get("activation_function", "gelu"), "gelu"),
        ("audio_config.scale_embedding", bool(audio.get("scale_embedding")), False),
        ("projector_hidden_act", values.get("projector_hidden_act", "gelu"), "gelu"),
        ("projector_bias", values.get("projector_bias", True), True),
    )
    return [f"{name} is {came!r}, expected {allowed!r}" for name, came, allowed in expected if came != allowed]


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _rope(text: Mapping[str, Any]) -> Mapping[str, Any]:
    found = text.get("rope_parameters") or text.get("rope_scaling") or {}
    return found if isinstance(found, Mapping) else {"rope_type": found}


def _first(values: Mapping[str, Any], names: tuple[str, ...], default: Any) -> Any:
    for name in names:
        if values.get(name) is not None:
            return values[name]
    return default


def _size(values: Mapping[str, Any], *names: str, default: int | None = None, limit: int = MAX_SIZE) -> int:
    """The first of the names that is set: an integer from 1 to the limit. Without a default one of them must be set."""
    value = _first(values, names, default)
    if value is None:
        raise CheckpointError(f"config.json lacks {names[0]}")
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
        raise CheckpointError(f"{names[0]} in config.json is {value!r}; expected an integer from 1 to {limit}")
    return value


def _positive(name: str, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= MAX_FLOAT:
        raise CheckpointError(f"{name} in config.json is {value!r}; expected a positive number")
    return float(value)


def _audio_token_id(values: Mapping[str, Any], vocab_size: int) -> int:
    found = _first(values, ("audio_token_id", "audio_token_index"), ModelConfig.audio_token_id)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < vocab_size:
        raise CheckpointError(f"audio_token_id is {found!r}; expected an integer below the vocabulary's {vocab_size}")
    return found


def _is_music(values: Mapping[str, Any]) -> bool:
    return bool(values.get("model_type") == MUSIC_MODEL_TYPE)


def _sound_boundaries(values: Mapping[str, Any], vocab_size: int) -> tuple[int, int]:
    found = (values.get("audio_bos_token_id", 151_670), values.get("audio_eos_token_id", 151_671))
    if not all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one < vocab_size for one in found):
        raise CheckpointError(f"audio_bos and audio_eos ids are {found}; expected integers below {vocab_size}")
    return found


def _time_rotary(values: Mapping[str, Any]) -> TimeRotaryConfig:
    variant = values.get(VARIANT_KEY, "transformers")
    if variant not in get_args(TimeRotaryVariant):
        raise CheckpointError(f"{VARIANT_KEY} is {variant!r}; expected one of {', '.join(get_args(TimeRotaryVariant))}")
    default = TimeRotaryConfig()
    rope = _rope({"rope_parameters": values.get("rope_parameters")})
    base = _positive("rope_theta", rope.get("rope_theta") or default.theta)
    share = _positive("partial_rotary_factor", rope.get("partial_rotary_factor") or default.share)
    if share > 1 / 2:
        raise CheckpointError(f"partial_rotary_factor is {share}; two axes of it do not fit, expected at most 0.5")
    return TimeRotaryConfig(variant, base / (2 * pi) if variant == "nvidia" else base, base, share)


def _encoder_config(values: Mapping[str, Any]) -> EncoderConfig:
    default = EncoderConfig()
    layers = _size(values, "num_hidden_layers", "encoder_layers", default=default.num_layers, limit=MAX_LAYERS)
    config = EncoderConfig(
        width=_size(values, "hidden_size", "d_model", default=default.width),
        num_layers=layers,
        num_heads=_size(values, "num_attention_heads", "encoder_attention_heads", default=default.num_heads),
        ffn_width=_size(values, "intermediate_size", "encoder_ffn_dim", default=default.ffn_width),
        num_mel_bins=_size(values, "num_mel_bins", default=default.num_mel_bins),
        max_positions=_size(values, "max_source_positions", default=default.max_positions),
    )
    if config.width % config.num_heads:
        raise CheckpointError(f"encoder width {config.width} is not a multiple of its {config.num_heads} heads")
    return config


def _decoder_config(values: Mapping[str, Any]) -> DecoderConfig:
    """Sizes that no tensor's shape would betray, heads and rotary base, must be written down."""
    default = DecoderConfig()
    width, num_heads = _size(values, "hidden_size"), _size(values, "num_attention_heads")
    theta = _rope(values).get("rope_theta") or values.get("rope_theta")
    config = DecoderConfig(
        vocab_size=_size(values, "vocab_size"),
        width=width,
        num_layers=_size(values, "num_hidden_layers", limit=MAX_LAYERS),
        num_heads=num_heads,
        num_kv_heads=_size(values, "num_key_value_heads", default=num_heads),
        head_dim=_size(values, "head_dim", default=max(1, width // num_heads)),
        ffn_width=_size(values, "intermediate_size"),
        max_positions=_size(values, "max_position_embeddings", default=default.max_positions),
        rope_theta=_positive("rope_theta", theta),
        norm_eps=_positive("rms_norm_eps", _first(values, ("rms_norm_eps",), default.norm_eps)),
    )
    if config.num_heads % config.num_kv_heads:
        raise CheckpointError(f"{config.num_heads} query heads are not a multiple of {config.num_kv_heads} key heads")
    if config.head_dim % 2:
        raise CheckpointError(f"head_dim is {config.head_dim}; rotary positions need an even one")
    return config

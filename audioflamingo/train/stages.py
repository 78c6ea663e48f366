"""The curriculum as functions: each stage returns its whole configuration (paper, section 5 and appendix A).

The paper and the released scripts disagree in places, so every stage records both and is built from the one that is
asked for. `nano` makes a stage fit one laptop core; `lora` and `full` are for a user's own data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from audioflamingo.config import AUDIO_TOKENS_PER_WINDOW, MAX_WINDOWS, WINDOW_S
from audioflamingo.errors import OptionError
from audioflamingo.train.captioner import CaptionerConfig
from audioflamingo.train.lora import LoraConfig

Part = Literal["encoder", "projector", "decoder", "lora", "captioner"]
Values = Literal["paper", "scripts"]
Precision = Literal["float32", "bfloat16"]

AUDIO_TOKENS_PER_S = AUDIO_TOKENS_PER_WINDOW // WINDOW_S
MEAN_SAMPLE_S = 10.0  # what NVIDIA's trainer takes for a row without a duration; turns their samples into our seconds
PAPER_GPUS = 128
SCRIPT_GPUS = 8  # the scripts leave it to the user; one common host
MAX_TOKENS = 8_192  # of the scripts
LONG_TEXT_TOKENS = 1_024  # beside ten minutes of sound
NANO_BATCH_S = 60.0
NANO_RANK = 16


@dataclass(frozen=True)
class Published:
    """What a source says of a stage.

    Attributes:
        rate: peak learning rate.
        batch_per_gpu: samples.
        accumulation: batches an update.
        epochs: how often all is heard.
        max_windows: of 30 s, longest sound.
        num_gpus: that it was run on, where said.
        weight_decay: of AdamW.
    """

    rate: float
    batch_per_gpu: int
    accumulation: int
    epochs: int
    max_windows: int
    num_gpus: int = PAPER_GPUS
    weight_decay: float = 0.0

    @property
    def batch_s(self) -> float:
        """Seconds of sound an update, by `MEAN_SAMPLE_S`."""
        return self.batch_per_gpu * self.accumulation * self.num_gpus * MEAN_SAMPLE_S


PAPER: dict[str, Published] = {
    "af_whisper": Published(1e-4, 8, 1, 5, 1, weight_decay=0.1),  # 1,024 samples an update in all
    "stage_1": Published(1e-3, 64, 1, 1, 1),
    "stage_2": Published(2e-5, 16, 2, 1, 1),
    "stage_3": Published(2e-5, 4, 4, 1, 5),
    "stage_3_5": Published(5e-5, 4, 4, 2, 20),
    "stage_4": Published(5e-5, 2, 8, 2, 20),
}
SCRIPTS: dict[str, Published] = {
    "stage_1": Published(1e-3, 4, 1, 1, 1, SCRIPT_GPUS),
    "stage_2": Published(1.5e-5, 4, 4, 1, 1, SCRIPT_GPUS),
    "stage_3": Published(1.5e-5, 2, 8, 1, 5, SCRIPT_GPUS),
    "stage_3_5": Published(5e-5, 2, 8, 2, 20, SCRIPT_GPUS),
    "stage_4": Published(5e-5, 2, 8, 2, 20, SCRIPT_GPUS),
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Everything that a run needs to know besides its base and its data.

    Attributes:
        name: of the function that made it.
        trains: parts whose parameters change; all others stay as they are to the last bit.
        rate: peak learning rate.
        batch_s: seconds of sound an update, in all processes together.
        micro_s: most seconds at once in one process; lower it where memory runs out.
        epochs: how often all is heard.
        max_windows: of 30 s, longest sound.
        max_tokens: longest sequence.
        lora: adapters, where `trains` has them.
        captioner: the decoder of captions, where `trains` has it.
        warmup: share of the steps in which the rate rises.
        weight_decay: of matrices; vectors never decay.
        betas: of AdamW.
        clip: largest norm of all gradients together.
        precision: what is computed in; what is trained is kept in fp32 anyway.
        recomputes: throw activations away and compute them again, in as many layers as memory asks for.
        quantize: store the frozen decoder's matrices in 8 or 4 bits, under adapters.
        compiles: compile what a frozen decoder does besides products; on a GPU only.
        deterministic: on a GPU take kernels that give the same bits every time, slower ones; a CPU's always do.
        seed: of adapters, order and dropout.
        published: what the sources say.
    """

    name: str
    trains: tuple[Part, ...]
    rate: float
    batch_s: float
    micro_s: float = 120.0
    epochs: int = 1
    max_windows: int = 1
    max_tokens: int = MAX_TOKENS
    lora: LoraConfig | None = None
    captioner: CaptionerConfig | None = None
    warmup: float = 0.03
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 1.0
    precision: Precision = "bfloat16"
    recomputes: bool = True
    quantize: Literal["int8", "int4"] | None = None
    compiles: bool = False
    deterministic: bool = False
    seed: int = 20261124
    published: dict[Values, Published] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what belongs together, and the ranges.

        Raises:
            OptionError: all complaints at once.
        """
        complaints = [
            f"{name} is {getattr(self, name)!r}, it must be positive"
            for name in ("rate", "batch_s", "micro_s", "epochs", "max_windows", "max_tokens", "clip")
            if not getattr(self, name) > 0
        ]
        if ("lora" in self.trains) != (self.lora is not None):
            complaints.append("adapters need 'lora' in trains and a LoraConfig, both")
        if ("captioner" in self.trains) != (self.captioner is not None):
            complaints.append("captions need 'captioner' in trains and a CaptionerConfig, both")
        if "lora" in self.trains and "decoder" in self.trains:
            complaints.append("adapters are for a frozen decoder, but it is trained too")
        if self.quantize and "decoder" in self.trains:
            complaints.append(f"a base in {self.quantize} cannot be trained itself; take lora or stage_3_5")
        if not self.trains:
            complaints.append("nothing is trained")
        if complaints:
            raise OptionError(f"stage {self.name}: {'; '.join(complaints)}")

    @property
    def only_adapters(self) -> bool:
        """Whether the whole base is frozen under adapters."""
        return self.trains == ("lora",)


def af_whisper(values: Values = "paper") -> Stage:
    """The encoder learns to be described: captions through a decoder of their own that is dropped afterwards."""
    return _stage("af_whisper", ("encoder", "captioner"), values, captioner=CaptionerConfig())


def stage_1(values: Values = "paper") -> Stage:
    """Alignment: the projector alone learns to speak the decoder's language."""
    return _stage("stage_1", ("projector",), values)


def stage_2(values: Values = "paper") -> Stage:
    """Encoder tuning, together with the projector."""
    return _stage("stage_2", ("encoder", "projector"), values)


def stage_3(values: Values = "paper") -> Stage:
    """Everything is trained."""
    return _stage("stage_3", ("encoder", "projector", "decoder"), values)


def stage_3_5(values: Values = "paper") -> Stage:
    """Ten minutes of sound, and thinking: adapters on the decoder, whose own weights stay."""
    return _stage("stage_3_5", ("lora",), values, lora=LoraConfig())


def stage_4(values: Values = "paper") -> Stage:
    """Chat: everything is trained on dialogues of several turns and sounds."""
    return _stage("stage_4", ("encoder", "projector", "decoder"), values)


def lora(values: Values = "paper") -> Stage:
    """Adapters for a user's own data: stage 3.5 in steps of two minutes and for sounds of any length."""
    return replace(stage_3_5(values), name="lora", rate=2e-4, batch_s=120.0, epochs=3)


def full(values: Values = "paper") -> Stage:
    """Every weight, for a user's own data."""
    return replace(stage_4(values), name="full", rate=1e-5, batch_s=240.0, epochs=1)


STAGES: dict[str, Callable[[Values], Stage]] = {
    one.__name__: one for one in (lora, full, af_whisper, stage_1, stage_2, stage_3, stage_3_5, stage_4)
}


def nano(stage: Stage) -> Stage:
    """The same stage for the embedded model: fp32, small steps, rates that a small model wants."""
    rates = {"stage_1": 2e-3, "stage_2": 3e-4, "stage_3": 3e-4, "stage_4": 2e-4, "full": 2e-4, "af_whisper": 1e-3}
    return replace(
        stage,
        rate=rates.get(stage.name, 2e-3),
        batch_s=NANO_BATCH_S,
        precision="float32",
        recomputes=False,
        lora=None if stage.lora is None else replace(stage.lora, rank=NANO_RANK, alpha=float(NANO_RANK)),
        captioner=None if stage.captioner is None else CaptionerConfig(width=128, num_layers=2, num_heads=4),
        epochs=5 if stage.name == "lora" else stage.epochs,
    )


def _stage(
    name: str,
    trains: tuple[Part, ...],
    values: Values,
    *,
    lora: LoraConfig | None = None,
    captioner: CaptionerConfig | None = None,
) -> Stage:
    sources: dict[Values, Published] = {"paper": PAPER[name]}
    if name in SCRIPTS:
        sources["scripts"] = SCRIPTS[name]
    if values not in sources:
        raise OptionError(f"there are no {values} values of {name}; allowed: {', '.join(sources)}")
    chosen = sources[values]
    return Stage(
        name=name,
        trains=trains,
        rate=chosen.rate,
        batch_s=chosen.batch_s,
        micro_s=_max_tokens(chosen.max_windows) / AUDIO_TOKENS_PER_S,
        epochs=chosen.epochs,
        max_windows=chosen.max_windows,
        max_tokens=_max_tokens(chosen.max_windows),
        weight_decay=chosen.weight_decay,
        lora=lora,
        captioner=captioner,
        published=sources,
    )


def _max_tokens(max_windows: int) -> int:
    """Room for the longest sound and its text, and never less than the scripts' own limit."""
    return max(MAX_TOKENS, min(max_windows, MAX_WINDOWS) * AUDIO_TOKENS_PER_WINDOW + LONG_TEXT_TOKENS)

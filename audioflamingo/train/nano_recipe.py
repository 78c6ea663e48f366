"""The embedded model's curriculum: functions that return a whole configuration for one piece of training."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from audioflamingo.config import NANO, ModelConfig
from audioflamingo.train.lora import LoraConfig
from audioflamingo.train.nano_graphs import Mode
from audioflamingo.train.nano_mel import Augmentation
from audioflamingo.train.nano_plan import REST_TOKENS, Shape
from audioflamingo.train.nano_step import Weights

LONG_TOKENS = 16_384
SMALL_WARM_UP_STEPS = 30
CHAT_EMA = 0.9993  # some 80 s of steps
# At the first weights named frames' gradient is four times the answers' and thirteen times the characters', most of it
# luck (`benchmarks/nano_losses.py`); at these each has about as much as the others.
NAMED = Weights(ctc=1.5, frames=0.05)


@dataclass(frozen=True)
class Phase:
    """From a moment on, in seconds of training in all pieces together.

    Attributes:
        from_s: when it begins.
        mode: which losses, and whether the answers' reaches the encoder.
        decoder_rate: share of its rate at which the decoder learns; 0 leaves it out.
    """

    from_s: float
    mode: Mode
    decoder_rate: float = 1.0


@dataclass(frozen=True)
class NanoRecipe:
    """How a piece is trained. Rates rise, stay, and fall only where a piece is told to end that way.

    Attributes:
        model: shapes.
        mixture: what is rendered, a key of `nano_render.SHARES`.
        phases: in order; the last whose time has come is in force.
        encoder_rate: of the encoder and the heads.
        decoder_rate: of projector and decoder, or of the adapter.
        warm_up_steps: in which the rates rise, in every piece that begins without its optimiser's first moments.
        last_rate: share of the rates at the end of a piece that decays.
        augmentation: of mels.
        ramp_s: seconds of training in which it comes in; 0 for a model that knows it already.
        short: room of a step of short sounds.
        long: room of a step with a long one.
        long_share: share of the latter.
        token_noise: share of learnt tokens that are replaced where they are input.
        one_clip: leave out short conversations about several clips.
        ema: decay of the average of weights, a step.
        checks: held-out items of each kind; None takes the usual.
        adapter: what stage 3.5 trains on a frozen model; None trains the model.
        seed: of weights, scenes and steps.
    """

    model: ModelConfig = NANO
    mixture: str = "all"
    phases: tuple[Phase, ...] = (Phase(0.0, Mode(Weights())),)
    encoder_rate: float = 8e-4
    decoder_rate: float = 1.2e-3
    warm_up_steps: int = 200
    last_rate: float = 0.01
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(
            equaliser=0.5, warp=0.12, time_masks=2, frequency_masks=2, time_mask_frames=16, mixing=0.2
        )
    )
    ramp_s: float = 0.0
    short: Shape = field(default_factory=Shape)
    long: Shape = field(default_factory=lambda: Shape(num_tokens=36_864, longest_tokens=LONG_TOKENS))
    long_share: float = 0.25
    token_noise: float = 0.08
    one_clip: bool = False
    ema: float = 0.999
    checks: dict[str, int] | None = None
    adapter: LoraConfig | None = None
    seed: int = 20261125

    def phase(self, spent_s: float) -> Phase:
        """What is in force after so many seconds of training."""
        return [phase for phase in self.phases if phase.from_s <= spent_s][-1]


def from_nothing() -> NanoRecipe:
    """The encoder alone first, by characters and named frames; then the decoder joins, at first without moving it."""
    alone = Phase(0.0, Mode(Weights(answer=0.0, ctc=1.0)), decoder_rate=0.0)
    joined = Phase(80.0, Mode(Weights(), encoder_listens=False))
    return NanoRecipe(
        phases=(alone, joined, Phase(120.0, Mode(Weights()))), encoder_rate=1.5e-3, decoder_rate=1.5e-3, ramp_s=90.0
    )


def all_tasks() -> NanoRecipe:
    """Stages 3 and 4 together: every task, from ten minutes to one word, from one turn to ten, on what is known."""
    return NanoRecipe()


def chat() -> NanoRecipe:
    """Stage 4: several clips held against each other and turns that refer back; a long average of the weights."""
    return NanoRecipe(mixture="chat", ema=CHAT_EMA)


def refine() -> NanoRecipe:
    """All tasks once sounds have their names: named frames step back behind answers and characters."""
    return NanoRecipe(phases=(Phase(0.0, Mode(NAMED)),))


def finish() -> NanoRecipe:
    """Like `refine`, on more of what is known least."""
    return replace(refine(), mixture="finish")


def think() -> NanoRecipe:
    """Stage 3.5: an adapter that reasons, on the frozen model."""
    mode = Mode(Weights(ctc=0.0, frames=0.0, clock=0.0))
    return NanoRecipe(
        mixture="think", phases=(Phase(0.0, mode),), encoder_rate=0.0, decoder_rate=2e-3, long_share=0.0,
        augmentation=Augmentation(equaliser=0.3, warp=0.05), token_noise=0.0,
        checks={"think": 64}, adapter=LoraConfig(rank=16, alpha=32.0, dropout=0.0),
    )  # fmt: skip


def later_clips() -> NanoRecipe:
    """The decoder alone, by small steps on a CPU: what a clip is that comes in later in a conversation."""
    mode = Mode(Weights(ctc=0.0, frames=0.0, clock=0.0), encoder_listens=False)
    return NanoRecipe(
        mixture="later", phases=(Phase(0.0, mode),), encoder_rate=0.0, decoder_rate=2e-4, warm_up_steps=40,
        long_share=0.0, token_noise=0.02, ema=0.99,
    )  # fmt: skip


RECIPES = {
    "from_nothing": from_nothing, "all_tasks": all_tasks, "chat": chat, "refine": refine, "finish": finish,
    "think": think, "later_clips": later_clips,
}  # fmt: skip


def slowed(recipe: NanoRecipe, share: float) -> NanoRecipe:
    """The same recipe with a share of its rates: for small steps, or to go on with what is nearly done."""
    return replace(recipe, encoder_rate=share * recipe.encoder_rate, decoder_rate=share * recipe.decoder_rate)


def shrunk(recipe: NanoRecipe, model: ModelConfig, seconds: float) -> NanoRecipe:
    """The same recipe for a small model and small steps: what runs on a CPU."""
    tokens = round(40 * seconds) + 512
    frames = round(50 * seconds) // 2 * 2
    sequences = 96 + max(frames, tokens) // REST_TOKENS
    short = Shape(frames, tokens, 48, sequences, tokens, 8_192, longest_tokens=min(1_280, tokens))
    warm_up = min(recipe.warm_up_steps, SMALL_WARM_UP_STEPS)
    return replace(recipe, model=model, short=short, long=short, long_share=0.0, warm_up_steps=warm_up)

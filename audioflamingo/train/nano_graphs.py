"""One step's forward and backward pass: plainly, with compiled layers, or as CUDA graphs that are replayed.

A step of the embedded model is bound by launching its kernels, not by running them. Its plans have fixed shapes, so
one graph for each shape of plan runs every step. The CTC loss stays outside: a first graph ends with the CTC head's
logits, the loss is taken of them, and a second graph, the backward pass, begins with its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from audioflamingo.model.flamingo import Flamingo
from audioflamingo.train.nano_layers import Layers
from audioflamingo.train.nano_plan import Plan, Shape
from audioflamingo.train.nano_step import Heads, Inputs, Parts, Weights, ctc_loss, forward, sequences_of

Speed = Literal["eager", "compiled", "graphs", "compiled_graphs"]
SPEEDS: tuple[Speed, ...] = get_args(Speed)
NUM_WARM_UPS = 3
MOST_DIFFERENCE = 0.05  # of a gradient's norm, in bf16; another order of sums is not another gradient
GRAPH_INPUTS = (
    "frame_valid", "source", "place", "encoder_offsets", "ids", "audio", "is_audio", "positions", "decoder_offsets",
    "predicts", "targets", "weights", "is_heard", "clock_place", "clock_s",
    "clock_clip",
)  # fmt: skip
"""What the captured part reads of a plan; the rest belongs to log-mel and CTC."""


@dataclass(frozen=True)
class Mode:
    """What a forward pass does; every mode has graphs of its own."""

    weights: Weights
    encoder_listens: bool = True


class StepRunner:
    """Losses and gradients of plans.

    Args:
        model: in training mode, on its device.
        heads: likewise.
        parameters: whose gradients are wanted, in this order.
        speed: how.
    """

    def __init__(self, model: Flamingo, heads: Heads, parameters: list[torch.nn.Parameter], speed: Speed) -> None:
        self.model, self.heads, self.parameters, self.speed = model, heads, parameters, speed
        self.graphs: dict[tuple[Shape, Mode], _Captured] = {}
        self.pool: Any = None
        self.layers = Layers.compiled() if "compiled" in speed else Layers()

    def __call__(self, mel: Tensor, plan: Plan, mode: Mode) -> dict[str, Tensor]:
        """Sets the gradient of every parameter, and returns the losses by name, on the device."""
        if "graphs" not in self.speed:
            return self._plain(mel, plan, mode)
        return self._captured(mel, plan, mode)

    def prepare(self, mel: Tensor, plan: Plan, mode: Mode) -> float:
        """Compile, and capture what steps of this shape and mode replay; no gradient stays.

        Returns:
            How far the replayed step's gradients are from those of the same step launched by launch, see `difference`.
            Beyond `MOST_DIFFERENCE` they are wrong, and from now on every step is launched.
        """
        launched = self._gradients(self._plain, mel, plan, mode)
        if "graphs" not in self.speed:
            return 0.0
        apart = difference(launched, self._gradients(self._captured, mel, plan, mode))
        if apart > MOST_DIFFERENCE:
            self.speed = "compiled" if "compiled" in self.speed else "eager"
            self.graphs.clear()
        return apart

    def _gradients(
        self, way: Callable[[Tensor, Plan, Mode], dict[str, Tensor]], mel: Tensor, plan: Plan, mode: Mode
    ) -> list[Tensor]:
        self._forget()
        way(mel, plan, mode)
        found = [one.grad.float().clone() for one in self.parameters if one.grad is not None]
        self._forget()
        return found

    def _forget(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _captured(self, mel: Tensor, plan: Plan, mode: Mode) -> dict[str, Tensor]:
        key = (plan.shape, mode)
        if key not in self.graphs:
            self.graphs[key] = _Captured(self, Inputs.of(mel, plan), mode)
        return self.graphs[key](Inputs.of(mel, plan))

    def loss_of(self, inputs: Inputs, mode: Mode) -> Parts:
        """The part without CTC."""
        both = sequences_of(inputs.plan, self.model)
        return forward(
            self.model, self.heads, inputs, both, mode.weights, encoder_listens=mode.encoder_listens,
            layers=self.layers,
        )  # fmt: skip

    def _plain(self, mel: Tensor, plan: Plan, mode: Mode) -> dict[str, Tensor]:
        parts = self.loss_of(Inputs.of(mel, plan), mode)
        ctc = ctc_loss(parts.ctc_logits, plan) if mode.weights.ctc else torch.zeros_like(parts.total)
        torch.autograd.backward(parts.total + mode.weights.ctc * ctc)
        return _named(parts, ctc, mode)


class _Captured:
    """Two graphs over fixed tensors: forward, and backward from both the losses and the CTC head's logits."""

    def __init__(self, runner: StepRunner, inputs: Inputs, mode: Mode) -> None:
        self.runner, self.mode = runner, mode
        self.inputs = Inputs(inputs.mel.clone(), inputs.labels.clone(), _copied(inputs.plan))
        self.one = torch.ones((), device=inputs.mel.device)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(NUM_WARM_UPS):
                self._backward(self._forward(), torch.zeros_like)
        torch.cuda.current_stream().wait_stream(stream)
        self._capture()

    def _forward(self) -> Parts:
        return self.runner.loss_of(self.inputs, self.mode)

    def _backward(self, parts: Parts, gradient_of: Callable[[Tensor], Tensor]) -> tuple[Tensor | None, ...]:
        outputs, given = [parts.total], [self.one]
        if self.mode.weights.ctc:
            outputs.append(parts.ctc_logits)
            given.append(gradient_of(parts.ctc_logits))
        return torch.autograd.grad(outputs, self.runner.parameters, given, allow_unused=True)

    def _capture(self) -> None:
        self.forward_graph, self.backward_graph = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        # Other threads may use the device meanwhile: they copy samples and plans on streams that are not captured.
        with torch.cuda.graph(self.forward_graph, pool=self.runner.pool, capture_error_mode="thread_local"):
            self.parts = self._forward()
        self.runner.pool = self.runner.pool or self.forward_graph.pool()
        self.ctc_gradient = torch.zeros_like(self.parts.ctc_logits)
        with torch.cuda.graph(self.backward_graph, pool=self.runner.pool, capture_error_mode="thread_local"):
            self.gradients = self._backward(self.parts, lambda _: self.ctc_gradient)

    def __call__(self, inputs: Inputs) -> dict[str, Tensor]:
        self.inputs.mel.copy_(inputs.mel)
        self.inputs.labels.copy_(inputs.labels)
        for name in GRAPH_INPUTS:
            getattr(self.inputs.plan, name).copy_(getattr(inputs.plan, name))
        self.forward_graph.replay()
        ctc = self._ctc(inputs.plan) if self.mode.weights.ctc else torch.zeros_like(self.one)
        self.backward_graph.replay()
        for parameter, found in zip(self.runner.parameters, self.gradients, strict=True):
            parameter.grad = found
        return _named(self.parts, ctc, self.mode)

    def _ctc(self, plan: Plan) -> Tensor:
        """The loss; its gradient goes to where the backward graph finds it."""
        logits = self.parts.ctc_logits.detach().requires_grad_()
        ctc = ctc_loss(logits, plan)
        (gradient,) = torch.autograd.grad(ctc * self.mode.weights.ctc, logits)
        self.ctc_gradient.copy_(gradient)
        return ctc.detach()


def _named(parts: Parts, ctc: Tensor, mode: Mode) -> dict[str, Tensor]:
    values = {"answer": parts.answer, "frames": parts.frames, "clock": parts.clock, "ctc": ctc}
    total = parts.total + mode.weights.ctc * ctc
    return {name: value.detach().clone() for name, value in {**values, "total": total}.items()}


def difference(reference: list[Tensor], gradients: list[Tensor]) -> float:
    """Norm of the difference over the norm, over all gradients; NaN is a failure and so 1."""
    apart = sum(float((a - b).square().sum()) for a, b in zip(reference, gradients, strict=True))
    whole = sum(float(a.square().sum()) for a in reference)
    value = (apart / max(whole, 1e-30)) ** 0.5
    return round(value, 5) if value == value else 1.0


def _copied(plan: Plan) -> Plan:
    values = {one.name: getattr(plan, one.name) for one in fields(plan)}
    copies: dict[str, Any] = {name: value.clone() for name, value in values.items() if isinstance(value, Tensor)}
    return replace(plan, **copies)

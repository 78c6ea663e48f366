"""What happened so far, in Prometheus' text form. No framework here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

Labels = tuple[tuple[str, str], ...]
PREFIX = "flamingo_"
HELP = {
    "requests_total": "Requests that ended, by endpoint and outcome.",
    "tokens_total": "Tokens of prompts, of them found in the cache, and of answers.",
    "audio_seconds_total": "Seconds of sound that was heard (in) and spoken (out).",
    "first_token_seconds_sum": "Time from a request's place in the engine to its first token, summed.",
    "first_token_seconds_count": "Requests in that sum.",
    "requests_running": "Requests that are worked on now.",
    "requests_waiting": "Requests that wait for their turn, those whose body is being read among them.",
    "sequences": "Prompts that the engine holds now.",
    "cache_blocks": "Blocks of the KV cache, held by running sequences or kept for their content.",
    "preempted_total": "How often a sequence gave up its share of a full cache.",
}


@dataclass
class Metrics:
    """Counters, changed on the event loop alone."""

    counters: Counter[tuple[str, Labels]] = field(default_factory=Counter)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Count something; its name is one of `HELP`."""
        assert name in HELP, name
        self.counters[name, tuple(sorted(labels.items()))] += amount  # type: ignore[assignment]

    def value(self, name: str, **labels: str) -> float:
        """What was counted so far."""
        return self.counters[name, tuple(sorted(labels.items()))]

    def text(self, gauges: Mapping[tuple[str, Labels], float]) -> str:
        """Prometheus' text form of the counters and of values that are asked for now."""
        return "".join(f"{line}\n" for line in self._lines({**self.counters, **gauges}))

    @staticmethod
    def _lines(values: Mapping[tuple[str, Labels], float]) -> Iterator[str]:
        before = ""
        for (name, labels), value in sorted(values.items()):
            if name != before:
                kind = "counter" if name.endswith(("_total", "_sum", "_count")) else "gauge"
                yield f"# HELP {PREFIX}{name} {HELP[name]}"
                yield f"# TYPE {PREFIX}{name} {kind}"
                before = name
            shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
            yield f"{PREFIX}{name}{{{shown}}} {value:.15g}" if shown else f"{PREFIX}{name} {value:.15g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

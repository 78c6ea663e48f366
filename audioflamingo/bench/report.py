"""A report in words for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audioflamingo.bench.row import OURS, PEER

WORK_WIDTH = 58
FIGURE = ".4g"


def card_text(card: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """The machine and the model, a fact a line."""
    packages = ", ".join(f"{name} {version}" for name, version in card["packages"].items() if version)
    fp8 = f", fp8 {card['fp8_tflops']:{FIGURE}}" if card["fp8_tflops"] else ""
    threads = f"{card['num_cores']} cores, {card['num_threads']} threads, load {card['load_before']}"
    facts = {
        "hardware": f"{card['hardware']}, {card['memory_gb']:{FIGURE}} GB",
        "host": f"{card['processor']}, {threads}",
        "software": f"torch {card['torch_version']}, CUDA {card['cuda']}, Python {card['python']}, {packages}",
        "measured": (
            f"copy {card['copy_gb_s']:{FIGURE}} GB/s, read {card['read_gb_s']:{FIGURE}} GB/s, host to device "
            f"{card['host_to_device_gb_s']:{FIGURE}} GB/s, matrix product {card['matmul_tflops']:{FIGURE}} TFLOP/s{fp8}"
        ),
        "model": (
            f"{model['name']}, {model['num_parameters']:,} parameters, {model['weights']}, {model['dtype']}"
            + (f", decoder in {model['quantize']}" if model["quantize"] else "")
            + f", {model['bytes'] / 1e9:{FIGURE}} GB"
        ),
    }
    return "\n".join(f"{name:10}{text}" for name, text in facts.items())


def heading() -> str:
    """Names of the columns of `row_line`."""
    names = (("ours [min, max]", 28), ("transformers", 14), ("floor", 9), ("ratio", 7), ("MFU", 6), ("MBU", 6))
    return " ".join([f"{'work':{WORK_WIDTH}}", *(f"{name:>{width}}" for name, width in names)])


def row_line(row: Mapping[str, Any]) -> str:
    """One row of the table."""
    ours, peer = row[OURS], row[PEER]
    own = "-" if ours is None else f"{ours['median']:{FIGURE}} [{ours['min']:{FIGURE}}, {ours['max']:{FIGURE}}]"
    cells = (
        f"{row['work'] + ', ' + row['unit']:{WORK_WIDTH}}",
        f"{own:>28}",
        f"{_number(peer and peer['median']):>14}",
        f"{_number(row['floor']):>9}",
        f"{_number(row['ratio']):>7}",
        f"{_percent(row['mfu']):>6}",
        f"{_percent(row['mbu']):>6}",
    )
    return " ".join(cells)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:{FIGURE}}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"

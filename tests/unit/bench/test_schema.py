"""The check of reports finds what is wrong with them."""

import copy

import pytest

from audioflamingo.bench.schema import complaints

SPREAD = {"median": 2.0, "min": 1.0, "max": 3.0, "n": 3, "warmups": 1}
ROW = {
    "key": "k", "section": "s", "work": "w", "unit": "ms", "ours": SPREAD, "transformers": None, "amount": 1.0,
    "floor": 1.0, "goal": None, "flops": 5, "bytes": 5, "mfu": 0.5, "mbu": 0.5, "ratio": None, "of_floor": 2.0,
}  # fmt: skip
REPORT = {
    "schema": 1, "date": "2026-01-31", "scale": "tiny", "errors": {}, "seconds": {}, "rows": [ROW], "model": {},
    "card": {
        "memory_gb": 1, "num_threads": 1, "matmul_tflops": 1.0, "copy_gb_s": 1.0, "read_gb_s": 1.0,
        "host_to_device_gb_s": 1.0,
    },
}  # fmt: skip


def broken(path, value):
    report = copy.deepcopy(REPORT)
    place = report
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return report


def test_a_right_one_has_no_complaints():
    assert complaints(REPORT) == []


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("rows",), {}, "rows is missing"),
        (("schema",), 2, "schema is 2"),
        (("card", "copy_gb_s"), 0, "card.copy_gb_s"),
        (("rows", 0, "unit"), "furlongs", "unit is 'furlongs'"),
        (("rows", 0, "floor"), float("nan"), "floor is neither"),
        (("rows", 0, "mfu"), -0.1, "mfu is neither"),
        (("rows", 0, "ours"), None, "no error says why"),
        (("rows", 0, "ours"), {"median": 1.0}, "ours has not exactly"),
        (("rows", 0, "ours", "median"), 9.0, "beyond its extremes"),
        (("rows", 0, "ratio"), 2.0, "a ratio without two figures"),
    ],
)
def test_a_wrong_one_is_told(path, value, told):
    assert any(told in text for text in complaints(broken(path, value)))


def test_a_missing_figure_is_right_where_an_error_says_why():
    report = broken(("rows", 0, "ours"), None) | {"errors": {"k, ours": "RuntimeError: no memory"}}
    assert complaints(report) == []


@pytest.mark.parametrize("report", [None, [], "text", {}])
def test_what_is_no_report_is_told(report):
    assert complaints(report)

"""The page, its pictures and README's table from reports: right figures, the same bytes every time."""

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from test_schema import REPORT, ROW, SPREAD

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from benchmarks import report as pages
from benchmarks.plots import Bars, bars_of, draw, told
from benchmarks.report import BEGIN, END, MalformedError, read_reports, with_table, write_pages

SVG = "{http://www.w3.org/2000/svg}"
CARD = {
    **REPORT["card"], "hardware": "NVIDIA H200", "num_cores": 16, "torch_version": "2.11.0", "cuda": "13.0",
    "packages": {"transformers": "5.17.0", "triton": None}, "load_before": 0.2,
}  # fmt: skip
MODEL = {"name": "random-8b", "dtype": "bfloat16", "quantize": None, "num_parameters": 8_267_215_360}
FULL = {
    **REPORT, "card": CARD, "model": MODEL,
    "rows": [
        {**ROW, "work": "decode step", "transformers": {**SPREAD, "median": 3.0}, "ratio": 1.5, "goal": 2.5},
        {**ROW, "key": "r", "work": "clips & more", "unit": "s of audio per s", "amount": 60, "floor": 4, "goal": 9},
        {**ROW, "key": "m", "work": "memory", "unit": "GB", "ours": None},
    ],
    "errors": {"m, ours": "RuntimeError: no memory"},
}  # fmt: skip


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "bench_nvidia-h200_random-8b_2026-01-31.json").write_text(json.dumps(FULL))
    (folder / "other_2026-01-31.json").write_text("no report of ours")
    return folder


def test_the_page_has_every_row_and_says_what_is_missing(results, tmp_path):
    docs = tmp_path / "docs"
    written = write_pages(results, docs, None)
    page = (docs / "benchmarks.md").read_text()
    assert "| decode step, ms | 2 | 1 to 3 (3) | 3 | 1.5x | 1 | 200% | 50% | 50% | <= 2.5 reached |" in page
    assert "| clips & more, s of audio per s | 2 | 1 to 3 (3) | - | - | 4 | 200% | 50% | 50% | >= 9 |" in page
    assert "| memory, GB | - |" in page
    assert "Not measured: m, ours: RuntimeError: no memory" in page
    assert "busy" not in page
    assert {path.name for path in written} == {"benchmarks.md", "bench_nvidia-h200_random-8b.svg"}


def test_the_same_reports_give_the_same_bytes(results, tmp_path):
    pages = []
    for name in ("one", "other"):
        write_pages(results, tmp_path / name, None)
        pages.append({path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()})
    assert pages[0] == pages[1]


def test_the_newest_report_of_a_kind_is_shown(results):
    newer = {**FULL, "date": "2026-03-01"}
    (results / "bench_nvidia-h200_random-8b_2026-03-01.json").write_text(json.dumps(newer))
    assert [report.found["date"] for report in read_reports(results)] == ["2026-03-01"]


def test_rows_that_only_an_older_report_has_are_shown_and_said_to_be_old(results, tmp_path):
    newer = {**FULL, "date": "2026-03-01", "rows": FULL["rows"][:1], "errors": {}}
    (results / "bench_nvidia-h200_random-8b_2026-03-01b.json").write_text(json.dumps(newer))
    (report,) = read_reports(results)
    assert [row["work"] for row in report.found["rows"]] == ["decode step", "clips & more"]  # "memory" was not measured
    write_pages(results, tmp_path / "docs", None)
    page = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert f"* From an earlier run, of {FULL['date']}: clips & more\n" in page
    assert "earlier run, of 2026-03-01" not in page


def test_the_full_size_comes_first_and_quantised_ones_after_it(results):
    quantized = {**FULL, "model": {**MODEL, "quantize": "int4"}}
    small = {**FULL, "model": {**MODEL, "name": "nano", "num_parameters": 5}}
    for name, report in (("a-int4", quantized), ("a-nano", small)):
        (results / f"bench_{name}_2026-01-31.json").write_text(json.dumps(report))
    assert [(one.found["model"]["name"], one.found["model"]["quantize"]) for one in read_reports(results)] == [
        ("random-8b", None),
        ("random-8b", "int4"),
        ("nano", None),
    ]


def test_a_malformed_report_is_refused(results):
    (results / "bench_x_2026-01-31.json").write_text(json.dumps({**FULL, "rows": [{}]}))
    with pytest.raises(MalformedError, match="bench_x_2026-01-31"):
        read_reports(results)


def test_a_busy_machine_is_told(results, tmp_path):
    (results / "bench_y_2026-02-01.json").write_text(json.dumps({**FULL, "card": {**CARD, "load_before": 9.0}}))
    write_pages(results, tmp_path / "docs", None)
    assert "The machine was busy" in (tmp_path / "docs" / "benchmarks.md").read_text()


def test_readme_gets_its_table_between_the_markers_only(results):
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    found = with_table(text, read_reports(results))
    assert found.startswith("before\n")
    assert found.endswith(f"{END}\nafter\n")
    assert "old" not in found
    assert "| decode step, ms | 2 | 3 | 1.5x | 1 | <= 2.5 reached |" in found
    assert with_table(found, read_reports(results)) == found
    assert with_table("no markers", read_reports(results)) is None


def test_readme_shows_of_a_small_model_what_people_wait_for(results):
    rows = [{**ROW, "work": "decode step"}, {**ROW, "key": "c", "section": "cpu", "work": "flamingo ask"}]
    small = {**FULL, "model": {**MODEL, "name": "nano", "num_parameters": 14_000_000}, "rows": rows}
    (results / "bench_x_nano_2026-01-31.json").write_text(json.dumps(small))
    found = with_table(f"{BEGIN}\nold\n{END}\n", read_reports(results))
    assert found.count("| decode step, ms |") == 1  # the full size's
    assert "| flamingo ask, ms |" in found


def test_bars_are_times_and_rates_are_told_as_times():
    assert bars_of(FULL) == [Bars("decode step", (3.0, 2.0, 1.0)), Bars("clips & more", (None, 30_000.0, 15_000.0))]


def test_the_picture_is_well_formed_and_on_a_logarithmic_scale():
    picture = draw("title", "card", [Bars("a & b", (100.0, 10.0, 1.0)), Bars("c", (None, 1.0, None))])
    root = ElementTree.fromstring(picture)
    widths = [float(one.get("width")) for one in root.iter(SVG + "rect") if one.get("x") == "372"]
    assert widths[0] == pytest.approx(2 * widths[1])
    assert widths[2] == widths[3] == 1.0
    assert "a & b" in {one.text for one in root.iter(SVG + "text")}


def test_a_picture_needs_a_row():
    with pytest.raises(ValueError, match="no row"):
        draw("title", "card", [])


@pytest.mark.parametrize(("time_ms", "text"), [(0.0123, "12.3 µs"), (3.306, "3.31 ms"), (1490.0, "1.49 s")])
def test_times_are_told_in_a_unit_that_suits(time_ms, text):
    assert told(time_ms) == text


@pytest.mark.parametrize(("word", "code"), [("--help", 0), ("results", 2)])
def test_help_and_words_that_it_does_not_take_write_nothing(monkeypatch, capsys, word, code):
    monkeypatch.setattr(sys, "argv", ["report.py", word])
    monkeypatch.setattr(pages, "write_pages", lambda *_: pytest.fail("it wrote"))
    with pytest.raises(SystemExit) as left:
        pages.main()
    assert left.value.code == code

"""The tests of the integration against every supported version of transformers, each put before the installed one.

    python tests/integrations/versions.py                  # the newest of every minor version in the range
    python tests/integrations/versions.py 5.16.0 5.24.0    # these

It downloads each version to a folder that is thrown away, so it is not part of the test suite. Prints a table and, as
its last line, JSON; the exit code is 1 where a test failed.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from audioflamingo.integrations.transformers.versions import NEWEST, OLDEST  # noqa: E402

PACKAGE = "transformers"
TESTS = ("tests/integrations", "tests/parity/test_music_flamingo.py")
IMPORT = "import audioflamingo.integrations.transformers"
TIMEOUT_S = 1_800.0
_COUNTS = re.compile(r"(\d+) (passed|failed|error|errors|skipped)")


def published() -> list[str]:
    """The newest published release of every minor version in the supported range, oldest first."""
    listed = pip("index", "versions", PACKAGE).partition("Available versions:")[2].splitlines()[0]
    newest: dict[tuple[int, int], str] = {}
    for version in (one.strip() for one in listed.split(",")):
        minor = tuple(map(int, version.split(".")[:2]))
        if len(minor) == 2 and OLDEST <= minor <= NEWEST:
            newest.setdefault((minor[0], minor[1]), version)
    return [newest[minor] for minor in sorted(newest)]


def pip(*words: str) -> str:
    """Run pip and give what it prints."""
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, check=True)
    return done.stdout


def install(version: str, folder: Path) -> list[str]:
    """Put a version into a folder, and of what it requires only what the environment lacks; names of these."""
    pip("install", "--quiet", "--no-deps", "--target", str(folder), f"{PACKAGE}=={version}")
    lacking = list(unmet(folder))
    if lacking:
        pip("install", "--quiet", "--no-deps", "--target", str(folder), *lacking)
    return lacking


def unmet(folder: Path) -> Iterator[str]:
    """Requirements of what lies in a folder that the environment's own packages do not meet."""
    (installed,) = importlib.metadata.distributions(path=[str(folder)], name=PACKAGE)
    for requirement in map(Requirement, installed.requires or ()):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            is_met = requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True)
        except importlib.metadata.PackageNotFoundError:
            is_met = False
        if not is_met:
            yield f"{requirement.name}{requirement.specifier}"


def test(version: str, folder: Path) -> dict[str, Any]:
    """Run the tests with the version in a folder, or say that it is refused."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    lacking = install(version, folder)
    tried = subprocess.run([sys.executable, "-c", IMPORT], cwd=ROOT, env=environment, capture_output=True, text=True)
    if tried.returncode:
        return {"version": version, "also": lacking, "refused": tried.stderr.strip().splitlines()[-1]}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rfE", "--tb=short", *TESTS]
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    counts = {name: int(count) for count, name in _COUNTS.findall(done.stdout.strip().splitlines()[-1])}
    failures = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return {
        "version": version, "also": lacking, **counts, "failures": failures, "ok": done.returncode == 0,
        "seconds": round(time.perf_counter() - start),
    }  # fmt: skip


def row(result: dict[str, Any]) -> str:
    """A result as a line of the table."""
    if "refused" in result:
        return f"{result['version']:10} refused: {result['refused']}"
    state = "all passed" if result["ok"] else "FAILED"
    lines = [f"{result['version']:10} {state:10} {result.get('passed', 0)} passed, {result['seconds']} s"]
    return "\n".join([*lines, *(f"    {failure}" for failure in result["failures"])])


def main() -> int:
    """Test all versions; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="*", help="by default the newest of every minor version in the range")
    results = []
    for version in parser.parse_args().versions or published():
        with tempfile.TemporaryDirectory(prefix=f"{PACKAGE}-{version}-") as folder:
            results.append(test(version, Path(folder)))
        print(row(results[-1]), flush=True)
    report = {"tests": list(TESTS), "date": datetime.date.today().isoformat(), "results": results}
    print(json.dumps(report))
    return 0 if all("refused" in one or one["ok"] for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())

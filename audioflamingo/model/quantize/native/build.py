"""Compiling the kernels once for a machine, with the system's compiler, into the user's cache.

It shares the OpenMP runtime that torch has loaded: the kernels' threads are torch's own, so that none compete.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-mavx2", "-mfma", "-fno-math-errno", "-fno-trapping-math", "-fPIC")
NEEDED = {"avx2", "fma"}
AVX512 = {"avx512f": "-mavx512f", "avx512bw": "-mavx512bw", "avx512vl": "-mavx512vl", "avx512_vnni": "-mavx512vnni"}
"""What linear_avx512.c needs, as Linux and as compilers call it."""
TIMEOUT_S = 60
_RUNTIMES = ("libgomp", "libiomp5", "libomp")


@dataclass(frozen=True)
class Unbuilt:
    """Why there are no compiled kernels, in words for a user."""

    reason: str


def compile_kernels() -> Path | Unbuilt:
    """The compiled library, from the cache if this source was compiled before."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return Unbuilt("they are for Linux on x86-64")
    if NEEDED - _processor_flags():
        return Unbuilt("this processor has no AVX2")
    sources = {"linear.c": (), "linear_avx2.c": (), "attention.c": ()} | (
        {"linear_avx512.c": tuple(AVX512.values())} if has_avx512() else {}
    )
    texts = [FOLDER / "linear.h", FOLDER / "tiles.h", *(FOLDER / name for name in sources)]
    missing = next((path for path in texts if not path.exists()), None)
    if missing is not None:
        return Unbuilt(f"{missing} is missing; reinstall the package")
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        return Unbuilt("no C compiler was found; install gcc")
    flags = FLAGS + (("-fopenmp",) if _share_openmp() else ())
    words = (*(path.read_text() for path in texts), sources, compiler, *flags)
    path = _cache_folder() / f"linear-{hashlib.sha256(repr(words).encode()).hexdigest()[:16]}.so"
    return path if path.exists() else _compile(compiler, flags, sources, path)


def has_avx512() -> bool:
    """Whether this processor runs linear_avx512.c, and it is compiled."""
    return not AVX512.keys() - _processor_flags()


def _compile(compiler: str, flags: tuple[str, ...], sources: dict[str, tuple[str, ...]], path: Path) -> Path | Unbuilt:
    partial = path.with_suffix(f".{os.getpid()}.partial")
    objects = {name: partial.with_name(f"{partial.name}-{name}.o") for name in sources}
    compiling = [
        [compiler, *flags, *own, "-c", str(FOLDER / name), "-o", str(objects[name])] for name, own in sources.items()
    ]
    # Linked by hand: the driver would add an OpenMP runtime of the system's beside torch's.
    linking = [compiler, "-shared", *map(str, objects.values()), "-o", str(partial), "-lm"]
    try:
        for words in (*compiling, linking):
            subprocess.run(words, check=True, capture_output=True, timeout=TIMEOUT_S)
        partial.replace(path)
    except (OSError, subprocess.SubprocessError) as error:
        return Unbuilt(f"{compiler} failed: {_first_line(error)}")
    finally:
        for file in (*objects.values(), partial):
            file.unlink(missing_ok=True)
    return path


def _first_line(error: Exception) -> str:
    text = error.stderr.decode(errors="replace") if isinstance(error, subprocess.CalledProcessError) else str(error)
    return next((line for line in text.splitlines() if line.strip()), type(error).__name__)[:200]


@cache
def _processor_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split(":")[1].split()) for line in lines if line.startswith("flags")), set())


def _share_openmp() -> bool:
    """Make the symbols of the OpenMP runtime in this process visible; whether there is one."""
    try:
        mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
    except OSError:
        return False
    runtime = next((path for path in sorted(mapped) if Path(path).name.startswith(_RUNTIMES)), None)
    if runtime is None:
        return False
    ctypes.CDLL(runtime, mode=ctypes.RTLD_GLOBAL)
    return True


def _cache_folder() -> Path:
    """A folder that only this user can write to: what lies in it is run."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "audioflamingo"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = folder.stat()
        if status.st_uid == os.getuid() and not status.st_mode & 0o022 and os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="audioflamingo-"))

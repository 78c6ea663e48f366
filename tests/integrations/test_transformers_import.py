"""Importing: the supported range of transformers, and nothing that only Linux or CUDA has."""

import importlib.metadata
import os
import subprocess
import sys

import pytest

from audioflamingo.errors import FlamingoError
from audioflamingo.integrations.transformers.versions import check_installed, check_version

ELSEWHERE = """
import builtins, platform, sys
import torch, numpy, soundfile, soxr, av, tokenizers, jinja2, safetensors, accelerate
from transformers import AudioFlamingo3Config, AudioFlamingo3ForConditionalGeneration, AudioFlamingo3Processor
from transformers import AutoModelForCausalLM, AutoProcessor, WhisperFeatureExtractor, Qwen2Tokenizer, Qwen2Model
sys.platform = "{platform}"
platform.system = lambda: "{system}"
torch.backends.mps.is_available = lambda: {has_mps}
torch.cuda.is_available = lambda: False
def refuse(*_, **__): raise AssertionError("CUDA was touched")
torch.cuda.init = torch.cuda._lazy_init = refuse
linux_only = ["fcntl", "resource", "termios", "pwd", "grp", "pty", "syslog", "triton", "flash_attn"]
for name in linux_only: sys.modules.pop(name, None)
load = builtins.__import__
def guarded(name, *rest, **options):
    caller = (rest[0] or {{}}).get("__name__", "") if rest else ""
    if caller.startswith("audioflamingo") and name.split(".")[0] in linux_only: raise AssertionError(name)
    return load(name, *rest, **options)
builtins.__import__ = guarded
import audioflamingo.integrations.transformers as integration
model = integration.AudioFlamingo3ForConditionalGeneration.from_pretrained(sys.argv[1])
processor = integration.AudioFlamingo3Processor.from_pretrained(sys.argv[1])
inputs = processor(audio=torch.zeros(8000), text="What?")
model.generate(**inputs, max_new_tokens=2)
print(model.generated_on)
"""


@pytest.mark.parametrize(("platform", "system", "has_mps"), [("win32", "Windows", False), ("darwin", "Darwin", True)])
def test_nothing_of_linux_alone_is_needed(folder, platform, system, has_mps):
    program = ELSEWHERE.format(platform=platform, system=system, has_mps=has_mps)
    done = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["engine"]


@pytest.mark.parametrize("version", ["4.57.6", "5.15.1", "5.0.0.dev0"])
def test_an_older_transformers_is_refused_in_one_line(version):
    with pytest.raises(FlamingoError, match=rf"transformers {version} is installed; 5.16 to 5.24 .* pip install"):
        check_version(version)


def test_a_newer_transformers_is_told_of_and_tried(caplog):
    check_version("5.25.0")
    assert "5.25.0 is installed and untested" in caplog.text
    caplog.clear()
    for version in ("5.16.0", "5.17.0", "5.23.0", "5.24.0", "5.24.1"):
        check_version(version)
    assert not caplog.text


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("4.57.6", "transformers 4.57.6 is installed; 5.16 to"),
        ("5.20.0", "transformers 5.20.0 is installed but cannot be imported (tokenizers>=99 is required); 5.16 to"),
    ],
)
def test_a_transformers_that_cannot_be_imported_is_told_for_what_it_is(tmp_path, version, expected):
    (tmp_path / "transformers.py").write_text("raise ImportError('tokenizers>=99 is required\\nsecond line')")
    described = tmp_path / f"transformers-{version}.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: transformers\nVersion: {version}\n")
    done = subprocess.run(
        [sys.executable, "-c", "import audioflamingo.integrations.transformers"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"TransformersVersionError: {expected}" in done.stderr.splitlines()[-1]


def test_no_transformers_at_all(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"^transformers is not installed; 5.16 to .* pip install"):
        check_installed()

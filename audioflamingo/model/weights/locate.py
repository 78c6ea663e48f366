"""From what a user types, a folder, a short name or a hub id, to a folder on this machine."""

from __future__ import annotations

import logging
import re
from functools import cache
from pathlib import Path

from audioflamingo.errors import CheckpointError

NANO_FOLDER = Path(__file__).parents[2] / "assets" / "nano"
RELEASES = {
    "af3": "nvidia/audio-flamingo-3-hf",
    "af3-think": "nvidia/audio-flamingo-3-hf",  # the same, and its thinking adapter
    "af3-chat": "nvidia/audio-flamingo-3-chat",
}
ALLOWED_FILES = ("*.safetensors", "*.json", "*.txt", "*.jinja")
ADAPTER_FOLDERS = ("think/*", "stage35/*")
ADAPTER_FILES = ("think/non_lora_trainables.bin", "stage35/non_lora_trainables.bin")
_log = logging.getLogger(__name__)


def resolve(name: str | Path, *, revision: str | None = None, offline: bool = False) -> Path:
    """The folder of a checkpoint, downloaded first where it is on the hub.

    Args:
        name: ``nano`` (embedded), ``af3``, ``af3-think`` (with its adapter), ``af3-chat``, a folder, or a hub id
            ``owner/name``.
        revision: branch, tag or commit on the hub.
        offline: use only what was downloaded before.

    Raises:
        CheckpointError: no such name or folder, or a download that did not work.
    """
    text = str(name)
    if text == "nano":
        return _embedded()
    if text and text not in RELEASES and Path(name).is_dir():
        return Path(name)
    repo_id = RELEASES.get(text, text)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", repo_id):
        raise CheckpointError(
            f"no checkpoint {text!r}: expected nano, {', '.join(RELEASES)}, an existing folder, or a hub id owner/name"
        )
    return _download(repo_id, revision, offline, with_adapter=text == "af3-think")


def _embedded() -> Path:
    if not (NANO_FOLDER / "config.json").exists():
        raise CheckpointError("this copy of the package holds no embedded model; reinstall it, or name a folder")
    return NANO_FOLDER


def _download(repo_id: str, revision: str | None, offline: bool, *, with_adapter: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    if repo_id.startswith("nvidia/"):
        _say_terms(repo_id)
    try:
        folder = snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=[*ALLOWED_FILES, *(ADAPTER_FILES if with_adapter else ())],
            ignore_patterns=None if with_adapter else list(ADAPTER_FOLDERS),
            local_files_only=offline,
        )
    # The hub client raises errors of several network libraries, by version; for a user all mean the same.
    except Exception as error:
        raise CheckpointError(
            f"{repo_id} is not a folder here and could not be had from the hub ({type(error).__name__}); what works "
            f"without a network: nano, a folder, or a hub id that was downloaded before"
        ) from error
    return Path(folder)


@cache
def _say_terms(repo_id: str) -> None:
    """Once for each repository and program."""
    _log.warning("%s is NVIDIA's and under its own non-commercial licence; read the terms on its hub page", repo_id)

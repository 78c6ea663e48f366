"""One two-way table between our tensor names and the three spellings in which Audio Flamingo 3 is published.

* ``legacy``: what the hub's converted checkpoint holds and what transformers still writes.
* ``transformers``: the module names of transformers 5.
* ``nvidia``: NVIDIA's own three folders; here a name is written ``FOLDER/tensor``.

A prefix is all that differs, so the table is one of prefixes; the first row that fits wins.
"""

from __future__ import annotations

from typing import Literal, get_args

Spelling = Literal["legacy", "transformers", "nvidia"]
SPELLINGS: tuple[Spelling, ...] = get_args(Spelling)
NVIDIA_FOLDERS = ("llm", "sound_tower", "sound_mm_projector")

_OURS = ("decoder.lm_head.", "decoder.", "encoder.", "projector.linear_1.", "projector.linear_2.")
_PREFIXES: dict[Spelling, tuple[str, ...]] = {
    "legacy": (
        "language_model.lm_head.",
        "language_model.model.",
        "audio_tower.",
        "multi_modal_projector.linear_1.",
        "multi_modal_projector.linear_2.",
    ),
    "transformers": (
        "lm_head.",
        "model.language_model.",
        "model.audio_tower.",
        "model.multi_modal_projector.linear_1.",
        "model.multi_modal_projector.linear_2.",
    ),
    "nvidia": (
        "llm/lm_head.",
        "llm/model.",
        "sound_tower/",
        "sound_mm_projector/layers.0.",
        "sound_mm_projector/layers.2.",
    ),
}
# Read like the prefixes above, never written: transformers 5.16 and 5.17 double a `model.` when they save, and NVIDIA's
# tower was saved from modules nested in different ways. The longest that fits comes first.
_ALIASES: dict[Spelling, tuple[tuple[str, str], ...]] = {
    "legacy": (("language_model.model.model.", "language_model.model."),),
    "transformers": (),
    "nvidia": (
        ("sound_tower/model.audio_tower.", "sound_tower/"),
        ("sound_tower/audio_tower.", "sound_tower/"),
        ("sound_tower/model.", "sound_tower/"),
    ),
}


def from_ours(name: str, spelling: Spelling) -> str:
    """The name that a tensor of ours has in a checkpoint of the given spelling."""
    renamed = _swap(name, _OURS, _PREFIXES[spelling])
    assert renamed is not None, name
    return renamed


def to_ours(name: str, spelling: Spelling) -> str | None:
    """Our name for a checkpoint's tensor, or None where the spelling has no such tensor."""
    for alias, canonical in _ALIASES[spelling]:
        if name.startswith(alias):
            name = canonical + name.removeprefix(alias)
            break
    return _swap(name, _PREFIXES[spelling], _OURS)


def _swap(name: str, old: tuple[str, ...], new: tuple[str, ...]) -> str | None:
    for old_prefix, new_prefix in zip(old, new, strict=True):
        if name.startswith(old_prefix):
            return new_prefix + name.removeprefix(old_prefix)
    return None

"""Conversations on disk: a JSON file and, beside it, a folder with the sounds as they were heard (16 kHz float WAV).

A file may come from anywhere: everything in it is checked, and it can only name sounds in its own folder.
"""

from __future__ import annotations

import json
import os
import re
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from audioflamingo.audio import MAX_DURATION_S, MIN_SAMPLES
from audioflamingo.audio import load as load_audio
from audioflamingo.errors import AudioError, FlamingoError, PromptError
from audioflamingo.prompt.messages import check_contents
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, Message, Role

FORMAT = "audioflamingo-conversation"
VERSION = 1
MAX_FILE_BYTES = 16 << 20
MAX_MESSAGES = 4_096
MAX_NAME_CHARS = 255
MAX_SOUNDS_S = MAX_DURATION_S  # of all sounds of a conversation together
_SOUND_FILE = re.compile(r"[0-9a-f]{64}\.wav")


def save_messages(path: str | Path, messages: Sequence[Message], num_pinned: int) -> None:
    """Write a conversation; an existing one is replaced only by a complete one, and another file never is.

    Raises:
        PromptError: the place cannot be written to, or a file that is no conversation is there.
    """
    import soundfile

    path = Path(path)
    sounds = {part.key: part for message in messages for part in message.content if isinstance(part, Audio)}
    values = {
        "format": FORMAT,
        "version": VERSION,
        "num_pinned": num_pinned,
        "messages": [{"role": message.role, "content": [_written(part) for part in message.content]}
                     for message in messages],
    }  # fmt: skip
    text = json.dumps(values, ensure_ascii=False, indent=1) + "\n"
    if len(text.encode("utf-8", "replace")) > MAX_FILE_BYTES:
        raise PromptError(f"the conversation takes more than {MAX_FILE_BYTES:,} bytes, which would not be read again")
    partial = path.with_name(f".{path.name}.partial")
    try:
        _keep_others(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        for key, sound in sounds.items():
            folder = _sound_folder(path)
            folder.mkdir(exist_ok=True)
            soundfile.write(folder / f"{key}.wav", sound.samples, SAMPLE_RATE_HZ, subtype="FLOAT")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except (OSError, ValueError, soundfile.SoundFileError) as error:
        _remove(partial)
        why = getattr(error, "strerror", None) or " ".join(str(error).split())[:100]
        raise PromptError(f"the conversation cannot be saved as {path}: {why}. Name another file") from error


def load_messages(path: str | Path) -> tuple[tuple[Message, ...], int]:
    """Read a conversation; returns its messages and how many of them are pinned.

    Raises:
        PromptError: no such file, no conversation, or something in it that is not allowed.
        AudioError: one of its sounds is missing or is not the one that was saved.
    """
    path = Path(path)
    values = _read(path)
    entries, num_pinned = values.get("messages"), values.get("num_pinned", 0)
    if values.get("format") != FORMAT or values.get("version") != VERSION or values["version"] is True:
        raise PromptError(f"{path} is no conversation of version {VERSION}; load what Chat.save or /save wrote")
    if not isinstance(entries, list) or len(entries) > MAX_MESSAGES:
        raise PromptError(f"{path}: messages must be a list of at most {MAX_MESSAGES:,}")
    if not isinstance(num_pinned, int) or isinstance(num_pinned, bool) or not 0 <= num_pinned <= len(entries):
        raise PromptError(f"{path}: num_pinned is {reprlib.repr(num_pinned)}, allowed: 0 to {len(entries)}")
    sounds = _Sounds(_sound_folder(path))
    messages = tuple(_message(entry, number, path, sounds) for number, entry in enumerate(entries, start=1))
    try:
        check_contents(messages)
    except FlamingoError as error:
        raise PromptError(f"{path}: {error}") from error
    return messages, num_pinned


def _keep_others(path: Path) -> None:
    """Refuse to replace what holds something and is no conversation, such as the sound that was talked about.

    Raises:
        ValueError: such a file is there.
    """
    if not path.exists() or path.is_dir():  # a folder cannot be replaced by a file anyway
        return
    if path.is_file() and path.stat().st_size == 0:
        return
    try:
        is_ours = _read(path).get("format") == FORMAT
    except PromptError:
        is_ours = False
    if not is_ours:
        raise ValueError("a file that is no conversation is there, and it stays")


def _written(part: str | Audio) -> dict[str, str]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "audio", "file": f"{part.key}.wav", "name": part.name}


def _sound_folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.sounds")


class _Sounds:
    """The sounds of one folder, each read once a name, all of them together no longer than a limit."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[tuple[str, str], Audio] = {}
        self._left_s = MAX_SOUNDS_S

    def sound(self, file: str, name: str) -> Audio:
        """The sound of a file, as this conversation calls it."""
        if (file, name) not in self._found:
            self._found[file, name] = self._read(self._folder / file, name)
        return self._found[file, name]

    def _read(self, path: Path, name: str) -> Audio:
        if self._left_s < MIN_SAMPLES / SAMPLE_RATE_HZ:
            raise AudioError(f"the sounds in {self._folder} last more than {MAX_SOUNDS_S:g} s together. Take some out.")
        sound = load_audio(path, max_duration_s=self._left_s)
        if sound.key != path.stem:
            raise AudioError(f"{path} is not the sound that was saved; restore it")
        self._left_s -= sound.duration_s
        return load_audio(sound, name=name)


def _remove(partial: Path) -> None:
    try:
        partial.unlink(missing_ok=True)
    except OSError:
        return


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():  # a device might never end, a pipe never begin
            raise PromptError(f"{path} is no regular file; load what Chat.save or /save wrote")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PromptError(f"{path} has {path.stat().st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PromptError(f"{path} cannot be read: {error.strerror or error}") from error
    except PromptError:
        raise
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{path} is no conversation: {' '.join(str(error).split())[:100]}") from error
    if not isinstance(values, dict):
        raise PromptError(f"{path} is no conversation: it holds no JSON object")
    return values


def _message(entry: Any, number: int, path: Path, sounds: _Sounds) -> Message:
    role: Any = entry.get("role") if isinstance(entry, dict) else None
    content = entry.get("content") if isinstance(entry, dict) else None
    if role not in get_args(Role) or not isinstance(content, list) or not content:
        raise PromptError(
            f"{path}: message {number} needs a role ({', '.join(get_args(Role))}) and a list of items as content"
        )
    return Message(role, tuple(_part(item, number, path, sounds) for item in content))


def _part(item: Any, number: int, path: Path, sounds: _Sounds) -> str | Audio:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind == "text" and isinstance(item.get("text"), str):
        return str(item["text"])
    if kind != "audio" or not isinstance(item.get("file"), str):
        raise PromptError(f"{path}: message {number} has an item that is neither text nor a sound's file")
    if not _SOUND_FILE.fullmatch(item["file"]):
        raise PromptError(f"{path}: message {number} names the sound {item['file'][:80]!r}; expected KEY.wav")
    name = item.get("name")
    return sounds.sound(item["file"], name[:MAX_NAME_CHARS] if isinstance(name, str) and name else "audio")

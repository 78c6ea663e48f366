"""Sounds of a request: base64, data: addresses and, where allowed, fetched ones, within the request's seconds."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from audioflamingo.audio import load as load_audio
from audioflamingo.errors import AudioError
from audioflamingo.server.errors import ApiError, refused
from audioflamingo.server.fetch import fetch
from audioflamingo.server.limits import ServerLimits
from audioflamingo.server.schema import SoundRef, Turn
from audioflamingo.types import Audio, Message


class Listener:
    """Reads the sounds of one request; called in a reader's thread."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._left_s = limits.max_audio_s
        self._num_read = 0

    def messages(self, turns: Sequence[Turn]) -> tuple[Message, ...]:
        """The conversation with its sounds decoded.

        Raises:
            ApiError: one of them is not usable; its field is named.
        """
        return tuple(
            Message(turn.role, tuple(self._sound(part) if isinstance(part, SoundRef) else part for part in turn.parts))
            for turn in turns
        )

    def decoded(self, data: bytes, param: str, name: str) -> Audio:
        """A file's bytes as a sound.

        Raises:
            ApiError: they are none, or longer than the seconds that are left to this request.
        """
        if self._left_s <= 0:
            raise self._too_long(param)
        try:
            audio = load_audio(data, name=name, max_duration_s=self._left_s)
        except AudioError as error:
            raise refused(str(error), param, "invalid_audio") from error
        self._left_s -= audio.duration_s
        return audio

    def _sound(self, ref: SoundRef) -> Audio:
        self._num_read += 1
        name = f"sound {self._num_read}"
        data = _from_base64(ref.base64, ref.path) if ref.base64 is not None else self._from_url(str(ref.url), ref.path)
        return self.decoded(data, ref.path, name)

    def _from_url(self, url: str, path: str) -> bytes:
        if url[:5].lower() == "data:":
            return _from_data_url(url, path)
        if url[:8].lower().startswith(("http://", "https://")):
            return self._fetched(url, path)
        raise refused(f"{path} is no data:, http: or https: address; send the sound as input_audio", path)

    def _fetched(self, url: str, path: str) -> bytes:
        if not self._limits.allow_urls:
            raise refused(
                f"{path}: this server fetches no addresses; send the sound as input_audio or as a data: address, "
                "or start the server with --allow-urls",
                path,
                "urls_not_allowed",
            )
        try:
            return fetch(url, max_bytes=self._limits.max_body_bytes, max_s=self._limits.max_url_s)
        except ApiError as error:
            raise refused(f"{path}: {error}", path, error.code) from error

    def _too_long(self, param: str) -> ApiError:
        return refused(
            f"the sounds of this request are longer than {self._limits.max_audio_s:g} s together, which is all that "
            "this server takes; send fewer or shorter ones",
            param,
            "invalid_audio",
        )


def _from_base64(text: str, path: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        hint = "; leave out what stands before the comma" if text.startswith("data:") else ""
        raise refused(
            f"{path} is no base64 ({error}){hint}; encode the file's bytes", path, "invalid_base64"
        ) from error


def _from_data_url(url: str, path: str) -> bytes:
    head, comma, data = url.partition(",")
    if not comma:
        raise refused(f"{path} is a data: address without a comma; send data:audio/wav;base64,...", path)
    if head.lower().endswith(";base64"):
        return _from_base64(data, path)
    return unquote_to_bytes(data)

"""What the server takes from strangers: bytes, seconds, sounds, requests at once; and who may ask. No framework."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from audioflamingo.errors import OptionError

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """Every limit of the server, each a whole number or seconds.

    Attributes:
        max_running: requests that are worked on together; the engine's own number of sequences is its ceiling.
        max_waiting: further requests that wait for a place; what comes beyond is told to come back later.
        max_body_bytes: of one request.
        max_bodies_bytes: of all requests that are being read or wait, together.
        max_audio_s: seconds of all sounds of one request together.
        max_sounds: sounds of one request.
        max_speech_chars: of a text that is read aloud.
        max_request_s: for which a request may wait for its turn, and the same again for its answer.
        max_body_s: in which a request's body has to come.
        max_stall_s: for which a client may take nothing of an answer that is there.
        max_talkers: answers and texts that are spoken at the same time; and as many sounds that are transcribed.
        allow_urls: whether sounds may be fetched from http and https addresses.
        max_url_s: for fetching one of them.
        api_keys: of which a request must bring one; empty lets everybody in.
    """

    max_running: int = 64
    max_waiting: int = 64
    max_body_bytes: int = 64 * MIB
    max_bodies_bytes: int = 1024 * MIB
    max_audio_s: float = 3_600.0
    max_sounds: int = 100
    max_speech_chars: int = 20_000
    max_request_s: float = 600.0
    max_body_s: float = 60.0
    max_stall_s: float = 30.0
    max_talkers: int = 8
    allow_urls: bool = False
    max_url_s: float = 20.0
    api_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse numbers with which nothing could be answered.

        Raises:
            OptionError: one of them is not positive, or an API key is no plain word.
        """
        for name, value in vars(self).items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and value < (0 if name == "max_waiting" else 1):
                raise OptionError(f"{name} is {value}, allowed: {0 if name == 'max_waiting' else 1} or more")
        for key in self.api_keys:
            if not key.isascii() or not key.isprintable() or not key.strip() or " " in key:
                raise OptionError("an API key is empty or has blanks or other than ASCII characters; give a plain word")

    def is_known_key(self, key: str) -> bool:
        """Whether a key is one of ours; takes as long for a wrong one, however much of it is right."""
        found = [hmac.compare_digest(key.encode(), own.encode()) for own in self.api_keys]
        return any(found)


def is_loopback(host: str) -> bool:
    """Whether a host's name, with or without a port, is this machine's own, which no other can reach."""
    if host == "::1":
        return True
    name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    return name.lower() in ("localhost", "::1") or (name.startswith("127.") and name.count(".") == 3)


def open_note(host: str, keys: Iterable[str]) -> str | None:
    """A note where a server without a key can be reached from other machines."""
    if is_loopback(host) or any(keys):
        return None
    return f"anybody who reaches {host} can use this server; set FLAMINGO_API_KEY or pass --api-key"

"""Sounds from http and https addresses: bounded in bytes and time, never from an address that is not public.

A name is resolved once, all its addresses are checked, and the connection goes to one of those very addresses, so that
a name cannot mean something else a moment later. Each redirect is checked in the same way.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from urllib.parse import SplitResult, urljoin, urlsplit

from audioflamingo.server.errors import ApiError

MAX_REDIRECTS = 3
PIECE_BYTES = 1 << 16
MAX_URL_CHARS = 2_048
_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}


class _UnreachableError(Exception):
    """Why an address gives no sound."""


def fetch(url: str, *, max_bytes: int, max_s: float, allow_private: bool = False) -> bytes:
    """The bytes behind an address.

    Args:
        url: http or https.
        max_bytes: of the answer.
        max_s: for all of it, redirects included.
        allow_private: take addresses of this machine and of private networks, too; for a server of one's own.

    Raises:
        ApiError: the address is not allowed, gives no sound, or takes too much or too long.
    """
    deadline_s = time.monotonic() + max_s
    try:
        for _ in range(MAX_REDIRECTS + 1):
            found = _get(url, max_bytes, deadline_s, allow_private)
            if isinstance(found, bytes):
                return found
            url = urljoin(url, found)
        raise _UnreachableError(f"it redirects more than {MAX_REDIRECTS} times")
    except _UnreachableError as error:
        raise ApiError(f"{error}; send the sound itself as input_audio", code="url_not_usable") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = (
            "it took too long" if isinstance(error, TimeoutError) else f"it cannot be read ({type(error).__name__})"
        )
        raise ApiError(f"{reason}; send the sound itself as input_audio", code="url_not_usable") from error


def _get(url: str, max_bytes: int, deadline_s: float, allow_private: bool) -> bytes | str:
    """The bytes, or where they are instead."""
    if len(url) > MAX_URL_CHARS or not url.isprintable() or not url.isascii():
        raise _UnreachableError(
            f"the address is longer than {MAX_URL_CHARS} characters or holds other than plain ASCII"
        )
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise _UnreachableError("the address is not http or https")
    if parts.username is not None:
        raise _UnreachableError("the address holds a user's name")
    address = _address(parts.hostname, parts.port or _PORTS[parts.scheme], allow_private)
    connection = _Pinned(parts, address, deadline_s)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target.replace(" ", "%20"), headers={"accept": "audio/*, */*;q=0.1"})
        response = connection.getresponse()
        if response.status in _REDIRECTS and (place := response.headers.get("location")):
            return place
        if response.status != 200:
            raise _UnreachableError(f"it answers with the status {response.status}")
        return _body(response, connection, max_bytes, deadline_s)
    finally:
        connection.close()


def _address(host: str, port: int, allow_private: bool) -> tuple[int, tuple[str, int]]:
    """The family and the address of a host, all of whose addresses are public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _UnreachableError("the address's host is not known") from error
    for _, _, _, _, place in found:
        if not allow_private and not is_public(str(place[0])):
            raise _UnreachableError("the address is of a private network or of this machine")
    family, _, _, _, place = found[0]
    return family, (str(place[0]), port)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's, and not of some inner network or a group of receivers."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    teredo = getattr(ip, "teredo", None)
    if inner is not None or teredo is not None:
        return False  # an inner address in an outer one's clothes; nothing public needs it
    in_nat64 = ip.version == 6 and ip in ipaddress.ip_network("64:ff9b::/96")
    return ip.is_global and not ip.is_multicast and not in_nat64


def _body(response: http.client.HTTPResponse, connection: _Pinned, max_bytes: int, deadline_s: float) -> bytes:
    stated = response.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > max_bytes:
        raise _UnreachableError(f"it has {int(stated):,} bytes; at most {max_bytes:,} are taken")
    body = bytearray()
    while True:
        connection.wait_until(deadline_s)
        piece = response.read1(PIECE_BYTES)
        if not piece:
            return bytes(body)
        body += piece
        if len(body) > max_bytes:
            raise _UnreachableError(f"it has more than {max_bytes:,} bytes")


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was checked, whatever the host's name means by now."""

    def __init__(self, parts: SplitResult, address: tuple[int, tuple[str, int]], deadline_s: float) -> None:
        assert parts.hostname is not None
        super().__init__(parts.hostname, parts.port or _PORTS[parts.scheme])
        self._is_tls = parts.scheme == "https"
        self._family, self._address = address
        self._deadline_s = deadline_s

    def connect(self) -> None:
        """Connect to the address; over TLS, the certificate has to be of the host's name."""
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            sock.settimeout(_left_s(self._deadline_s))
            sock.connect(self._address)
            if self._is_tls:
                sock = ssl.create_default_context().wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise
        self.sock = sock
        self._own = sock

    def wait_until(self, deadline_s: float) -> None:
        """Let the next read last no longer than what is left."""
        self._own.settimeout(_left_s(deadline_s))


def _left_s(deadline_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s

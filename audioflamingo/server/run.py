"""The process: a port, the HTTP server on it, and an end that does not keep anybody waiting."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

from audioflamingo.errors import OptionError
from audioflamingo.server.app import create_app
from audioflamingo.server.limits import is_loopback
from audioflamingo.server.worker import Worker

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
LAST_WORDS_S = 2  # for the errors of answers that end with the server to reach their clients
BACKLOG = 512


def bind(host: str, port: int) -> socket.socket:
    """A socket on an address, before anything costly is done.

    Raises:
        OptionError: the port is taken or not allowed, or this machine does not have the address.
    """
    if not 0 <= port < 1 << 16:  # the system would take it modulo this
        raise OptionError(f"--port is {port}, allowed: 0 to {(1 << 16) - 1}")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.listen(BACKLOG)
        except OSError:
            bound.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OptionError(
            f"{host} port {port} cannot be used: {reason}; choose another with --port or --host"
        ) from error
    return bound


class Server(uvicorn.Server):
    """Uvicorn's, except that a signal ends running answers at once, and that the caller learns of the signal."""

    def __init__(self, config: uvicorn.Config, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop = stop
        self.signal: int | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Without raising the signal again afterwards: who calls `serve` decides what it means."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal does not wait for anybody."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self.signal = sig
        self._stop()


def serve(worker: Worker, bound: socket.socket, host: str, ready: Callable[[], None]) -> int | None:
    """Serve until a signal comes.

    Args:
        worker: the model and its voice.
        bound: from `bind`; closed at the end.
        host: the name that was bound; where no other machine can reach it, other names are refused.
        ready: called once requests are taken.

    Returns:
        The signal.
    """
    hosts = tuple(dict.fromkeys((*LOOPBACK_NAMES, host.lower()))) if is_loopback(host) else ()
    return asyncio.run(_serve(worker, bound, hosts, ready))


def server_of(worker: Worker, hosts: tuple[str, ...], stop: Callable[[], None]) -> Server:
    """The HTTP server of a worker; see `create_app` and `Server`."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(
        create_app(worker, hosts=hosts),
        http="h11",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=LAST_WORDS_S,
        ws_max_size=worker.limits.max_body_bytes,
    )
    return Server(config, stop)


async def _serve(worker: Worker, bound: socket.socket, hosts: tuple[str, ...], ready: Callable[[], None]) -> int | None:
    loop = asyncio.get_running_loop()

    def stop() -> None:  # called by a signal's handler, wherever the main thread is then
        loop.call_soon_threadsafe(worker.stop)

    server = server_of(worker, hosts, stop)
    serving = asyncio.ensure_future(server.serve(sockets=[bound]))
    while not (server.started or serving.done()):
        await asyncio.sleep(0.01)
    if not serving.done():
        ready()
    await serving
    return server.signal

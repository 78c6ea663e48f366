"""A second queue of a GPU's work, on which sounds are encoded while answers are written on the first.

A decode step is bound by memory and the encoder by arithmetic, so the two hardly slow each other. What lies in memory
that was taken on one queue may be used on the other only once its event has passed, and must not be handed out again
before that use is over; both are seen to here. Everything that the encoder runs goes through here or nothing does: its
recorded launches share their buffers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class Aside:
    """The queue, and by key the windows that are still on it."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._events: dict[bytes, torch.cuda.Event] = {}

    @contextmanager
    def running(self, keys: Iterable[bytes]) -> Iterator[None]:
        """Within the block launches go to this queue; what they make are the embeddings of these windows."""
        with torch.cuda.stream(self._stream):
            yield
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._events.update(dict.fromkeys(keys, event))

    def are_done(self, keys: Iterable[bytes]) -> bool:
        """Whether the device has passed all that was launched for them."""
        return all(_is_passed(self._events[key]) for key in keys if key in self._events)

    def join(self, embeddings: Mapping[bytes, Tensor]) -> None:
        """Let the current queue wait for these windows and say that it uses them."""
        current = torch.cuda.current_stream(self._stream.device)
        for key, embedding in embeddings.items():
            event = self._events.get(key)
            if event is not None:
                current.wait_event(event)
            embedding.record_stream(current)
        for key in [key for key, event in self._events.items() if _is_passed(event)]:
            del self._events[key]


def _is_passed(event: torch.cuda.Event) -> bool:
    return bool(event.query())  # type: ignore[no-untyped-call]

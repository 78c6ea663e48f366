"""What one session, and all together, may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    """Bounds of real-time sessions.

    Attributes:
        max_sessions: at the same time; one more is told so and closed.
        max_message_bytes: of one event of a client.
        events_per_s: of one client; who sends more is read more slowly, and told.
        max_buffer_s: sound of one turn; a longer one is ended (found by silence) or refused (committed by the client).
        max_history_s: sound that a conversation remembers; the oldest items leave first, and the client is told.
        max_items: that a conversation remembers.
        idle_s: without any event of the client, after which a session ends.
        send_s: that a client may take no data before its session ends.
        max_unsent_bytes: that wait for a client; beyond that its answers wait, and at twice as much nothing is read
            from it. Nobody else waits.
    """

    max_sessions: int = 16
    max_message_bytes: int = 4 << 20
    events_per_s: float = 200.0
    max_buffer_s: float = 300.0
    max_history_s: float = 900.0
    max_items: int = 200
    idle_s: float = 600.0
    send_s: float = 30.0
    max_unsent_bytes: int = 1 << 20

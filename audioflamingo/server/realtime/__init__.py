"""Spoken conversations over a WebSocket, in the events of OpenAI's Realtime interface.

`endpoint` is the wire: connections, their bounds, what is read and sent. `session` answers each event of a client.
`settings` and `items` are what it holds, `listening` is what it hears, `transcripts` are the user's words, `response`
is an answer on its way, `making` the thread that makes it, and `outgoing` what waits to be sent. `events` has the forms
of events and errors. Turn taking is `audioflamingo.speech`'s.
"""

from audioflamingo.server.realtime.bounds import Bounds
from audioflamingo.server.realtime.endpoint import routes

__all__ = ["Bounds", "routes"]

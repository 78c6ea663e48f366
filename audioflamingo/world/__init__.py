"""Sounds that we make ourselves, voices, events, rooms and scenes, and questions about them with exact answers."""

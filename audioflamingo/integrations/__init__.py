"""Audio Flamingo 3 inside what people already use. Each integration is imported by its own name, never from here."""

"""From prompts to streamed answers: scheduling, the KV cache, sampling, and the loop that ties them together.

This is the plain path. It stays for good, as the slow twin that every faster path is tested against.
"""

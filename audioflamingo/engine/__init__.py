"""From prompts to streamed answers: scheduling, the paged KV cache, sampling, and the loop that ties them together.

`engine.engine` is what serves; `engine.plain` is its slow twin, which every faster path is tested against.
"""

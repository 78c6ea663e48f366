"""Show an answer while it is being made.

python examples/stream.py [FILE [QUESTION]]
"""

import sys
import time
from pathlib import Path

import audioflamingo

HERE = Path(__file__).parent


def main(path: str = str(HERE / "man_speaking.flac"), question: str = "Transcribe the input speech.") -> None:
    """Print the pieces as they come, then when the first came and why the answer ended."""
    model = audioflamingo.load_model("nano")
    began, first_s, last = time.perf_counter(), 0.0, None
    with model.stream([{"role": "user", "content": [Path(path), question]}], max_new_tokens=64) as stream:
        for delta in stream:
            first_s = first_s or time.perf_counter() - began
            print(delta.text, end="", flush=True)
            last = delta
    assert last is not None
    print(f"\n  first piece after {first_s * 1000:.0f} ms; ended by {last.finish_reason!r}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Ask about a sound, write down its words, describe it.

python examples/ask.py [FILE [QUESTION]]
"""

import sys
from pathlib import Path

import audioflamingo

HERE = Path(__file__).parent


def main(path: str | Path = HERE / "dog_then_bell.wav", question: str = "What do you hear?") -> None:
    """Print three answers and what the first one cost."""
    model = audioflamingo.load_model("nano")  # or "af3", a folder, a hub id
    reply = model.ask(path, question)
    print(f"{question} {reply.text}")
    print(f"  {reply.usage.audio_tokens} audio tokens in, {reply.usage.completion_tokens} tokens out")
    print(f"Words: {model.transcribe(path).text}")
    print(f"Caption: {model.caption(path).text}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Several sounds in one question, or in one conversation.

python examples/several_sounds.py
"""

from pathlib import Path

import audioflamingo

HERE = Path(__file__).parent
ROOSTER, SIREN = HERE / "rooster.wav", HERE / "siren.flac"


def main() -> None:
    """Ask about two sounds in three ways; the embedded model, which learned from single sounds, often misses one."""
    model = audioflamingo.load_model("nano")
    # Sounds stand before the question, or where `<sound-1>` and `<sound-2>` say.
    print("put first:   ", model.ask([ROOSTER, SIREN], "What do you hear?").text)
    print("placed:      ", model.ask([ROOSTER, SIREN], "Here is <sound-2> and then <sound-1>. What do you hear?").text)
    chat = model.chat()
    print("one a turn:  ", chat.ask("What do you hear?", ROOSTER).text)
    print("             ", chat.ask("What do you hear?", SIREN).text)
    print("remembered:  ", len(chat.messages), "messages")


if __name__ == "__main__":
    main()

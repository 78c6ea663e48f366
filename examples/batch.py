"""Ask all the questions of truth.json as one batch, and compare with the truth.

python examples/batch.py
"""

import json
from pathlib import Path

import audioflamingo
from audioflamingo import AudioError, Message, load_audio

HERE = Path(__file__).parent


def main() -> None:
    """Print every answer with the truth where it differs; then show that one bad file loses only its own answer."""
    model = audioflamingo.load_model("nano")
    entries = json.loads((HERE / "truth.json").read_text(encoding="utf-8"))
    conversations = [
        [Message("user", (*(load_audio(HERE / file) for file in entry["files"]), entry["question"]))]
        for entry in entries
    ]
    for entry, reply in zip(entries, model.generate(conversations), strict=True):
        mark = "" if reply.text == entry["answer"] else f"   (truth: {entry['answer']})"
        print(f"{' + '.join(entry['files'])}: {reply.text}{mark}")

    question = {"type": "text", "text": "What do you hear?"}
    two = [
        [{"role": "user", "content": [{"type": "audio", "audio": str(HERE / file)}, question]}]
        for file in ("rooster.wav", "truth.json")
    ]
    for answer in model.generate(two, errors="return"):
        print(f"error: {answer}" if isinstance(answer, AudioError) else answer.text)


if __name__ == "__main__":
    main()

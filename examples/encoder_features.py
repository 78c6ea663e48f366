"""What the model hears, as numbers: encoder features, and how alike sounds are by them.

python examples/encoder_features.py
"""

from itertools import combinations
from pathlib import Path

import torch

import audioflamingo

HERE = Path(__file__).parent
FILES = ("woman_speaking.wav", "man_speaking.flac", "siren.flac", "noise.wav")


def main() -> None:
    """Print the features' shapes, then the cosine similarity of their means for every pair of sounds."""
    model = audioflamingo.load_model("nano")
    means = {}
    for file in FILES:
        features = model.encode(HERE / file)  # (A, D): one row for each 40 ms of sound
        projected = model.encode(HERE / file, project=True)  # (A, width of the decoder)
        print(f"{file}: {tuple(features.shape)}, projected {tuple(projected.shape)}")
        means[file] = features.float().mean(0)
    centre = torch.stack([*means.values()]).mean(0)
    for one, other in combinations(FILES, 2):
        alike = torch.cosine_similarity(means[one] - centre, means[other] - centre, dim=0)
        print(f"{one} and {other}: {alike:+.2f}")


if __name__ == "__main__":
    main()

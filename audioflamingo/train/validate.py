"""How far a transcript is from the truth."""

from __future__ import annotations


def word_errors(truth: list[str], guess: list[str]) -> int:
    """Fewest insertions, deletions and substitutions that turn one list of words into the other."""
    row = list(range(len(guess) + 1))
    for i, word in enumerate(truth, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(guess, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
    return row[-1]

"""Whether ids, masks and features that reach the model belong together, for those who made them by hand.

Shapes: B rows, T padded tokens, W windows, F mel frames.
"""

from __future__ import annotations

from torch import Tensor

from audioflamingo.errors import PromptError


def check_counts(input_ids: Tensor, audio_token_id: int, num_audio_tokens: int) -> None:
    """Check that ids of any shape hold as many placeholders as there are audio tokens.

    Raises:
        PromptError: they hold more or fewer.
    """
    _compare(int((input_ids == audio_token_id).sum()), num_audio_tokens)


def check_features(input_features: Tensor, num_mel_bins: int) -> None:
    """Check the shape of log-mels.

    Raises:
        PromptError: they are not (W, bins, F).
    """
    if input_features.ndim != 3 or input_features.shape[1] != num_mel_bins:
        raise PromptError(
            f"input_features are of shape {tuple(input_features.shape)}, expected (windows, {num_mel_bins}, mel "
            "frames); make them with the processor"
        )


def check_ids(input_ids: Tensor, vocab_size: int) -> None:
    """Check that every id is one of the vocabulary: a GPU does not survive others.

    Raises:
        PromptError: one is not.
    """
    if not input_ids.numel():
        return
    lowest, highest = (int(one) for one in input_ids.aminmax())
    if lowest < 0 or highest >= vocab_size:
        raise PromptError(
            f"input_ids hold {lowest if lowest < 0 else highest}, the model's vocabulary 0 to {vocab_size - 1}; use "
            "the checkpoint's own processor, or resize_token_embeddings after adding tokens"
        )


def check_encoded(audio: Tensor) -> None:
    """Check that embeddings of audio tokens are finite.

    Raises:
        PromptError: they are not.
    """
    if not bool(audio.isfinite().all()):
        raise PromptError(
            f"the sounds' embeddings are not finite in {audio.dtype}; make input_features with the processor, and load "
            "the model in bfloat16 or float32"
        )


def check_rows(mask: Tensor) -> list[int]:
    """Check that every row of a (B, T) bool mask shows a token; returns how many each one shows.

    Raises:
        PromptError: one shows none.
    """
    lengths: list[int] = mask.sum(-1).tolist()
    if 0 in lengths:
        raise PromptError(
            f"row {lengths.index(0) + 1} of the batch has no token that attention_mask shows; give every row a prompt"
        )
    return lengths


def windows_of_rows(placeholders: list[int], tokens_of_windows: list[int]) -> list[list[int]]:
    """Indices of each row's windows; windows without a token are left out.

    Args:
        placeholders: of each row.
        tokens_of_windows: audio tokens of each window.

    Raises:
        PromptError: the two do not agree.
    """
    _compare(sum(placeholders), sum(tokens_of_windows))
    waiting = [window for window, count in enumerate(tokens_of_windows) if count]
    groups: list[list[int]] = []
    for needed in placeholders:
        group: list[int] = []
        while needed > 0:
            group.append(waiting.pop(0))
            needed -= tokens_of_windows[group[-1]]
        if needed < 0:
            raise PromptError("a window's audio tokens are spread over two rows; give each row its own sounds")
        groups.append(group)
    return groups


def _compare(num_placeholders: int, num_audio_tokens: int) -> None:
    if num_placeholders != num_audio_tokens:
        raise PromptError(
            f"{num_placeholders} audio placeholders stand in input_ids but the sounds give {num_audio_tokens} audio "
            "tokens; make both with the processor, in one call"
        )

import numpy as np
import pytest
import torch

from audioflamingo.audio import log_mel
from audioflamingo.train.features import Augmentation, BatchLogMel


@pytest.mark.parametrize("seconds", [1, 7, 30])
def test_equals_the_front_end_used_for_inference(seconds):
    rng = np.random.default_rng(seconds)
    samples = (rng.standard_normal((2, seconds * 16_000)) * 3000).astype(np.int16)
    batch = BatchLogMel(torch.device("cpu"))(torch.from_numpy(samples))
    for row, mel in zip(samples, batch, strict=True):
        reference = log_mel(torch.from_numpy(row.astype(np.float32) / 32768))
        torch.testing.assert_close(mel, reference, atol=1e-4, rtol=0)


def test_every_augmentation_changes_the_mel_and_keeps_its_shape():
    rng = np.random.default_rng(0)
    samples = torch.from_numpy((rng.standard_normal((3, 32_000)) * 3000).astype(np.int16))
    front_end = BatchLogMel(torch.device("cpu"))
    plain = front_end(samples)
    for augmentation in (
        Augmentation(equaliser=0.5),
        Augmentation(warp=0.1),
        Augmentation(time_masks=2),
        Augmentation(frequency_masks=2),
    ):
        torch.manual_seed(0)
        changed = front_end(samples, augmentation)
        assert changed.shape == plain.shape
        assert torch.isfinite(changed).all()
        assert (changed - plain).abs().max() > 0.01
    torch.testing.assert_close(front_end(samples, Augmentation()), plain)


def test_scaling_ramps_every_part():
    full = Augmentation(equaliser=0.5, warp=0.1, time_masks=2, frequency_masks=2)
    assert full.scaled(0.0) == Augmentation()
    assert full.scaled(1.0) == full
    assert full.scaled(0.5).equaliser == 0.25

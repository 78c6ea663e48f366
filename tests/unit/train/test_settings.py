"""A training leaves torch's settings as it found them, however it ends."""

import pytest
import torch

from audioflamingo.train.settings import training_settings


def settings():
    cuda = torch.backends.cuda.cudnn_sdp_enabled(), torch.backends.cudnn.benchmark
    return (torch.get_float32_matmul_precision(), *cuda)


def test_settings_are_set_and_set_back():
    before = settings()
    with training_settings(cudnn_attention=False, cudnn_search=True):
        assert settings() == ("high", False, True)
        with training_settings():
            assert settings() == ("high", False, False)
        assert settings() == ("high", False, True)
    assert settings() == before


def fail():
    with training_settings(cudnn_attention=False, cudnn_search=True):
        raise KeyError


def test_they_are_set_back_after_an_error():
    before = settings()
    with pytest.raises(KeyError):
        fail()
    assert settings() == before

import numpy as np
import torch

from audioflamingo.speech.mels import energies, frames_of_mels, mels_of_frames
from audioflamingo.speech.polish import Polish
from audioflamingo.speech.streaming import StreamState
from audioflamingo.train.voice_data import FliteTeacher
from audioflamingo.train.voice_losses import log_mels

LATE = 720


def sound():
    samples = FliteTeacher().read("The green boat came home late.", 0).samples
    return torch.from_numpy(samples[: len(samples) // 960 * 960].astype(np.float32) / 32_768)[None]


def polished(samples, mels, cuts=()):
    """A sound through the polish, on time; `cuts` are subframes at which the stream is cut."""
    polish, late = Polish(), torch.nn.functional.pad(samples, (LATE, 2 * 960 - LATE))
    mels = torch.nn.functional.pad(mels, (0, 8), value=-2.0)
    parts, begin = [], 0
    with StreamState() as state:
        for end in (*cuts, mels.shape[2]):
            parts.append(polish(late[:, 240 * begin : 240 * end], mels[..., begin:end], state))
            begin = end
    return torch.cat(parts, 1)[:, LATE + polish.delay :][:, : samples.shape[1]]


def test_a_sound_that_is_right_stays_as_it_is():
    samples = sound()
    out = polished(samples, log_mels(samples))
    error = (out - samples).square().mean() / samples.square().mean()
    assert 10 * torch.log10(error) < -15


def test_wrong_levels_of_bands_are_mended():
    samples = sound()
    mels = log_mels(samples)
    tilted = torch.fft.irfft(torch.fft.rfft(samples) * torch.linspace(0.4, 2.5, samples.shape[1] // 2 + 1))
    before, after = ((log_mels(x) - mels).abs().mean() for x in (tilted, polished(tilted, mels)))
    assert after < 0.4 * before


def test_noise_in_a_pause_is_hushed():
    samples = torch.randn(1, 24_000) * 0.01
    silent = torch.full((1, 80, 100), -2.1)
    out = polished(samples, silent)
    assert out.std() < 0.3 * samples.std()


def test_the_cut_of_the_stream_changes_nothing():
    samples = sound()
    mels = log_mels(samples)
    torch.testing.assert_close(polished(samples, mels, (3, 4, 20)), polished(samples, mels), atol=1e-5, rtol=0)


def test_frames_and_mels_are_the_same_numbers():
    mels = torch.randn(2, 80, 12)
    assert torch.equal(mels_of_frames(frames_of_mels(mels)), mels)
    assert (energies(torch.tensor([-50.0, 0.0])) >= 1e-4 * 0.999).all()

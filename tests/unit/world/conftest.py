import pytest

from audioflamingo.world import voices


@pytest.fixture(scope="session")
def speech_engines():
    """The engines of training; skipped where they are not installed (`.ci/run` installs them)."""
    for name in voices.TRAIN_ENGINES:
        try:
            voices.open_engine(name)
        except voices.EngineMissingError as error:
            pytest.skip(str(error))

"""Tags of a file may be in any encoding; they never stop its sound."""

import io

import av
import numpy as np

from audioflamingo.audio import load


def _mp3_with_title(title: str) -> bytes:
    file = io.BytesIO()
    tone = (3_000 * np.sin(np.arange(16_000) * 0.1)).astype(np.int16)[None]
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("mp3", rate=16_000, layout="mono")
        container.metadata["title"] = title
        frame = av.AudioFrame.from_ndarray(tone, format="s16p", layout="mono")
        frame.rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def test_a_title_that_is_not_utf_8() -> None:
    original = _mp3_with_title("abcdefgh")
    broken = original.replace(b"abcdefgh", b"ab\xff\xfe\xe9fgh")
    assert broken != original
    np.testing.assert_array_equal(load(broken).samples, load(original).samples)

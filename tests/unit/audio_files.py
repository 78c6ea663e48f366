"""Sounds and files for the tests of audio: made here, in memory, in every format that is read."""

import io
import struct

import av
import numpy as np
import soundfile

RATE_HZ = 16_000


def tone(duration_s=0.5, rate_hz=RATE_HZ, frequency_hz=440.0):
    """(N, 2) float32: a tone that swells, half as loud in the right channel."""
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    left = 0.5 * np.sin(2 * np.pi * frequency_hz * time_s) * np.sin(np.pi * time_s / duration_s)
    return np.stack([left, 0.5 * left], axis=1).astype(np.float32)


def write(samples, format, subtype, rate_hz=RATE_HZ):
    """The bytes of a file that libsndfile writes."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=format, subtype=subtype)
    return file.getvalue()


def encode(samples, format, codec, rate_hz=RATE_HZ, options=None, codec_options=None, gap_s=0.0, video=False):
    """The bytes of a file that FFmpeg writes, with a gap in its timestamps at half time if wanted."""
    file = io.BytesIO()
    with av.open(file, "w", format=format, options=options or {}) as out:
        stream = out.add_stream(codec, rate=rate_hz, layout="stereo")
        stream.options = codec_options or {}
        picture = out.add_stream("mpeg4", rate=10) if video else None
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="stereo", rate=rate_hz)
        packets = _picture_packets(picture) if picture else []
        num_picture_packets = len(packets)
        for frame in [*resampler.resample(_frame(samples, rate_hz)), *resampler.resample(None)]:
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for index, packet in enumerate(packets):
            if gap_s and index >= num_picture_packets + len(packets) // 2:
                shift = round(gap_s / packet.time_base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            out.mux(packet)
    return file.getvalue()


def video_only():
    """The bytes of an MP4 without sound."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        for packet in _picture_packets(out.add_stream("mpeg4", rate=10)):
            out.mux(packet)
    return file.getvalue()


def patched(data, marker, offset, layout, *values):
    """`data` with values packed in at an offset from a marker."""
    start = data.index(marker) + offset
    new = struct.pack(layout, *values)
    return data[:start] + new + data[start + len(new) :]


def without_flac_count(data):
    """A FLAC file whose header leaves the number of samples open, as one written into a pipe."""
    return data[:21] + bytes([data[21] & 0xF0]) + bytes(4) + data[26:]


def _frame(samples, rate_hz):
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts = rate_hz, 0
    return frame


def _picture_packets(stream):
    stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
    picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
    return [*stream.encode(picture), *stream.encode(None)]


def every_format(samples=None):
    """Name -> bytes: one file of each kind that is read."""
    samples = tone() if samples is None else samples
    at_48k = np.repeat(samples, 3, axis=0)
    return {
        "pcm16.wav": write(samples, "WAV", "PCM_16"),
        "float.wav": write(samples, "WAV", "FLOAT"),
        "pcm24.wav": write(samples, "WAVEX", "PCM_24"),
        "adpcm.wav": write(samples, "WAV", "IMA_ADPCM"),
        "long.wav": write(samples, "RF64", "PCM_16"),
        "mp3.wav": encode(samples, "wav", "libmp3lame"),
        "pcm16.aiff": write(samples, "AIFF", "PCM_16"),
        "a.flac": write(samples, "FLAC", "PCM_16"),
        "vorbis.ogg": write(samples, "OGG", "VORBIS"),
        "a.opus": write(samples, "OGG", "OPUS"),
        "counted.mp3": write(samples, "MP3", "MPEG_LAYER_III"),
        "tagged.mp3": encode(samples, "mp3", "libmp3lame"),
        "uncounted.mp3": encode(samples, "mp3", "libmp3lame", options={"write_xing": "0", "id3v2_version": "0"}),
        "a.aac": encode(samples, "adts", "aac"),
        "aac.m4a": encode(samples, "ipod", "aac"),
        "alac.m4a": encode(samples, "ipod", "alac"),
        "fragments.mp4": encode(samples, "mp4", "aac", options={"movflags": "frag_keyframe+empty_moov"}),
        "video.mp4": encode(samples, "mp4", "aac", video=True),
        "opus.webm": encode(at_48k, "webm", "libopus", rate_hz=48_000),
        "live.webm": encode(at_48k, "webm", "libopus", rate_hz=48_000, options={"live": "1"}),
        "flac.mkv": encode(samples, "matroska", "flac"),
    }

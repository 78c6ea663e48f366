"""What a file is, by its first bytes, and whether it is all there, by the sizes that its container announces.

Decoders shorten a truncated file without a word. Each container says in its own way how long it should be: RIFF, AIFF
and MP4 in chunk sizes, Matroska in its segment's size, Ogg by checksums and a flag on its last page, MP3 in the Xing
or VBRI header that encoders leave. FLAC's decoder notices by itself, and ADTS has packets that end too soon.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Literal

from audioflamingo.errors import AudioError

Container = Literal["WAV", "AIFF", "FLAC", "OGG", "MP3", "AAC", "MP4", "Matroska"]

SUPPORTED = "WAV, AIFF, FLAC, OGG, Opus, MP3, AAC, M4A, MP4 and WebM"
_MP4_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
_STREAMED_BYTES = 0x7FFFF000  # writers into a pipe announce about 2 or 4 GiB, as they cannot go back
_MAX_CHUNKS = 1 << 20
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def identify(file: BinaryIO, name: str) -> Container:
    """The container, by the first bytes and never by the file's name.

    Raises:
        AudioError: it is none that is supported.
    """
    head = _read_at(file, 0, 16)
    if head[:3] == b"ID3":
        head = _read_at(file, _after_id3(file), 16)
        if not head.startswith(b"fLaC") and _mpeg_layer(head) != 0:
            return "MP3"
    container = _by_magic(head)
    if container is None:
        what = "holds text, not sound" if _is_text(_read_at(file, 0, 512)) else "is in no known audio format"
        raise AudioError(f"{name} {what}; allowed are {SUPPORTED}. Convert it, for example with ffmpeg.")
    return container


def check_complete(file: BinaryIO, container: Container, size: int, name: str) -> None:
    """Refuse a file that is shorter than its container announces.

    Raises:
        AudioError: it is cut off, or its structure is broken.
    """
    checks: dict[Container, Callable[[BinaryIO, int], str | None]] = {
        "WAV": _wav_complaint,
        "AIFF": _aiff_complaint,
        "OGG": _ogg_complaint,
        "MP3": _mp3_complaint,
        "MP4": _mp4_complaint,
        "Matroska": _matroska_complaint,
    }
    check = checks.get(container)
    if check and (complaint := check(file, size)):
        raise AudioError(f"{name} {complaint}. Copy or export it again.")


def knows_duration(file: BinaryIO, container: Container) -> bool:
    """Whether a duration that FFmpeg reports comes from the header; otherwise it is guessed from the bit rate."""
    if container == "MP3":
        return _xing(file) is not None
    if container == "Matroska":
        head = _read_at(file, 0, 4096)
        return b"\x44\x89\x84" in head or b"\x44\x89\x88" in head  # the Duration element, a float of 4 or 8 bytes
    return container not in ("AAC", "FLAC")


def _by_magic(head: bytes) -> Container | None:
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "WAV"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    if head[4:8] in _MP4_FIRST_BOXES:
        return "MP4"
    magics: dict[bytes, Container] = {b"fLaC": "FLAC", b"OggS": "OGG", b"\x1a\x45\xdf\xa3": "Matroska"}
    if head[:4] in magics:
        return magics[head[:4]]
    layer = _mpeg_layer(head)
    return None if layer is None else "AAC" if layer == 0 else "MP3"


def _mpeg_layer(head: bytes) -> int | None:
    """The layer bits after an MPEG sync word: 0 is AAC in ADTS, others are layers of MPEG audio; None without one."""
    if len(head) < 2 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    layer = (head[1] >> 1) & 3
    return None if layer == 0 and head[1] & 0xF0 != 0xF0 else layer


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8", "strict" if len(head) < 512 else "ignore")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def _read_at(file: BinaryIO, offset: int, num_bytes: int) -> bytes:
    file.seek(offset)
    return file.read(num_bytes)


# RIFF and AIFF:


def _chunks(file: BinaryIO, size: int, byte_order: str) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and announced bytes of each chunk of a RIFF or FORM file."""
    start = 12
    for _ in range(_MAX_CHUNKS):
        head = _read_at(file, start, 8)
        if len(head) < 8:
            return
        kind, num_bytes = struct.unpack(byte_order + "4sI", head)
        yield kind, start + 8, num_bytes
        start += 8 + num_bytes + num_bytes % 2


def _wav_complaint(file: BinaryIO, size: int) -> str | None:
    long_bytes = None
    for kind, start, num_bytes in _chunks(file, size, "<"):
        body = _read_at(file, start, min(num_bytes, 16))
        if kind == b"ds64" and len(body) == 16:
            long_bytes = struct.unpack("<Q", body[8:])[0]
        if kind == b"fmt " and len(body) == 16:
            num_channels, rate_hz = struct.unpack("<HI", body[2:8])
            if num_channels == 0 or rate_hz == 0:
                return f"has a broken header: {num_channels} channels at {rate_hz} Hz"
        if kind == b"data":
            if num_bytes == 0xFFFFFFFF and long_bytes is not None:
                return _cut(start + long_bytes, size)
            return None if num_bytes >= _STREAMED_BYTES else _cut(start + num_bytes, size)
    return "is cut off: its header is all there is"


def _aiff_complaint(file: BinaryIO, size: int) -> str | None:
    kinds = set()
    for kind, start, num_bytes in _chunks(file, size, ">"):
        kinds.add(kind)
        if kind in (b"COMM", b"SSND") and start + num_bytes > size:
            return _cut(start + num_bytes, size)
    return None if {b"COMM", b"SSND"} <= kinds else "is cut off: it has no sound data"


def _cut(announced: int, size: int) -> str | None:
    return f"is cut off: it announces {announced} bytes and has {size}" if announced > size else None


# MP4:


def _mp4_complaint(file: BinaryIO, size: int) -> str | None:
    start, kinds = 0, set()
    for _ in range(_MAX_CHUNKS):
        head = _read_at(file, start, 16)
        if len(head) < 8 or not head[4:8].isalnum():
            break
        num_bytes, kind = struct.unpack(">I4s", head[:8])
        if num_bytes == 1 and len(head) == 16:
            num_bytes = struct.unpack(">Q", head[8:])[0]
        if num_bytes == 0:
            num_bytes = size - start
        if start + num_bytes > size or num_bytes < 8:
            return _cut(start + num_bytes, size) or "is damaged: it has a box of no size"
        kinds.add(kind)
        start += num_bytes
    return None if b"moov" in kinds else "is cut off or was never finished: it has no index (moov box)"


# Matroska:


def _matroska_complaint(file: BinaryIO, size: int) -> str | None:
    header_bytes, start = _ebml_size(file, 4)
    start += header_bytes or 0
    if start > size:
        return _cut(start, size)
    if _read_at(file, start, 4) != b"\x18\x53\x80\x67":
        return "is cut off or damaged: it has no segment"
    num_bytes, start = _ebml_size(file, start + 4)
    return None if num_bytes is None else _cut(start + num_bytes, size)


def _ebml_size(file: BinaryIO, offset: int) -> tuple[int | None, int]:
    """An element's size, None where it is left open as in a live recording, and the offset behind it."""
    first = _read_at(file, offset, 1)
    if not first or not first[0]:
        return 0, offset + 1
    num_bytes = 9 - first[0].bit_length()
    mask = (1 << 7 * num_bytes) - 1
    value = int.from_bytes(_read_at(file, offset, num_bytes), "big") & mask
    return None if value == mask else value, offset + num_bytes


# Ogg:


def _ogg_complaint(file: BinaryIO, size: int) -> str | None:
    """Every page must follow the one before, be as its checksum says, and each stream must come to its end."""
    open_streams: set[bytes] = set()
    offset, in_head = 0, True
    for _ in range(_MAX_CHUNKS):
        page = _ogg_page(file, offset)
        if page is None or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
            break
        if _ogg_checksum(page) != page[22:26]:
            return f"is damaged: its Ogg page at byte {offset} does not match its checksum"
        serial, is_first, is_last = page[14:18], page[5] & 2, page[5] & 4
        if is_first and not in_head:
            return "is a chain of several Ogg streams; join them into one"
        open_streams ^= {serial} if is_first or is_last else set()
        in_head = bool(is_first)
        offset += len(page)
    if offset == 0 or open_streams:
        return f"is cut off or damaged: its Ogg pages end at byte {offset} of {size}, before the last"
    return None


def _ogg_page(file: BinaryIO, offset: int) -> bytes | None:
    """A page with its header, less than whole where the file ends; None where there is none."""
    head = _read_at(file, offset, 27 + 255)
    if len(head) < 27 or head[:5] != b"OggS\x00":
        return None
    return _read_at(file, offset, 27 + head[26] + sum(head[27 : 27 + head[26]]))


def _ogg_checksum(page: bytes) -> bytes:
    """Ogg's CRC-32 is zlib's with the bits of every byte reversed and neither end inverted."""
    plain = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED)
    return (zlib.crc32(plain, 0xFFFFFFFF) ^ 0xFFFFFFFF).to_bytes(4, "big").translate(_REVERSED)


# MP3:


def _after_id3(file: BinaryIO) -> int:
    head = _read_at(file, 0, 10)
    if len(head) < 10 or head[:3] != b"ID3":
        return 0
    num_bytes = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return 10 + num_bytes + (10 if head[5] & 0x10 else 0)


def _xing(file: BinaryIO) -> tuple[int, int | None] | None:
    """Offset of the first MP3 frame and the bytes from there to the end, if its header counts frames at all."""
    start = _after_id3(file)
    head = _read_at(file, start, 64)
    for offset in (36, 21, 13):  # behind the side information, shorter in mono and in MPEG-2
        tag = head[offset : offset + 16]
        if len(tag) == 16 and tag[:4] in (b"Xing", b"Info"):
            flags, _, num_bytes = struct.unpack(">3I", tag[4:])
            return (start, num_bytes if flags & 2 else None) if flags & 1 else None
    if head[36:40] == b"VBRI" and len(head) >= 50:
        return start, struct.unpack(">I", head[46:50])[0]
    return None


def _mp3_complaint(file: BinaryIO, size: int) -> str | None:
    found = _xing(file)
    return None if found is None or found[1] is None else _cut(found[0] + found[1], size)

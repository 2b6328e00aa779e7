"""What an image file says of itself, before any decoder sees it: format, size, and which way up it is.

A file is walked as TensorFlow's decoders walk it (libjpeg, libpng, giflib), so what is measured here is what they will
decode: every scan of a JPEG, every frame of a GIF. A file that would take more time or memory than the limits below is
refused. The walk does not look for damage: it ends where the file does, or where it makes no sense, and leaves the
refusal to the decoder.
"""

import re
import struct
from typing import NamedTuple

# Longer files are not even read.
MAX_BYTES = 100 << 20
# All frames of a GIF together have no more.
MAX_PIXELS = 100_000_000
# Each scan of a progressive JPEG takes time for all pixels. libjpeg itself writes 10 scans of a colour image and 18 of
# four channels, which an image of any size may have.
_MAX_SCANNED_PIXELS = 20 * MAX_PIXELS
# Segments of a JPEG, chunks of a PNG, blocks of a GIF. A file of honest ones, a hundred bytes or more each, has fewer.
_MAX_PIECES = 1_000_000
# libpng inflates each compressed text, up to eight megabytes out of eight kilobytes.
_MAX_PNG_TEXTS = 32

_FORMATS = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png", b"GIF8": "gif", b"BM": "bmp"}
# Markers that a segment and its length follow, and the next of them as libjpeg finds it: it skips all else, fill bytes,
# and markers without a segment (TEM, RST0 to RST7) as well.
_JPEG_MARKERS = frozenset((*range(0xC0, 0xD0), *range(0xD8, 0xFF)))
_JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_JPEG_SEGMENT = struct.Struct(">BBH")
_EOI, _SOS, _APP1 = 0xD9, 0xDA, 0xE1
# SOF0 to SOF15, without the two of that range that are tables (DHT, DAC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xCC}
_PROGRESSIVE_FRAMES = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_TELLING = _FRAMES | {_EOI, _SOS, _APP1}
_GIF_FRAME, _GIF_EXTENSION = 0x2C, 0x21
_UNCOMPRESSED, _BITFIELDS = 0, 3
_BGR_MASKS = struct.pack("<3I", 0xFF0000, 0xFF00, 0xFF)
_ORIENTATION, _SHORT = 0x0112, 3


class Header(NamedTuple):
    """What an image file says of itself.

    Attributes:
        format: "jpeg", "png", "gif" or "bmp".
        height: Rows of the pixels as they are stored; of a GIF, the highest of all frames, as TensorFlow decodes it.
        width: Columns, likewise.
        orientation: EXIF's. 1 is upright; 2 to 8 say how the pixels are to be turned or mirrored.
    """

    format: str
    height: int
    width: int
    orientation: int = 1


def read_header(encoded: bytes) -> Header:
    """Reads the header of an image file.

    Args:
        encoded: The file.

    Raises:
        ValueError: if it is no image of a format that TensorFlow decodes, is beyond a limit, or is a BMP that
            TensorFlow would misread.
    """
    if fault := size_fault(len(encoded)):
        raise ValueError(fault)
    image_format = next((name for magic, name in _FORMATS.items() if encoded.startswith(magic)), None)
    if image_format is None:
        raise ValueError(f"is no image; expected JPEG, PNG, GIF or BMP, received {encoded[:8]!r}...")
    try:
        return _READERS[image_format](encoded)
    except (struct.error, IndexError) as error:
        raise ValueError(f"is truncated: it ends within its {image_format.upper()} header") from error


def size_fault(size: int) -> str | None:
    """Returns why an image file of `size` bytes is not read, None if it is."""
    return f"has {size:,} bytes; expected at most {MAX_BYTES:,}" if size > MAX_BYTES else None


def check_pixels(height: int, width: int, verb: str = "claims") -> None:
    """Raises ValueError if `height` times `width` is zero or too large; the message begins with `verb`."""
    if not 1 <= height * width <= MAX_PIXELS:
        raise ValueError(f"{verb} {width}x{height} pixels; expected 1 to {MAX_PIXELS:,} in all")


def _read_jpeg(encoded: bytes) -> Header:
    height = width = components = scans = 0
    several, exif = False, b""
    position, last = 2, len(encoded) - 4
    for _ in range(_MAX_PIECES):
        if position > last:
            break
        first, marker, length = _JPEG_SEGMENT.unpack_from(encoded, position)
        if first != 0xFF or marker not in _JPEG_MARKERS:
            found = _JPEG_MARKER.search(encoded, position)
            if found is None or found.start() > last:
                break
            position = found.start()
            first, marker, length = _JPEG_SEGMENT.unpack_from(encoded, position)
        if marker in _TELLING:
            if marker == _APP1:
                if not exif and encoded.startswith(b"Exif\0\0", position + 4):
                    exif = encoded[position + 10 : position + 2 + length]
            elif marker == _EOI:
                break
            elif marker == _SOS:
                # A first scan without all components tells that there are more. Otherwise it is the only one.
                several = several or encoded[position + 4] < components
                if not several:
                    break
                scans += 1
                if scans * height * width > _MAX_SCANNED_PIXELS:
                    raise ValueError(
                        f"has {scans} scans or more of {width}x{height} pixels; "
                        f"expected at most {_MAX_SCANNED_PIXELS:,} pixels in all scans"
                    )
            elif not components:  # libjpeg stops at a second frame header
                height, width, components = struct.unpack_from(">HHB", encoded, position + 5)
                check_pixels(height, width)
                several = marker in _PROGRESSIVE_FRAMES
        # libjpeg skips the two bytes of the length whatever they say.
        position += 2 + length if length > 2 else 4
    else:
        raise _too_many("segments")
    if not components:
        raise ValueError("is truncated: it ends before the JPEG frame header")
    return Header("jpeg", height, width, _orientation(exif))


def _read_png(encoded: bytes) -> Header:
    length, kind, width, height = struct.unpack_from(">I4sII", encoded, 8)
    if (length, kind) != (13, b"IHDR"):
        raise ValueError(f"does not begin as a PNG must; expected the chunk IHDR of 13 bytes, received {kind!r}")
    check_pixels(height, width)
    texts, exif = 0, b""
    position = 8
    for _ in range(_MAX_PIECES):
        if position + 8 > len(encoded) or kind == b"IEND":
            break
        length, kind = struct.unpack_from(">I4s", encoded, position)
        if kind == b"eXIf" and not exif:
            exif = encoded[position + 8 : position + 8 + length]
        elif kind in (b"zTXt", b"iTXt"):
            texts += 1
            if texts > _MAX_PNG_TEXTS:
                raise ValueError(f"has more than {_MAX_PNG_TEXTS} compressed texts (zTXt, iTXt)")
        position += 12 + length
    else:
        raise _too_many("chunks")
    return Header("png", height, width, _orientation(exif))


def _read_gif(encoded: bytes) -> Header:
    height = width = pixels = blocks = 0
    position = 13 + _colour_table(encoded[10])
    while position + 10 <= len(encoded):
        blocks += 1
        if encoded[position] == _GIF_FRAME:
            columns, rows, flags = struct.unpack_from("<HHB", encoded, position + 5)
            # Each frame is decoded, whichever is used, and the first one is given the room of the largest.
            height, width, pixels = max(height, rows), max(width, columns), pixels + rows * columns
            check_pixels(height, width)
            if pixels > MAX_PIXELS:
                raise ValueError(f"claims {pixels:,} pixels or more in its frames; expected at most {MAX_PIXELS:,}")
            position += 11 + _colour_table(flags)
        elif encoded[position] == _GIF_EXTENSION:
            position += 2
        else:
            break
        while blocks <= _MAX_PIECES and position < len(encoded) and (length := encoded[position]):
            position += 1 + length
            blocks += 1
        if blocks > _MAX_PIECES:
            raise _too_many("blocks")
        position += 1
    if not height * width:
        raise ValueError("is truncated: it ends before the first frame of the GIF")
    return Header("gif", height, width)


def _colour_table(flags: int) -> int:
    """Returns the length of the colour table that the flags of a GIF or of its frame announce."""
    return 3 * (2 << (flags & 7)) if flags & 0x80 else 0


def _read_bmp(encoded: bytes) -> Header:
    start, header_size, width, height, _, bits, compression = struct.unpack_from("<IIiiHHI", encoded, 10)
    colours = struct.unpack_from("<I", encoded, 46)[0] or 256
    if header_size < 40 or start < 14 + header_size or width <= 0:
        raise ValueError("has a header that TensorFlow misreads; expected a BMP of Windows 3 or later")
    # TensorFlow takes what is stored for pixels, without a look at these fields.
    if bits not in (8, 24, 32):
        raise ValueError(f"is a BMP of {bits} bits per pixel; expected 8, 24 or 32")
    masked = compression == _BITFIELDS and bits == 32 and encoded[54:66] == _BGR_MASKS
    if compression != _UNCOMPRESSED and not masked:
        raise ValueError(f"is a compressed BMP (method {compression}), which TensorFlow would take for pixels")
    palette = encoded[14 + header_size : 14 + header_size + 4 * colours]
    if bits == 8 and any(palette[channel::4] != bytes(range(256))[:colours] for channel in range(3)):
        raise ValueError("is a BMP with a palette other than the greys from 0 to 255, which TensorFlow takes it for")
    check_pixels(abs(height), width)
    return Header("bmp", abs(height), width)


def _orientation(exif: bytes) -> int:
    """Returns the orientation of the first directory of EXIF data, upright where it does not tell."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(entries):
            tag, kind, _, value = struct.unpack_from(f"{order}HHIH", exif, start + 2 + 12 * entry)
            if tag == _ORIENTATION and kind == _SHORT and 1 <= value <= 8:
                return value
    except struct.error:
        pass
    return 1


def _too_many(pieces: str) -> ValueError:
    return ValueError(f"has more than {_MAX_PIECES:,} {pieces}")


_READERS = {"jpeg": _read_jpeg, "png": _read_png, "gif": _read_gif, "bmp": _read_bmp}

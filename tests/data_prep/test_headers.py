"""What is known of an image file before it is decoded: what TensorFlow will make of it, and that it has a limit."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from conftest import encode
from PIL import Image

from data_prep.headers import MAX_BYTES, MAX_PIXELS, Header, read_header, size_fault

HEIGHT, WIDTH = 9, 7
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
JPEG, PNG, GIF, BMP = (encode(PIXELS, image_format) for image_format in ("JPEG", "PNG", "GIF", "BMP"))
MORE_THAN_ALLOWED = 1_000_001


def _decoded_size(encoded):
    return tuple(tf.io.decode_image(encoded, channels=3, expand_animations=False).shape[:2])


def _size(encoded):
    header = read_header(encoded)
    return header.height, header.width


def _frame_header(height, width, marker=0xC0, components=3):
    parts = bytes(value for i in range(components) for value in (i + 1, 0x11, 0))
    return struct.pack(">BBHBHHB", 0xFF, marker, 8 + len(parts), 8, height, width, components) + parts


def _scan(components):
    parts = bytes(value for i in range(components) for value in (i + 1, 0))
    return struct.pack(">BBHB", 0xFF, 0xDA, 6 + len(parts), components) + parts + b"\0\x3f\0bits\xff\0\xff\xd0bits"


def _comment(contents):
    return b"\xff\xfe" + struct.pack(">H", 2 + len(contents)) + contents


def _chunk(kind, contents=b""):
    return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))


def _png_with(chunks):
    """Returns a PNG with chunks behind its header."""
    return PNG[:33] + chunks + PNG[33:]


def _gif(*blocks):
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + b"".join(blocks) + b";"


def _gif_frame(height, width, data=None):
    """Returns a frame, of zeros if no data are given."""
    if data is None:
        # Codes of three bits that are never compressed: clear, two pixels, clear, ..., end.
        codes = [code for _ in range(-(-height * width // 2)) for code in (4, 0, 0)] + [5]
        number = sum(code << 3 * i for i, code in enumerate(codes))
        data = number.to_bytes(-(-3 * len(codes) // 8), "little")
    blocks = b"".join(bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255))
    return b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02" + blocks + b"\0"


def _bmp(bits=24, compression=0, header_size=40, palette=b"", height=HEIGHT, masks=b""):
    start = 14 + header_size + len(masks) + len(palette)
    pixels = bytes((bits // 8 * WIDTH + 3) // 4 * 4 * abs(height))
    header = struct.pack("<IiiHHIIiiII", header_size, WIDTH, height, 1, bits, compression, len(pixels), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + masks + palette + pixels


def _greys():
    return bytes(value for grey in range(256) for value in (grey, grey, grey, 0))


SMALL_FRAME = _frame_header(1, 1)
# What libjpeg passes over before a frame header.
BEFORE_THE_FRAME = {
    "nothing": b"",
    "fill bytes": b"\xff" * 5,
    "TEM": b"\xff\x01",
    "a restart marker": b"\xff\xd3",
    "a stuffed byte": b"\xff\0",
    "junk": b"\xff\0junk",
    "a frame in a comment": _comment(SMALL_FRAME),
    "a comment behind TEM": b"\xff\x01" + _comment(bytes(70_000 - 65_538) + SMALL_FRAME),
    "a frame that only a walk by lengths finds": b"\xff\0\x01\0" + _comment(bytes(252) + SMALL_FRAME + bytes(9)),
    "a length of no bytes": b"\xff\xfe\0\0",
    "a length of one byte": b"\xff\xfe\0\1",
}


@pytest.mark.parametrize("case", BEFORE_THE_FRAME)
def test_the_size_of_a_jpeg_is_the_one_that_is_decoded(case):
    encoded = JPEG[:2] + BEFORE_THE_FRAME[case] + JPEG[2:]
    assert _size(encoded) == _decoded_size(encoded) == (HEIGHT, WIDTH)
    with pytest.raises(ValueError, match="claims 20000x10000 pixels"):
        read_header(JPEG[:2] + BEFORE_THE_FRAME[case] + _frame_header(10_000, 20_000) + JPEG[2:])


@pytest.mark.parametrize("encoded", [JPEG[:2] + _frame_header(9, 0), PNG[:16] + bytes(8) + PNG[24:], _bmp(height=0)])
def test_an_image_without_pixels_is_refused(encoded):
    with pytest.raises(ValueError, match="expected 1 to 100,000,000"):
        read_header(encoded)


def test_a_jpeg_without_markers_is_refused_whatever_it_is_filled_with():
    for filling in (b"\0", b"\xff", b"\xff\0", b"\xff\xd0"):
        with pytest.raises(ValueError, match="ends before the JPEG frame header"):
            read_header(b"\xff\xd8\xff" + filling * (5_000_000 // len(filling)))


@pytest.mark.parametrize(
    ("marker", "components"), [(0xC0, 1), (0xC2, 3)], ids=["one component at a time", "progressive"]
)
def test_the_scans_of_a_jpeg_are_bounded_by_its_pixels(marker, components):
    def encoded(side, scans):
        return b"\xff\xd8" + _frame_header(side, side, marker) + _scan(components) * scans + b"\xff\xd9"

    assert _size(encoded(10_000, 18)) == (10_000, 10_000)
    assert _size(encoded(100, 1000)) == (100, 100)
    with pytest.raises(ValueError, match="scans or more of 5000x5000 pixels"):
        read_header(encoded(5000, 400))


def test_an_image_of_one_scan_is_not_read_behind_it():
    encoded = b"\xff\xd8" + _frame_header(10_000, 10_000) + _scan(3) * 100
    assert _size(encoded) == (10_000, 10_000)


def test_a_png_must_begin_with_its_size():
    hidden = PNG[:8] + _chunk(b"prIv", struct.pack(">II", 1, 1)) + PNG[8:]
    assert _decoded_size(hidden) == (HEIGHT, WIDTH)
    with pytest.raises(ValueError, match="expected the chunk IHDR"):
        read_header(hidden)


def test_compressed_texts_of_a_png_are_bounded_in_number():
    texts = _chunk(b"zTXt", b"key\0\0" + zlib.compress(b"text")) + _chunk(b"iTXt", b"key\0\0\0\0\0text")
    assert _size(_png_with(texts * 16)) == (HEIGHT, WIDTH)
    with pytest.raises(ValueError, match="more than 32 compressed texts"):
        read_header(_png_with(texts * 17))


@pytest.mark.parametrize("sizes", [[(9, 7)], [(9, 7), (3, 2)], [(3, 2), (9, 7)], [(9, 2), (3, 7)]])
def test_the_size_of_a_gif_is_the_one_that_is_decoded(sizes):
    encoded = _gif(*(_gif_frame(*size) for size in sizes))
    assert _size(encoded) == _decoded_size(encoded) == (9, 7)
    # What decoders let pass: no end, something behind it.
    for end in (b"", b";junk", b"junk"):
        assert _size(encoded[:-1] + end) == _decoded_size(encoded[:-1] + end) == (9, 7)


@pytest.mark.parametrize(
    "sizes",
    [[(20_000, 20_000)], [(1, 1), (20_000, 20_000)], [(5000, 5000)] * 5, [(1, 30_000), (30_000, 1)]],
    ids=["large", "large behind a small one", "many", "long and high"],
)
def test_all_frames_of_a_gif_count(sizes):
    with pytest.raises(ValueError, match="claims .* pixels"):
        read_header(_gif(*(_gif_frame(*size, data=b"") for size in sizes)))


PIECES = {
    "segments": JPEG[:2] + b"\xff\xfe\0\2" * MORE_THAN_ALLOWED + JPEG[2:],
    "chunks": _png_with(_chunk(b"prIv") * MORE_THAN_ALLOWED),
    "blocks": _gif(b"\x21\xfe" + b"\1x" * MORE_THAN_ALLOWED + b"\0", _gif_frame(1, 1)),
    "blocks, each an extension": _gif(b"\x21\xfe\0" * MORE_THAN_ALLOWED, _gif_frame(1, 1)),
}


@pytest.mark.parametrize("pieces", PIECES)
def test_the_pieces_of_a_file_are_bounded_in_number(pieces):
    with pytest.raises(ValueError, match=f"more than 1,000,000 {pieces.partition(',')[0]}"):
        read_header(PIECES[pieces])


BMPS = {
    "top row first": _bmp(height=-HEIGHT),
    "32 bits": _bmp(bits=32),
    "masks of the usual order": _bmp(32, 3, masks=struct.pack("<3I", 0xFF0000, 0xFF00, 0xFF)),
    "a palette of greys": _bmp(8, palette=_greys()),
}


@pytest.mark.parametrize("case", BMPS)
def test_a_bmp_that_tensorflow_reads_passes(case):
    assert _size(BMPS[case]) == _decoded_size(BMPS[case]) == (HEIGHT, WIDTH)


MISREAD_BMPS = {
    "RLE of 8 bits": (_bmp(8, 1, palette=_greys()), "compressed BMP"),
    "an unknown compression": (_bmp(compression=77), "compressed BMP"),
    "masks of another order": (_bmp(32, 3, masks=struct.pack("<3I", 0xFF, 0xFF00, 0xFF0000)), "compressed BMP"),
    "a palette of colours": (_bmp(8, palette=_greys()[::-1]), "palette other than the greys"),
    "9 bits": (_bmp(9, palette=_greys()), "9 bits per pixel"),
    "pixels within the header": (BMP[:10] + struct.pack("<I", 20) + BMP[14:], "header that TensorFlow misreads"),
}


@pytest.mark.parametrize("case", MISREAD_BMPS)
def test_a_bmp_that_tensorflow_would_misread_is_refused(case):
    encoded, reason = MISREAD_BMPS[case]
    with pytest.raises(ValueError, match=reason):
        read_header(encoded)


@pytest.mark.parametrize("encoded", [JPEG, PNG, GIF, BMP], ids=["jpeg", "png", "gif", "bmp"])
def test_a_cut_or_altered_file_is_refused_or_keeps_its_size(encoded):
    for end in range(len(encoded)):
        with contextlib.suppress(ValueError):
            assert _size(encoded[:end]) == (HEIGHT, WIDTH)
    random = np.random.default_rng(0)
    for _ in range(2000):
        altered = bytearray(encoded)
        for position in random.integers(0, len(encoded), 3):
            altered[position] = random.integers(256)
        try:
            header = read_header(bytes(altered))
        except ValueError:
            continue
        assert header.height * header.width <= MAX_PIXELS


def test_a_file_of_too_many_bytes_is_refused():
    assert size_fault(MAX_BYTES) is None
    assert "has 104,857,601 bytes; expected at most 104,857,600" in size_fault(MAX_BYTES + 1)
    with pytest.raises(ValueError, match="104,857,601 bytes"):
        read_header(JPEG + bytes(MAX_BYTES + 1 - len(JPEG)))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_the_orientation_is_the_one_of_the_exif_data(image_format, byte_order):
    for orientation in (None, *range(10)):
        exif = Image.Exif()
        exif.endian = byte_order
        exif[0x010F] = "A maker's name"
        if orientation is not None:
            exif[0x0112] = orientation
        target = io.BytesIO()
        Image.fromarray(PIXELS).save(target, image_format, exif=exif)
        expected = orientation if orientation in range(1, 9) else 1
        assert read_header(target.getvalue()) == Header(image_format.lower(), HEIGHT, WIDTH, expected)


def test_damaged_exif_data_say_nothing():
    exif = Image.Exif()
    exif[0x0112] = 6
    intact = exif.tobytes()
    assert read_header(JPEG[:2] + _app1(intact) + JPEG[2:]).orientation == 6
    random = np.random.default_rng(0)
    for _ in range(500):
        altered = bytearray(intact[: random.integers(6, len(intact) + 1)])
        if len(altered) > 6:
            altered[random.integers(6, len(altered))] = random.integers(256)
        assert read_header(JPEG[:2] + _app1(bytes(altered)) + JPEG[2:]).orientation in range(1, 9)


def _app1(exif):
    return b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif

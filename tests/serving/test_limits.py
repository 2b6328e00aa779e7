"""What an image file may cost is counted before it is decoded; ordinary files stay far below, and are answered."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from made import ENCODERS, picture
from PIL import Image

from tfmdl.data.decode import format_of, size_of
from tfmdl.serving import limits
from tfmdl.serving.images import decode_rows
from tfmdl.serving.limits import MAX_PIXELS, RULES, pixels_needed, walk_gif

SIZE = (16, 16)
walk = tf.function(walk_gif, autograph=False, input_signature=[tf.TensorSpec((), tf.string)])


@tf.function(autograph=False, input_signature=[tf.TensorSpec((), tf.string)])
def fault_of(encoded):
    image_format = format_of(encoded)
    return limits.fault_of(encoded, image_format, size_of(encoded, image_format), tf.constant(SIZE))


@tf.function(autograph=False, input_signature=[tf.TensorSpec((None,), tf.string)])
def decode(encoded):
    rows = tf.size(encoded)
    cover, offset = (tf.tile(tf.constant([value]), [rows, 1]) for value in (SIZE, (0, 0)))
    return decode_rows(encoded, tf.fill([rows], "base"), cover, SIZE, offset)


def broken(encoded):
    """Returns the name of the rule that a file breaks, or None."""
    fault = fault_of(tf.constant(encoded)).numpy().decode()
    return next((name for name, rule in RULES.items() if rule == fault), None) if fault else None


def assert_refused(encoded, reason):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        decode(tf.constant([encoded]))
    assert f"row 0: the image of {len(encoded)} bytes for domain [base]" in str(caught.value)
    assert reason in str(caught.value)


def saved(image, image_format, **options):
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def image_of(height, width, seed=0):
    return Image.fromarray(picture(np.random.default_rng(seed), height, width))


@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "quality": 95, "subsampling": 0}),
        ("JPEG", {"exif": b"Exif\0\0" + saved(image_of(9, 9), "JPEG")}),
        ("PNG", {}),
        ("GIF", {}),
        ("GIF", {"save_all": True, "append_images": [image_of(90, 70, seed) for seed in range(1, 30)]}),
        ("BMP", {}),
    ],
)
def test_ordinary_files_are_answered(image_format, options):
    encoded = saved(image_of(90, 70), image_format, **options)
    assert broken(encoded) is None
    assert decode(tf.constant([encoded])).shape == (1, *SIZE, 3)


def test_an_image_as_large_as_may_be_is_none_too_large():
    side = int(MAX_PIXELS**0.5)
    assert pixels_needed(tf.constant([side, side]), (72, 72)) <= MAX_PIXELS
    assert pixels_needed(tf.constant([side, side + 1]), (72, 72)) > MAX_PIXELS
    # Resized to cover 72x72, a line of 5,000 pixels has 72 x 360,000.
    assert pixels_needed(tf.constant([1, 5000]), (72, 72)) == 72 * 360000


def test_a_file_that_is_too_long_is_refused():
    assert_refused(ENCODERS["png"](np.zeros((4, 4, 3), "uint8")) + bytes(limits.MAX_BYTES), RULES["bytes"])


# PNG


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with(*chunks, first=False):
    encoded = ENCODERS["png"](np.full((20, 20, 3), 7, "uint8"))
    place = 8 if first else 33
    return b"".join([encoded[:place], *chunks, encoded[place:]])


def test_a_png_whose_header_does_not_come_first_is_none():
    """TensorFlow decodes it all the same, and then its size is elsewhere: 20x20 would be read, 20000x20000 decoded."""
    assert broken(png_with(chunk(b"abCd", b"data"))) is None
    assert_refused(png_with(chunk(b"abCd", struct.pack(">IIB", 20, 20, 8)), first=True), "is no JPEG, PNG")
    assert_refused(png_with(chunk(b"abCd", b"IHDR"), first=True), "is no JPEG, PNG")


@pytest.mark.parametrize("name", [b"zTXt", b"iTXt"])
def test_texts_of_a_png_that_may_be_compressed_are_counted(name):
    data = b"key\0\0" if name == b"zTXt" else b"key\0\1\0\0\0"
    text = chunk(name, data + zlib.compress(bytes(1000)))
    assert broken(png_with(*[text] * limits.MAX_TEXTS)) is None
    assert_refused(png_with(*[text] * (limits.MAX_TEXTS + 1)), RULES["texts"])
    assert broken(png_with(*[chunk(b"tEXt", b"key\0TEXt")] * 100)) is None


# JPEG


def segment(marker, data):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def progressive(scans, side=8):
    """Returns a black image whose blocks are gone over once per scan; each scan has a few bytes."""
    blocks = (side // 8) ** 2
    assert blocks < 2**14, "one run has them all"
    frame = segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\x01\x11\x00")
    tables = [segment(0xC4, bytes([kind, 0, 1, *[0] * 14, symbol])) for kind, symbol in ((0, 0), (16, 0xE0))]
    first = segment(0xDA, b"\x01\x01\x00\x00\x00\x00") + bytes(-(-2 * blocks // 8))
    # Of 2 bits the code, of 14 how many more than 2**14 blocks are without values.
    again = segment(0xDA, b"\x01\x01\x00\x01\x3f\x00") + bytes(2)
    return b"".join(
        [b"\xff\xd8", segment(0xDB, bytes([0, *[1] * 64])), frame, *tables, first, again * (scans - 1), b"\xff\xd9"]
    )


def test_scans_of_a_jpeg_are_counted():
    assert tf.io.decode_jpeg(progressive(limits.MAX_SCANS)).shape == (8, 8, 1)
    assert broken(progressive(limits.MAX_SCANS)) is None
    assert_refused(progressive(limits.MAX_SCANS + 1), RULES["scans"])
    assert_refused(progressive(5 * limits._MAX_MARKERS), RULES["scans"])


def test_what_looks_like_a_marker_is_no_scan():
    """Videos behind a photo have the two bytes by chance."""
    jpeg = saved(image_of(20, 20), "JPEG")
    assert broken(jpeg + b"\xff\xda\x01\x02" * 100) is None
    assert limits.count_scans(tf.constant(jpeg + b"\xff\xda\x01\x02" * 100)) == 1
    assert broken(jpeg[:2] + segment(0xFE, b"\xff\xda" * 100) + jpeg[2:]) is None


# GIF


def gif(screen, *frames, before=b""):
    """Returns a GIF of a screen, (width, height), with black frames, (left, top, width, height)."""
    blocks = []
    for left, top, *sides in frames:
        file = saved(Image.new("P", sides), "GIF")
        start = file.index(b"\x2c" + struct.pack("<HHHH", 0, 0, *sides))
        blocks.append(b"\x2c" + struct.pack("<HH", left, top) + file[start + 5 : -1])
    return b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + bytes(6) + before + b"".join(blocks) + b"\x3b"


def text(*lengths):
    """Returns a text of a GIF, in blocks of some lengths."""
    return b"\x21\xfe" + b"".join(bytes([length]) + b"x" * length for length in lengths) + b"\0"


def test_a_gif_is_walked_over_whatever_stands_between_its_frames():
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 256, (60, 50, 3), "uint8")) for _ in range(3)]
    encoded = saved(frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"x" * 700, optimize=False)
    whole, pixels, largest, reach = walk(encoded)
    assert whole and pixels == 3 * 60 * 50 and largest.numpy().tolist() == reach.numpy().tolist() == [60, 50]
    assert walk(encoded[: len(encoded) // 2])[1] in (60 * 50, 2 * 60 * 50)
    assert [value.numpy().tolist() for value in walk(b"GIF89a")] == [True, 0, [0, 0], [0, 0]]


@pytest.mark.parametrize("lengths", [(1,), (255,), (3, 200)], ids=str)
def test_many_blocks_of_a_gif_are_refused_and_equal_ones_are_one(lengths):
    many = 2 * limits.MAX_STEPS
    encoded = gif((5, 4), (0, 0, 5, 4), before=text(*lengths * (many // len(lengths))))
    assert broken(encoded) == ("steps" if len(lengths) > 1 else None)
    assert broken(gif((5, 4), (0, 0, 5, 4), before=text(*lengths * 100))) is None


def test_many_small_parts_of_a_gif_are_refused():
    assert broken(gif((5, 4), (0, 0, 5, 4), before=text(1) * limits.MAX_STEPS)) == "steps"
    frame = gif((5, 4), (0, 0, 5, 4))
    start = frame.index(b"\x2c")
    assert broken(frame[:start] + frame[start:-1] * limits.MAX_STEPS + b"\x3b") == "steps"
    assert broken(frame[:start] + frame[start:-1] * (limits.MAX_STEPS // 5) + b"\x3b") is None


@pytest.mark.parametrize(
    ("frames", "rule"),
    [
        ([(0, 0, 5, 4), (0, 0, 2, 2), (3, 3, 2, 1)], None),
        ([(1, 1, 2, 2), (0, 0, 5, 4)], None),
        ([(0, 0, 5, 4), (0, 0, 6, 4)], "screen"),
        ([(0, 0, 5, 4), (1, 0, 5, 4)], "screen"),
        ([(0, 0, 5, 1), (0, 0, 1, 5)], "screen"),
        ([(0, 0, 4, 4)], "screen"),
    ],
    ids=str,
)
def test_frames_of_a_gif_lie_in_its_screen_and_one_fills_it(frames, rule):
    """TensorFlow's picture has the height and the width of the largest frames, whatever the screen's are."""
    encoded = gif((5, 4), *frames)
    assert broken(encoded) == rule
    if rule is None:
        assert decode(tf.constant([encoded])).shape == (1, *SIZE, 3)
    else:
        assert_refused(encoded, RULES[rule])


def test_all_frames_of_a_gif_count():
    encoded = gif((5000, 5000), (0, 0, 5000, 5000))
    start = encoded.index(b"\x2c")
    assert broken(encoded) is None
    assert broken(encoded[:-1] + encoded[start:]) == "pixels"
    # Frames of 65,535 x 65,535 on a screen of one pixel.
    assert broken(gif((1, 1), (0, 0, 1, 1)).replace(b"\x2c\0\0\0\0\1\0\1\0", b"\x2c\0\0\0\0" + b"\xff" * 4)) == "pixels"


def test_a_gif_that_is_cut_off_in_its_largest_frame_is_damaged():
    encoded = gif((50, 40), (0, 0, 10, 10), (0, 0, 50, 40))
    assert_refused(encoded[:-10], "is damaged")


# BMP


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA"])
def test_a_bmp_that_would_be_read_as_something_else_is_refused(mode):
    assert_refused(saved(image_of(12, 8).convert(mode), "BMP"), RULES["kind"])


def test_a_bmp_that_claims_run_lengths_is_refused():
    encoded = saved(image_of(12, 8), "BMP")
    assert encoded[28:34] == bytes([24, 0, 0, 0, 0, 0])
    assert_refused(encoded[:30] + b"\1" + encoded[31:], RULES["kind"])

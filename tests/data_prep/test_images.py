"""What passes as an image, and the exact sums of its pixels."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from conftest import encode
from PIL import Image, ImageOps

from data_prep.images import PixelSums, check_images, prepare_images


def _pixels(height=9, width=7, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8).squeeze()


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "GIF", "BMP"])
@pytest.mark.parametrize("channels", [1, 3])
def test_formats_that_tensorflow_decodes_pass_with_their_size(image_format, channels):
    encoded = encode(_pixels(channels=channels), image_format)
    (checked,) = check_images([encoded])
    assert checked.encoded == encoded
    assert (checked.format, checked.height, checked.width) == (image_format.lower(), 9, 7)


@pytest.mark.parametrize("image_format", ["WEBP", "TIFF", "PPM"])
def test_formats_that_training_could_not_decode_are_refused(image_format):
    (reason,) = check_images([encode(_pixels(), image_format)])
    assert "expected JPEG, PNG, GIF or BMP" in reason


def test_a_bad_image_does_not_spoil_its_neighbours():
    good = encode(_pixels())
    truncated = encode(_pixels(40, 40))[:-300]
    results = check_images([good, truncated, b"", good, encode(_pixels(), "PNG")[:60]])
    assert [isinstance(result, str) for result in results] == [False, True, True, False, True]


def test_the_header_is_checked_in_every_jpeg_that_pillow_writes():
    picture = Image.fromarray(_pixels(30, 50))
    for options in ({"progressive": True}, {"exif": b"Exif\0\0" + bytes(500)}, {"comment": "x" * 300}):
        target = io.BytesIO()
        picture.save(target, "JPEG", **options)
        (checked,) = check_images([target.getvalue()])
        assert (checked.height, checked.width) == (30, 50)


def test_sums_are_exact_for_an_image_of_many_chunks():
    pixels = _pixels(300, 400)
    (checked,) = check_images([encode(pixels, "PNG")])
    wide = pixels.astype(np.int64).reshape(-1, 3)
    assert checked.pixel_sum.tolist() == wide.sum(0).tolist()
    assert checked.square_sum.tolist() == (wide**2).sum(0).tolist()
    white = encode(np.full((300, 400, 3), 255, np.uint8), "PNG")
    sums = PixelSums()
    sums.add(check_images([white])[0])
    assert sums.mean_and_std() == ([1.0] * 3, [0.0] * 3)


def test_resizing_keeps_the_shape_and_only_touches_what_differs():
    encoded = encode(_pixels(20, 50), "PNG")
    (resized,) = prepare_images([encoded], resize_shorter=10)
    assert (resized.format, resized.height, resized.width) == ("jpeg", 10, 25)
    assert tf.io.decode_jpeg(resized.encoded).shape == (10, 25, 3)
    assert prepare_images([encoded], resize_shorter=20)[0].encoded == encoded


def test_a_smaller_image_is_enlarged_or_keeps_its_bytes():
    encoded = encode(_pixels(20, 50), "PNG")
    (enlarged,) = prepare_images([encoded], resize_shorter=30)
    assert (enlarged.format, enlarged.height, enlarged.width) == ("jpeg", 30, 75)
    (kept,) = prepare_images([encoded], resize_shorter=30, enlarge=False)
    assert (kept.encoded, kept.format) == (encoded, "png")
    shrunk = [prepare_images([encoded], resize_shorter=10, enlarge=enlarge)[0].encoded for enlarge in (True, False)]
    assert shrunk[0] == shrunk[1] != encoded


def _smooth(height=40, width=60):
    """Returns an RGB image in whose channels JPEG loses next to nothing, and that no turn leaves as it is."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([y * 4 + 20, x * 3 + 20, (x + y) * 2], axis=-1).astype(np.uint8))


def _saved(image, image_format, **options):
    target = io.BytesIO()
    image.save(target, image_format, **options)
    return target.getvalue()


def _decoded(encoded):
    return tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()


def _png_of_16_bits(pixels):
    """Returns a PNG of RGB pixels, uint16, which Pillow does not write."""

    def chunk(kind, contents):
        return struct.pack(">I", len(contents)) + kind + contents + struct.pack(">I", zlib.crc32(kind + contents))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _with_alpha(image):
    image = image.copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def _sixteen_bit_grey():
    return Image.fromarray(np.asarray(_smooth().convert("L")).astype(np.uint16) * 257)


MODES = {
    "JPEG, grey": lambda: _saved(_smooth().convert("L"), "JPEG"),
    "JPEG, CMYK": lambda: _saved(_smooth().convert("CMYK"), "JPEG"),
    "JPEG, progressive": lambda: _saved(_smooth(), "JPEG", progressive=True),
    "PNG, 1 bit": lambda: _saved(Image.fromarray(np.indices((40, 60))[1] > 30), "PNG"),
    "PNG, grey": lambda: _saved(_smooth().convert("L"), "PNG"),
    "PNG, 16 bits of grey": lambda: _saved(_sixteen_bit_grey(), "PNG"),
    "PNG, 16 bits of grey, dark": lambda: _saved(Image.fromarray(np.full((40, 60), 40 << 8, np.uint16)), "PNG"),
    "PNG, 16 bits of colour": lambda: _png_of_16_bits(np.asarray(_smooth()).astype(np.uint16) * 257),
    "PNG, grey and alpha": lambda: _saved(_with_alpha(_smooth().convert("L")), "PNG"),
    "PNG, colour and alpha": lambda: _saved(_with_alpha(_smooth()), "PNG"),
    "PNG, a transparent colour": lambda: _saved(_smooth(), "PNG", transparency=(20, 20, 0)),
    "PNG, palette": lambda: _saved(_smooth().quantize(64), "PNG"),
    "PNG, a transparent entry": lambda: _saved(_smooth().quantize(64), "PNG", transparency=3),
    "GIF": lambda: _saved(_smooth().quantize(64), "GIF"),
    "GIF, transparent": lambda: _saved(_smooth().quantize(64), "GIF", transparency=3),
    "BMP, grey": lambda: _saved(_smooth().convert("L"), "BMP"),
    "BMP, 32 bits": lambda: _saved(_with_alpha(_smooth()), "BMP"),
}


@pytest.mark.parametrize("mode", MODES)
def test_what_is_resized_looks_as_the_original_does(mode):
    encoded = MODES[mode]()
    (kept,) = prepare_images([encoded])
    (resized,) = prepare_images([encoded], resize_shorter=20)
    assert kept.encoded == encoded
    assert (resized.height, resized.width) == (20, 30)
    wanted = Image.fromarray(_decoded(encoded)).resize((30, 20), Image.Resampling.BICUBIC)
    assert np.abs(_decoded(resized.encoded).astype(float) - wanted).mean() < 4
    # And so do the pixels' mean and std.
    means = [image.pixel_sum / (image.height * image.width) for image in (kept, resized)]
    np.testing.assert_allclose(*means, atol=4)


def _oriented(image_format, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _saved(_smooth(), image_format, exif=exif, **({"quality": 95} if image_format == "JPEG" else {}))


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize(("image_format", "tolerance"), [("JPEG", 4), ("PNG", 0)])
def test_an_image_is_stored_upright(image_format, tolerance, orientation):
    encoded = _oriented(image_format, orientation)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    (prepared,) = prepare_images([encoded])
    assert prepared.format == image_format.lower()
    assert (prepared.width, prepared.height) == upright.size
    assert np.abs(_decoded(prepared.encoded).astype(float) - upright).mean() <= tolerance
    assert not Image.open(io.BytesIO(prepared.encoded)).getexif()
    # The same image again is left alone.
    assert prepare_images([prepared.encoded])[0].encoded == prepared.encoded
    (resized,) = prepare_images([encoded], resize_shorter=20)
    small = upright.resize((resized.width, resized.height), Image.Resampling.BICUBIC)
    assert min(small.size) == 20
    assert np.abs(_decoded(resized.encoded).astype(float) - small).mean() < 4


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_what_is_upright_keeps_its_bytes(image_format):
    upright = _oriented(image_format, 1)
    assert prepare_images([upright])[0].encoded == upright
    # Records are looked at as they are.
    turned = _oriented(image_format, 6)
    (checked,) = check_images([turned])
    assert (checked.encoded, checked.height, checked.width) == (turned, 40, 60)


def _png_claiming(width, height):
    header = struct.pack(">II", width, height)
    encoded = bytearray(encode(_pixels(), "PNG"))
    encoded[16:24] = header
    encoded[29:33] = struct.pack(">I", zlib.crc32(encoded[12:29]))
    return bytes(encoded)


@pytest.mark.parametrize(
    ("width", "height", "shorter", "reason"),
    [
        (300_000, 1, 72, "resized would have 21600000x72 pixels"),
        (99_000_000, 1, 72, "resized would have 7128000000x72 pixels"),
        (1, 99_000_000, 72, "resized would have 72x7128000000 pixels"),
        (7, 9, 10_000, "resized would have 10000x12857 pixels"),
        (10_000, 1, 7, "resized would have 70000x7 pixels; expected at most 65,500 per side"),
    ],
)
def test_what_resizing_makes_is_bounded_before_anything_is_decoded(width, height, shorter, reason):
    small = encode(np.zeros((shorter, shorter, 3), np.uint8)) if shorter < 100 else encode(_pixels(), "PNG")
    results = prepare_images([small, _png_claiming(width, height), small], shorter)
    assert reason in results[1]
    if shorter < 100:
        assert [result.encoded for result in results[::2]] == [small, small]


def test_an_image_that_does_not_decode_is_refused_whatever_is_to_be_done_with_it():
    cut = _oriented("JPEG", 6)[:-200]
    for shorter in (None, 20):
        good, reason = prepare_images([encode(_pixels()), cut], shorter)
        assert not isinstance(good, str)
        assert "truncated or damaged" in reason

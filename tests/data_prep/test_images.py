"""What passes as an image, and the exact sums of its pixels."""

import io

import numpy as np
import pytest
import tensorflow as tf
from conftest import encode
from PIL import Image

from data_prep.images import PixelSums, check_images


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
    (resized,) = check_images([encoded], resize_shorter=10)
    assert (resized.format, resized.height, resized.width) == ("jpeg", 10, 25)
    assert tf.io.decode_jpeg(resized.encoded).shape == (10, 25, 3)
    assert check_images([encoded], resize_shorter=20)[0].encoded == encoded

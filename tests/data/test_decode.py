"""A window of an image is the part of the decoded image, at the size that evaluation wants."""

import io
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_domains import encode

from tfmdl.data.decode import decode_window, decode_windows, format_of, normalize, size_of


def window_of(encoded, shape, cover, window, offset=(0, 0)):
    return decode_window(encoded, *map(tf.constant, shape), tf.constant(cover), window, tf.constant(offset)).numpy()


def noise(rng, height, width, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return rng.integers(0, 256, shape, "uint8")


@pytest.mark.parametrize("shape", [(18, 18), (18, 31), (41, 18)])
@pytest.mark.parametrize("image_format", ["png", "bmp"])
def test_what_fits_is_cropped_and_not_resized(shape, image_format, rng):
    pixels = noise(rng, *shape)
    top, left = (shape[0] - 18) // 2, (shape[1] - 18) // 2
    found = window_of(encode(pixels, image_format), shape, (18, 18), (16, 16), (2, 1))
    np.testing.assert_array_equal(found, pixels[top + 2 : top + 18, left + 1 : left + 17])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_a_window_of_a_jpeg_is_the_part_of_the_whole(channels, subsampling, rng):
    for shape in ((40, 40), (40, 57), (75, 40)):
        smooth = Image.fromarray(noise(rng, 9, 9, channels)).resize(shape[::-1], Image.Resampling.BICUBIC)
        encoded = encode(np.asarray(smooth), "jpeg", subsampling=subsampling)
        whole = tf.io.decode_jpeg(encoded, channels=3).numpy()
        top, left = (shape[0] - 40) // 2, (shape[1] - 40) // 2
        for offset in ((0, 0), (3, 5), (2, 7), (8, 8)):
            found = window_of(encoded, shape, (40, 40), (32, 32), offset)
            row, column = top + offset[0], left + offset[1]
            np.testing.assert_array_equal(found, whole[row : row + 32, column : column + 32])


@pytest.mark.parametrize("shape", [(36, 36), (54, 36), (9, 12), (37, 90)])
def test_another_size_is_resized_to_cover_and_cropped_to_the_centre(shape, rng):
    smooth = Image.fromarray(noise(rng, 4, 4)).resize(shape[::-1], Image.Resampling.BICUBIC)
    pixels = np.asarray(smooth)
    scale = 18 / min(shape)
    height, width = (max(18, round(side * scale)) for side in shape)
    # With antialiasing TensorFlow's bilinear is Pillow's.
    resized = np.asarray(smooth.resize((width, height), Image.Resampling.BILINEAR)).astype(int)
    top, left = (height - 18) // 2, (width - 18) // 2
    found = window_of(encode(pixels, "png"), shape, (18, 18), (18, 18))
    np.testing.assert_allclose(found, resized[top : top + 18, left : left + 18], atol=1)


def test_jpeg_and_png_take_the_same_way_when_resized(rng):
    pixels = np.full((30, 30, 3), (200, 30, 90), "uint8")
    found = [window_of(encode(pixels, name), (30, 30), (18, 18), (18, 18)) for name in ("jpeg", "png")]
    np.testing.assert_allclose(found[0].astype(int), found[1], atol=3)
    np.testing.assert_array_equal(found[1], pixels[:18, :18])


@pytest.mark.parametrize("shapes", [[(18, 18), (18, 31), (41, 18)], [(18, 18), (30, 25), (18, 31), (9, 12)]])
def test_a_batch_is_decoded_as_its_images_are(shapes, rng):
    files = [encode(noise(rng, *shape), ("jpeg", "png")[row % 2]) for row, shape in enumerate(shapes)]
    offsets = rng.integers(0, 3, (len(shapes), 2), "int32")
    height, width = np.array(shapes, "int32").T
    found = decode_windows(tf.constant(files), height, width, tf.constant([18, 18]), (16, 16), offsets)
    alone = [window_of(*row, (18, 18), (16, 16), offset) for *row, offset in zip(files, shapes, offsets, strict=True)]
    np.testing.assert_array_equal(found, alone)


def test_a_tall_image_is_kept_whole(rng):
    pixels = noise(rng, 36, 18)
    found = window_of(encode(pixels, "png"), (36, 18), (36, 18), (36, 18))
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16", "1"])
def test_pngs_of_any_kind_become_three_channels(mode, rng):
    if mode == "I;16":
        image = Image.fromarray((noise(rng, 18, 18, 1).astype("uint16") << 8) + 7)
        wanted = np.repeat((np.asarray(image) >> 8)[..., None], 3, axis=2)
    else:
        image = Image.fromarray(noise(rng, 18, 18)).convert(mode)
        wanted = np.asarray(image.convert("RGB"))
    target = io.BytesIO()
    image.save(target, "PNG")
    np.testing.assert_array_equal(window_of(target.getvalue(), (18, 18), (18, 18), (18, 18)), wanted)


def test_normalisation_is_plain_arithmetic(rng):
    pixels = noise(rng, 5, 4)
    mean, std = np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.3, 0.4])
    found = normalize(pixels[None], tuple(mean), tuple(std)).numpy()[0]
    np.testing.assert_allclose(found, (pixels / 255 - mean) / std, atol=1e-5)


def segment(marker, data):
    return b"\xff" + bytes([marker]) + (len(data) + 2).to_bytes(2, "big") + data


@pytest.mark.parametrize("before", [b"junk", b"\xff" * 9, b"\0" * 5000, "COM", "APP1"], ids=str)
def test_the_size_of_a_jpeg_is_that_of_what_is_decoded(before, rng):
    """Whatever stands before its header: something that is no header, or hides one of another size."""
    encoded = encode(noise(rng, 9, 23), "jpeg")
    small = encoded[encoded.index(b"\xff\xc0") :]
    decoy = {"COM": segment(0xFE, small[:19]), "APP1": segment(0xE1, b"Exif\0\0\xff\xd8" + small)}.get(before, before)
    hidden = encoded[:2] + segment(0xE0, b"") + decoy + encode(noise(rng, 30, 41), "jpeg")[2:]
    assert size_of(tf.constant(hidden), format_of(tf.constant(hidden))).numpy().tolist() == [30, 41]
    assert tf.io.decode_jpeg(hidden).shape == (30, 41, 3)


def test_what_a_png_begins_with_is_its_header(rng):
    """TensorFlow decodes one whose header comes later, too: what is read of its size is then something else's."""
    encoded = encode(noise(rng, 5, 4), "png")
    later = encoded[:8] + b"\0\0\0\0abCd" + zlib.crc32(b"abCd").to_bytes(4, "big") + encoded[8:]
    assert tf.io.decode_png(later).shape == (5, 4, 3)
    assert format_of(tf.constant([encoded, later])).numpy().tolist() == [b"png", b""]

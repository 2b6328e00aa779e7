"""Looking at images: what the header claims, whether all of the image decodes, and the sums of its pixels.

Images are decoded by TensorFlow, as training will decode them: what passes here cannot stop a training run. A
format that Pillow reads and TensorFlow does not (WebP, TIFF, ...) is refused by name rather than silently
re-encoded.
"""

import io
import math
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

MAX_PIXELS = 100_000_000
JPEG_QUALITY = 95
_FORMATS = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png", b"GIF8": "gif", b"BM": "bmp"}
# Squares of this many pixels of 8 bits still add up to less than 2**31.
_CHUNK = 1 << 15

# The limit is ours, on the header, before Pillow or TensorFlow gets to see the image.
Image.MAX_IMAGE_PIXELS = None


class CheckedImage(NamedTuple):
    """An image that decodes: bytes, format, size, and each channel's sum of pixels and of their squares."""

    encoded: bytes
    format: str
    height: int
    width: int
    pixel_sum: np.ndarray
    square_sum: np.ndarray


def check_images(images: Sequence[bytes], resize_shorter: int | None = None) -> list[CheckedImage | str]:
    """Decodes images in full.

    Args:
        images: The encoded images.
        resize_shorter: If given, an image whose shorter side is not this long is resized and encoded again.

    Returns:
        For each image what was found, or the reason why it is refused.
    """
    results: list[CheckedImage | str] = []
    for encoded in images:
        try:
            image_format = _check_header(encoded)
            if resize_shorter is not None:
                encoded, image_format = _resized(encoded, image_format, resize_shorter)
            results.append(CheckedImage(encoded, image_format, 0, 0, None, None))
        except (OSError, ValueError, SyntaxError, struct.error) as error:
            results.append(str(error))
    good = [index for index, result in enumerate(results) if not isinstance(result, str)]
    measured = _measure([results[index].encoded for index in good])
    for index, found in zip(good, measured, strict=True):
        results[index] = found if isinstance(found, str) else results[index]._replace(**found)
    return results


class PixelSums:
    """Mean and standard deviation of pixels, exact whatever the order of the images.

    Attributes:
        pixels: Number of pixels so far.
    """

    def __init__(self):
        self.pixels = 0
        self._sum = np.zeros(3, np.int64)
        self._squares = np.zeros(3, np.int64)

    def add(self, image: CheckedImage) -> None:
        """Takes in the pixels of an image."""
        self.pixels += image.height * image.width
        self._sum += image.pixel_sum
        self._squares += image.square_sum

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """Returns both for each channel, pixels in 0..1."""
        # Python's integers: ImageNet's variance is the difference of two products near 1e25, which no float
        # holds.
        count, sums, squares = self.pixels, self._sum.tolist(), self._squares.tolist()
        mean = [total / (255 * count) for total in sums]
        std = [math.sqrt(count * q - s * s) / (255 * count) for s, q in zip(sums, squares, strict=True)]
        return mean, std


def _check_header(encoded: bytes) -> str:
    """Returns the format; raises if the header is none, or claims too many pixels."""
    image_format = next((name for magic, name in _FORMATS.items() if encoded.startswith(magic)), None)
    if image_format is None:
        raise ValueError(f"is no image; expected JPEG, PNG, GIF or BMP, received {encoded[:8]!r}...")
    width, height = _jpeg_size(encoded) if image_format == "jpeg" else _pillow_size(encoded)
    if width * height > MAX_PIXELS:
        raise ValueError(f"claims {width}x{height} pixels; expected at most {MAX_PIXELS:,} in all")
    return image_format


def _pillow_size(encoded: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(encoded)) as image:
        return image.size


def _jpeg_size(encoded: bytes) -> tuple[int, int]:
    # Pillow's open takes half as long as decoding a 72-pixel image does; finding the frame header takes
    # nothing.
    position = 2
    while position + 9 <= len(encoded):
        marker, length = struct.unpack_from(">HH", encoded, position)
        # SOF0 to SOF15, without the three of that range which are other segments (DHT, JPG, DAC).
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            height, width = struct.unpack_from(">HH", encoded, position + 5)
            return width, height
        # Any number of fill bytes may precede a marker.
        position += 1 if marker == 0xFFFF else 2 + length
    raise ValueError("is truncated: it ends before the JPEG frame header")


def _resized(encoded: bytes, image_format: str, shorter: int) -> tuple[bytes, str]:
    """Returns the image with its shorter side `shorter` pixels long, as it was if it already is."""
    with Image.open(io.BytesIO(encoded)) as image:
        if min(image.size) == shorter:
            return encoded, image_format
        scale = shorter / min(image.size)
        size = [max(shorter, round(side * scale)) for side in image.size]
        target = io.BytesIO()
        image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(target, "JPEG", quality=JPEG_QUALITY)
    return target.getvalue(), "jpeg"


def _measure(images: list[bytes]) -> list[dict | str]:
    """Returns the fields of each image that only decoding tells, or the reason why it does not decode."""
    if not images:
        return []
    try:
        return _fields(_measure_graph(tf.constant(images)))
    except tf.errors.OpError:
        # The batch's error does not say which image it was.
        return [_measure_one(image) for image in images]


def _measure_one(image: bytes) -> dict | str:
    try:
        return _fields(_measure_graph(tf.constant([image])))[0]
    except tf.errors.OpError as error:
        lines = [line.strip() for line in error.message.splitlines() if "fail" in line or "nvalid" in line]
        return f"does not decode; it is truncated or damaged ({lines[-1] if lines else type(error).__name__})"


def _fields(measured) -> list[dict]:
    sizes, sums, squares = (tensor.numpy() for tensor in measured)
    return [
        {"height": int(height), "width": int(width), "pixel_sum": pixel_sum, "square_sum": square_sum}
        for (height, width), pixel_sum, square_sum in zip(sizes, sums, squares, strict=True)
    ]


def _measure_image(encoded):
    """Decodes one image; returns (height, width), and the sum and the sum of squares of each channel."""
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    pixels = tf.reshape(image, [-1, 3])
    sums = tf.zeros([3], tf.int64)
    squares = tf.zeros([3], tf.int64)
    # By chunks, so that a large photograph needs no more memory than its own pixels.
    for start in tf.range(0, tf.shape(pixels)[0], _CHUNK):
        chunk = tf.cast(pixels[start : start + _CHUNK], tf.int32)
        sums += tf.cast(tf.reduce_sum(chunk, 0), tf.int64)
        squares += tf.cast(tf.reduce_sum(chunk * chunk, 0), tf.int64)
    return tf.shape(image)[:2], sums, squares


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def _measure_graph(images):
    # A map within one graph: TensorFlow holds no lock on Python while it runs, so threads are enough to use
    # all cores.
    return tf.map_fn(
        _measure_image,
        images,
        fn_output_signature=(
            tf.TensorSpec([2], tf.int32),
            tf.TensorSpec([3], tf.int64),
            tf.TensorSpec([3], tf.int64),
        ),
    )

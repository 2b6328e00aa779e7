"""Looking at images: what the header claims, whether all of the image decodes, and the sums of its pixels.

Images are decoded by TensorFlow, as training will decode them: what passes here cannot stop a training run, and what
is made of an image looks as the image itself would have. A format that Pillow reads and TensorFlow does not (WebP,
TIFF, ...) is refused by name rather than silently re-encoded.
"""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from data_prep.headers import MAX_PIXELS, Header, check_pixels, read_header

JPEG_QUALITY = 95
# Of a JPEG that libjpeg writes.
_MAX_JPEG_SIDE = 65_500
# Squares of this many pixels of 8 bits still add up to less than 2**31.
_CHUNK = 1 << 15
# What makes the pixels of each EXIF orientation upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class CheckedImage(NamedTuple):
    """An image that decodes: bytes, format, size, and each channel's sum of pixels and of their squares."""

    encoded: bytes
    format: str
    height: int
    width: int
    pixel_sum: np.ndarray
    square_sum: np.ndarray


def check_images(images: Sequence[bytes]) -> list[CheckedImage | str]:
    """Decodes images in full.

    Args:
        images: The encoded images.

    Returns:
        For each image what was found, or the reason why it is refused.
    """
    return _checked(images, lambda encoded, header: (encoded, header))


def prepare_images(
    images: Sequence[bytes], resize_shorter: int | None = None, enlarge: bool = True
) -> list[CheckedImage | str]:
    """Makes images upright and of the wanted size, and decodes them in full.

    An image whose EXIF data (a JPEG's APP1, a PNG's eXIf) says that it is to be turned or mirrored is decoded,
    turned, and encoded without EXIF data: a PNG as PNG, and so without loss, a JPEG as JPEG of quality `JPEG_QUALITY`.
    One that is to be resized becomes such a JPEG too. All others keep their bytes.

    Args:
        images: The encoded images.
        resize_shorter: If given, an image whose shorter side is not this long is resized and encoded again.
        enlarge: Whether that is done to images whose shorter side is below it, too.

    Returns:
        For each image what was found, or the reason why it is refused.
    """
    return _checked(images, lambda encoded, header: _prepared(encoded, header, resize_shorter, enlarge))


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


def _checked(
    images: Sequence[bytes], prepare: Callable[[bytes, Header], tuple[bytes, Header]]
) -> list[CheckedImage | str]:
    results: list[CheckedImage | str] = [""] * len(images)
    good: dict[int, tuple[bytes, Header]] = {}
    for index, encoded in enumerate(images):
        # Whatever an image makes a decoder raise, it is that image which is bad.
        try:
            good[index] = prepare(encoded, read_header(encoded))
        except Exception as error:
            results[index] = _reason(error)
    for indices in _groups({index: header.height * header.width for index, (_, header) in good.items()}):
        measured = _measure([good[index][0] for index in indices])
        for index, found in zip(indices, measured, strict=True):
            encoded, header = good[index]
            results[index] = found if isinstance(found, str) else CheckedImage(encoded, header.format, **found)
    return results


def _groups(pixels: dict[int, int]) -> Iterator[list[int]]:
    """Yields the keys in groups that have no more than `MAX_PIXELS` together: they are decoded at the same time."""
    group, total = [], 0
    for key, size in pixels.items():
        if group and total + size > MAX_PIXELS:
            yield group
            group, total = [], 0
        group.append(key)
        total += size
    if group:
        yield group


def _prepared(encoded: bytes, header: Header, shorter: int | None, enlarge: bool) -> tuple[bytes, Header]:
    """Returns the image upright, its shorter side `shorter` pixels long if given; unchanged if it is so already."""
    own = min(header.height, header.width)
    resized = shorter is not None and (own > shorter or (enlarge and own < shorter))
    if header.orientation == 1 and not resized:
        return encoded, header
    if resized:
        # Refused before it is decoded. The pixels have the last word: of a damaged GIF fewer may come than it claims.
        _resized_size(header.width, header.height, shorter)
    image = Image.fromarray(tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy())
    if header.orientation != 1:
        image = image.transpose(_UPRIGHT[header.orientation])
    if resized:
        image = image.resize(_resized_size(*image.size, shorter), Image.Resampling.BICUBIC)
    image_format = "jpeg" if resized else header.format
    return _encoded(image, image_format), Header(image_format, image.height, image.width)


def _encoded(image: Image.Image, image_format: str) -> bytes:
    if image_format == "jpeg":
        # Pillow would hold Python's lock meanwhile, and so all other threads.
        return tf.io.encode_jpeg(np.asarray(image), format="rgb", quality=JPEG_QUALITY).numpy()
    target = io.BytesIO()
    image.save(target, image_format)
    return target.getvalue()


def _resized_size(width: int, height: int, shorter: int) -> tuple[int, int]:
    scale = shorter / min(width, height)
    resized_width, resized_height = (max(shorter, round(side * scale)) for side in (width, height))
    check_pixels(resized_height, resized_width, "resized would have")
    if max(resized_width, resized_height) > _MAX_JPEG_SIDE:
        raise ValueError(
            f"resized would have {resized_width}x{resized_height} pixels; expected at most {_MAX_JPEG_SIDE:,} per side"
        )
    return resized_width, resized_height


def _measure(images: list[bytes]) -> list[dict | str]:
    """Returns the fields of each image that only decoding tells, or the reason why it does not decode."""
    try:
        return _fields(_measure_graph(tf.constant(images)))
    except Exception as error:
        if len(images) == 1:
            return [_reason(error)]
        # The batch's error does not say which image it was.
        return [found for image in images for found in _measure([image])]


def _reason(error: Exception) -> str:
    """Returns what to say of an image that raised `error`."""
    if isinstance(error, tf.errors.OpError):
        lines = [line.strip() for line in error.message.splitlines() if "fail" in line or "nvalid" in line]
        return f"does not decode; it is truncated or damaged ({lines[-1] if lines else type(error).__name__})"
    return str(error) if isinstance(error, ValueError) else f"cannot be read ({type(error).__name__}: {error})"


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

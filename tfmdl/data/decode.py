"""Encoded images to uint8 pixels, decoding no more of a JPEG than is used."""

import tensorflow as tf

# What an image file of each format begins with: all formats that TensorFlow decodes.
MAGIC = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n", "gif": b"GIF8", "bmp": b"BM"}


def decode_window(encoded, image_format, height, width, cover, window, offset):
    """Decodes one image, resizes it to cover a size, and cuts a window out of the centre of that.

    Args:
        encoded: Scalar string, the image file.
        image_format: Scalar string, "jpeg" or another format that TensorFlow decodes.
        height, width: int32 scalars, the image's own size.
        cover: int32 (2,), height and width that the image is resized to cover, keeping its aspect; nothing is
            resized where it fits already.
        window: (height, width) of what is returned, static.
        offset: int32 (2,), where the window's corner is in the centre crop of size `cover`.

    Returns:
        uint8 (window height, window width, 3).
    """
    cover = tf.convert_to_tensor(cover)
    resized, fits = _covering(height, width, cover)
    corner = (resized - cover) // 2 + offset

    def decode_part_of_jpeg():
        # Two columns more on either side, where there are: at an edge, colour of half the resolution is guessed.
        left = tf.maximum(corner[1] - 2, 0)
        right = tf.minimum(corner[1] + window[1] + 2, width)
        box = tf.stack([corner[0], left, window[0], right - left])
        image = tf.io.decode_and_crop_jpeg(encoded, box, channels=3)
        return tf.slice(image, [0, corner[1] - left, 0], [*window, 3])

    def decode_whole():
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        image.set_shape((None, None, 3))
        image = tf.cond(fits, lambda: image, lambda: resize(image, resized))
        return tf.slice(image, [corner[0], corner[1], 0], [*window, 3])

    image = tf.cond(tf.logical_and(fits, image_format == b"jpeg"), decode_part_of_jpeg, decode_whole)
    image.set_shape((*window, 3))
    return image


def center(images, size):
    """Resizes decoded images to cover a size and cuts out their centre, as `decode_window` does.

    Args:
        images: uint8 (batch, height, width, 3).
        size: (height, width), static.

    Returns:
        uint8 (batch, *size, 3).
    """
    shape = tf.shape(images)
    resized, fits = _covering(shape[1], shape[2], tf.constant(size))
    images = tf.cond(fits, lambda: images, lambda: resize(images, resized))
    corner = (resized - tf.constant(size)) // 2
    images = tf.slice(images, [0, corner[0], corner[1], 0], [-1, *size, 3])
    return tf.ensure_shape(images, (None, *size, 3))


def format_of(encoded):
    """Returns the format that each image file begins like, a key of `MAGIC`, or "" where it is none of them.

    Args:
        encoded: string tensor of any shape.

    Returns:
        string, of the shape of `encoded`.
    """
    found = tf.fill(tf.shape(encoded), "")
    for name, magic in MAGIC.items():
        found = tf.where(tf.strings.substr(encoded, 0, len(magic)) == magic, name, found)
    return found


def size_of(encoded, image_format):
    """Reads height and width from the header of an image file, before anything is decoded.

    Args:
        encoded: Scalar string, the image file.
        image_format: Scalar string, a key of `MAGIC`.

    Returns:
        int32 (2,), height and width. A file that ends within its header is an InvalidArgumentError.
    """

    def two_integers(position, dtype, little_endian):
        header = tf.strings.substr(encoded, position, 2 * dtype.size)
        return tf.cast(tf.io.decode_raw(header, dtype, little_endian), tf.int32)

    readers = {
        "jpeg": lambda: tf.image.extract_jpeg_shape(encoded)[:2],
        "png": lambda: two_integers(16, tf.int32, little_endian=False)[::-1],
        "gif": lambda: two_integers(6, tf.uint16, little_endian=True)[::-1],
        # A negative height says that the rows are stored from the top.
        "bmp": lambda: tf.abs(two_integers(18, tf.int32, little_endian=True)[::-1]),
    }
    index = tf.argmax(tf.constant(list(readers)) == image_format, output_type=tf.int32)
    return tf.ensure_shape(tf.switch_case(index, list(readers.values())), (2,))


def resize(image, size):
    """Resizes uint8 (..., height, width, 3) to `size`, int32 (2,), with antialiasing, to uint8."""
    resized = tf.image.resize(image, size, antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)


def normalize(images, mean, std):
    """Returns uint8 (..., 3) as float32: pixels in 0..1, less `mean`, by `std`; both broadcast."""
    scale = 1.0 / (255.0 * tf.convert_to_tensor(std, tf.float32))
    return tf.cast(images, tf.float32) * scale - tf.convert_to_tensor(mean, tf.float32) / std


def _covering(height, width, cover):
    """Returns the size that an image is resized to, int32 (2,), and whether it has it already."""
    sides = tf.stack([height, width])
    scale = tf.reduce_max(cover / sides)
    resized = tf.maximum(tf.cast(tf.round(tf.cast(sides, tf.float64) * scale), tf.int32), cover)
    return resized, tf.equal(scale, 1.0)

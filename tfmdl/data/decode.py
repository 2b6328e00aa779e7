"""Encoded images to uint8 pixels of the wanted size, and these to what the model takes."""

import tensorflow as tf

# What an image file of each format begins with: all formats that TensorFlow decodes. A PNG begins with its header, of
# 13 bytes: TensorFlow would also find one that comes later, whose size stands elsewhere.
MAGIC = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "gif": b"GIF8", "bmp": b"BM"}


def decode_window(encoded, height, width, cover, window, offset):
    """Decodes one image, resizes it to cover a size, and cuts a window out of the centre of that.

    Args:
        encoded: Scalar string, an image file of any format that TensorFlow decodes.
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
    return _cut(_resized(_decode(encoded), resized, fits), _corner(resized, cover, offset), window)


def decode_windows(encoded, height, width, cover, window, offset):
    """Does for a batch what `decode_window` does for one image.

    Args:
        encoded: string (batch,), image files.
        height, width: int32 (batch,).
        cover, offset: int32 (batch, 2), or (2,) where they are the same for all.
        window: (height, width) of what is returned, static.

    Returns:
        uint8 (batch, window height, window width, 3).
    """
    resized, fits = _covering(height, width, cover)
    corner = _corner(resized, cover, offset)

    def cut_all():
        return _map(lambda encoded, corner: _cut(_decode(encoded), corner, window), window, encoded, corner)

    def resize_some():
        def function(encoded, resized, fits, corner):
            return _cut(_resized(_decode(encoded), resized, fits), corner, window)

        return _map(function, window, encoded, resized, fits, corner)

    # A map takes longer to start each operation of its loop than to do the arithmetic. So its loop has few of them: it
    # asks which images to resize only where there are some.
    return tf.cond(tf.reduce_all(fits), cut_all, resize_some)


def cut_windows(images, window, offset):
    """Cuts a window out of each image of a batch.

    Args:
        images: uint8 (batch, height, width, 3).
        window: (height, width) of what is returned, static.
        offset: int32 (batch, 2), where the window's corner is.

    Returns:
        uint8 (batch, window height, window width, 3).
    """
    return _map(lambda image, corner: _cut(image, corner, window), window, images, tf.pad(offset, [[0, 0], [0, 1]]))


def window_of_images(images, cover, window, offset):
    """Resizes decoded images of one size and cuts a window out of each, as `decode_window` does.

    Args:
        images: uint8 (batch, height, width, 3).
        cover, offset: int32 (2,).
        window: (height, width) of what is returned, static.

    Returns:
        uint8 (batch, window height, window width, 3).
    """
    cover = tf.convert_to_tensor(cover)
    shape = tf.shape(images)
    resized, fits = _covering(shape[1], shape[2], cover)
    images = tf.cond(fits, lambda: images, lambda: resize(images, resized))
    corner = _corner(resized, cover, offset)
    images = tf.slice(images, tf.concat([[0], corner], axis=0), [-1, *window, 3])
    return tf.ensure_shape(images, (None, *window, 3))


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
    """Returns images as float32: pixels in 0..1, minus `mean`, divided by `std`.

    Args:
        images: (batch, height, width, 3), pixels in 0..255, height and width static.
        mean, std: (3,), or (batch, 1, 1, 3) where each image has its own.
    """
    height, width = images.shape[1:3]
    std = tf.convert_to_tensor(std, tf.float32)
    scale, shift = 1.0 / (255.0 * std), tf.convert_to_tensor(mean, tf.float32) / std
    # A row of pixels is made one axis: TensorFlow takes several times as long where it broadcasts along one of three.
    scale, shift = (tf.tile(value, [1] * (len(value.shape) - 1) + [width]) for value in (scale, shift))
    rows = tf.cast(tf.reshape(images, (-1, height, 1, width * 3)), tf.float32)
    return tf.reshape(rows * scale - shift, (-1, height, width, 3))


def _covering(height, width, cover):
    """Returns the sizes that images are resized to, int32 (..., 2), and which ones have it already, bool (...)."""
    sides = tf.stack([height, width], axis=-1)
    scale = tf.reduce_max(cover / sides, axis=-1)
    resized = tf.cast(tf.round(tf.cast(sides, tf.float64) * scale[..., None]), tf.int32)
    return tf.maximum(resized, cover), tf.equal(scale, 1.0)


def _corner(resized, cover, offset):
    """Returns where, in resized images, the windows begin: int32 (..., 3), for row, column and channel."""
    corner = (resized - cover) // 2 + offset
    return tf.concat([corner, tf.zeros_like(corner[..., :1])], axis=-1)


def _decode(encoded):
    # All of it, though only a window is used: of a JPEG little more than the window, decoding a part is no faster.
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image.set_shape((None, None, 3))
    return image


def _resized(image, size, fits):
    return tf.cond(fits, lambda: image, lambda: resize(image, size))


def _cut(image, corner, window):
    return tf.ensure_shape(tf.slice(image, corner, [*window, 3]), (*window, 3))


def _map(function, window, *rows):
    """Maps rows of tensors to windows of pixels."""
    signature = tf.TensorSpec((*window, 3), tf.uint8)
    return tf.map_fn(lambda row: function(*row), rows, fn_output_signature=signature)

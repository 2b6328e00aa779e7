"""Image files and examples to pixels, in the graph; what is no image is refused by row and reason."""

import tensorflow as tf

from tfmdl.data.decode import decode_window, format_of, size_of
from tfmdl.serving.refusal import refuse_rows

# An image with more is refused before it is decoded: of that many, decoding and resizing take some 400 MB.
MAX_PIXELS = 25_000_000

ENCODED = "image/encoded"


def decode_rows(encoded, domain, cover, size, offset):
    """Decodes image files as evaluation does.

    Args:
        encoded: string (rows,), JPEG, PNG, GIF or BMP files.
        domain: string (rows,), for messages.
        cover, offset: int32 (rows, 2), as for `decode_window`.
        size: (height, width) of what is returned, static.

    Returns:
        uint8 (rows, *size, 3).
    """
    rows = tf.size(encoded, tf.int64)
    formats = format_of(encoded)

    def described(row, *fault):
        length = tf.strings.as_string(tf.strings.length(encoded[row]))
        return tf.strings.join(["the image of ", length, " bytes for domain [", domain[row], "] ", *fault])

    encoded = refuse_rows(encoded, formats == "", lambda row: described(row, "is no JPEG, PNG, GIF or BMP file"))

    def decode(row):
        sides = size_of(encoded[row], formats[row])
        tf.debugging.assert_positive(sides)
        needed = tf.cond(
            formats[row] == "gif",
            lambda: tf.maximum(pixels_needed(sides, cover[row]), frame_pixels(encoded[row])),
            lambda: pixels_needed(sides, cover[row]),
        )
        fits = needed <= MAX_PIXELS
        image = tf.cond(
            fits,
            lambda: decode_window(encoded[row], sides[0], sides[1], cover[row], size, offset[row]),
            lambda: tf.zeros((*size, 3), tf.uint8),
        )
        return row, fits, sides, image

    blank = (tf.constant(True), tf.constant([0, 0]), tf.zeros((*size, 3), tf.uint8))
    whole, (fits, sides, images) = _survivors(decode, rows, blank)
    images = refuse_rows(images, ~whole, lambda row: described(row, "is damaged: it does not decode"))

    def too_large(row):
        height, width = tf.unstack(tf.strings.as_string(sides[row]))
        return described(row, "has ", height, "x", width, " pixels (height x width): ", too_many(cover[row]))

    return refuse_rows(images, ~fits, too_large)


def too_many(cover):
    """Returns the rule that `MAX_PIXELS` makes, for messages, a scalar string."""
    height, width = tf.unstack(tf.strings.as_string(cover))
    rule = f"at most {MAX_PIXELS} are taken, in all frames and when it is resized to cover "
    return tf.strings.join([rule, height, "x", width])


def pixels_needed(sides, cover):
    """Returns how many pixels an image has, as it is or resized to cover a size: the larger number, float64.

    Args:
        sides: int32 (2,), height and width of the image, positive.
        cover: int32 (2,), height and width of the size.
    """
    sides = tf.cast(sides, tf.float64)
    scale = tf.reduce_max(tf.cast(cover, tf.float64) / sides)
    return tf.reduce_prod(sides) * tf.maximum(scale**2, 1.0)


def frame_pixels(encoded):
    """Returns how many pixels all frames of a GIF file have, float64: decoding the first one takes memory for all.

    Args:
        encoded: Scalar string, the file. Where it ends early or makes no sense, what came before is counted.
    """
    data = tf.cast(tf.io.decode_raw(encoded, tf.uint8), tf.int32)
    end = tf.size(data)
    data = tf.concat([data, tf.zeros(16, tf.int32)], axis=0)  # a block may be cut off

    def table(flags):
        return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags & 7), 0)

    # One step a block. Data, which pictures and extensions both have, is a chain of blocks of up to 255 bytes.
    def step(at, in_data, pixels):
        first = data[at]
        width, height = (data[at + byte] + 256 * data[at + byte + 1] for byte in (5, 7))
        is_picture, is_extension = ~in_data & (first == 0x2C), ~in_data & (first == 0x21)
        length = tf.where(is_picture, 11 + table(data[at + 9]), tf.where(is_extension, 2, end))
        pixels += tf.where(is_picture, tf.cast(width, tf.float64) * tf.cast(height, tf.float64), 0.0)
        return (
            tf.minimum(at + tf.where(in_data, 1 + first, length), end),
            tf.where(in_data, first != 0, is_picture | is_extension),
            pixels,
        )

    start = tf.minimum(13 + table(data[10]), end)
    state = (start, tf.constant(False), tf.constant(0.0, tf.float64))
    return tf.while_loop(lambda at, *_: at < end, step, state)[2]


def encoded_images(examples):
    """Returns the image files in serialized `tf.train.Example`s of `tfmdl.data.records`, string (rows,)."""
    features = {ENCODED: tf.io.FixedLenFeature([], tf.string, default_value="")}

    def parse(row):
        # Not the size that the example tells: it need not be true.
        return row, tf.io.parse_single_example(examples[row], features)[ENCODED]

    whole, (encoded,) = _survivors(parse, tf.size(examples, tf.int64), (tf.constant(""),))
    encoded = refuse_rows(encoded, ~whole, lambda row: f"is no tf.train.Example with one string in {ENCODED}")
    return refuse_rows(encoded, encoded == "", lambda row: f"the tf.train.Example has no {ENCODED}")


def _survivors(function, rows, blank):
    """Maps over rows, of which some may fail.

    Args:
        function: From a row's number, int64, to a tuple: that number and results.
        rows: How many there are, int64.
        blank: Results of a row that failed.

    Returns:
        bool (rows,), which ones did not fail, and the results of all, a tuple of tensors (rows, ...).
    """
    # A dataset, because nothing else in a graph outlives an error: so the row that fails can be named. It ends with
    # a blank row, since a dataset cannot give a batch of none.
    end = tf.data.Dataset.from_tensors((rows, *blank))
    dataset = tf.data.Dataset.range(rows).map(function).ignore_errors().concatenate(end).batch(rows + 1)
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False  # they would run at each request
    survived, *results = dataset.with_options(options).get_single_element()
    # Where each row is among the survivors; rows that failed get the blank one.
    last = tf.size(survived, tf.int64) - 1
    position = tf.scatter_nd(survived[:, None], tf.range(last + 1) - last, (rows + 1,))[:-1] + last
    return position < last, tuple(tf.gather(result, position) for result in results)

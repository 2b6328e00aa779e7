"""Image files and examples to pixels, in the graph; what is no image is refused by row and reason."""

import tensorflow as tf

from tfmdl.data.decode import format_of, size_of, window_of_images
from tfmdl.serving.limits import MAX_BYTES, RULES, fault_of, pixels_told
from tfmdl.serving.refusal import refuse_rows

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
    too_long = tf.strings.length(encoded) > MAX_BYTES
    encoded = refuse_rows(encoded, too_long, lambda row: described(row, f"is too long: {RULES['bytes']}"))

    def decode(row):
        file, sides = encoded[row], size_of(encoded[row], formats[row])
        tf.debugging.assert_positive(sides)
        fault = fault_of(file, formats[row], sides, cover[row])

        def window():
            image = tf.io.decode_image(file, channels=3, expand_animations=False)
            # A GIF may be cut off before its largest frame.
            tf.debugging.assert_equal(tf.shape(image)[:2], sides)
            return window_of_images(image[None], cover[row], size, offset[row])[0]

        return row, fault, sides, tf.cond(fault == "", window, blank)

    def blank():
        return tf.zeros((*size, 3), tf.uint8)

    whole, (faults, sides, images) = _survivors(decode, rows, (tf.constant(""), tf.constant([0, 0]), blank()))
    images = refuse_rows(images, ~whole, lambda row: described(row, "is damaged: it does not decode"))

    def rule(row):
        return described(row, pixels_told(sides[row], cover[row]), faults[row])

    return refuse_rows(images, faults != "", rule)


def encoded_images(examples):
    """Returns the image files in serialized `tf.train.Example`s of `tfmdl.data.records`, string (rows,)."""
    fields = {ENCODED: tf.io.FixedLenFeature([], tf.string, default_value="")}

    def parse(row):
        # Not the size that the example tells: it need not be true.
        return row, tf.io.parse_single_example(examples[row], fields)[ENCODED]

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

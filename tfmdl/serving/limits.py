"""What an image file may cost, told by its headers before it is decoded: time and memory of a row have a bound.

Decoding takes memory by the pixels of all frames, and time by these and by the scans over them. A compressed text of a
PNG may hold 8 MB in 8 kB. All of these are counted. What no header tells is how much the data of a PNG holds beyond its
pixels, all of which is unpacked: there the bound is the number of bytes.
"""

import tensorflow as tf

MAX_BYTES = 16_000_000  # unpacking a PNG of that size takes half a second; of one made to take long, 45 s
MAX_PIXELS = 25_000_000  # decoding and resizing that many takes some 400 MB
MAX_SCANS = 32  # of a JPEG; progressive ones have about 10
MAX_TEXTS = 16  # of a PNG, of the two kinds that may be compressed
MAX_STEPS = 5_000  # over the blocks of a GIF: some five per frame, of up to 0.15 ms

# What the header of a scan begins with behind its marker: its length, and the number of components.
_SCANS = [bytes([0, 6 + 2 * components, components]) for components in range(1, 5)]
# More of the marker's two bytes than there are by chance in `MAX_BYTES`.
_MAX_MARKERS = 1000
# How many equally long blocks of a GIF make one step.
_BLOCKS_A_STEP = 64


# What is taken, for messages and the model card.
RULES = {
    "bytes": f"at most {MAX_BYTES} bytes are taken",
    "pixels": f"at most {MAX_PIXELS} pixels are taken, in all frames and when it is resized",
    "scans": f"at most {MAX_SCANS} scans of a JPEG are taken",
    "texts": f"at most {MAX_TEXTS} texts of a PNG that may be compressed (zTXt, iTXt) are taken",
    "steps": f"at most {MAX_STEPS} blocks of a GIF are taken, where {_BLOCKS_A_STEP} of one length count as one",
    "screen": "of a GIF the frames must lie in the screen, and the largest one fill it",
    "kind": "of a BMP those are taken that have 24 bits per pixel and are not compressed",
}


def fault_of(encoded, image_format, sides, cover):
    """Returns which of the `RULES` an image file breaks, a scalar string; "" where it breaks none.

    Args:
        encoded: Scalar string, the file, of at most `MAX_BYTES`.
        image_format: Scalar string, a key of `tfmdl.data.decode.MAGIC`.
        sides: int32 (2,), height and width that its header tells, positive.
        cover: int32 (2,), height and width that it is resized to cover.
    """
    pixels = pixels_needed(sides, cover)

    def first_broken(*rules):
        fault = ""
        for rule, kept in reversed(rules):
            fault = tf.where(kept, fault, RULES[rule])
        return fault

    def of_gif():
        whole, in_frames, largest, reach = walk_gif(encoded)
        fits = tf.reduce_all((largest == sides) & (reach <= sides))
        few = tf.maximum(pixels, in_frames) <= MAX_PIXELS
        return first_broken(("pixels", few), ("steps", whole), ("screen", fits))

    few = pixels <= MAX_PIXELS
    checks = {
        "jpeg": lambda: first_broken(("pixels", few), ("scans", count_scans(encoded) <= MAX_SCANS)),
        "png": lambda: first_broken(("pixels", few), ("texts", count_texts(encoded) <= MAX_TEXTS)),
        "gif": of_gif,
        # Of another kind the size is not where it is read.
        "bmp": lambda: first_broken(("kind", _is_plain_bmp(encoded)), ("pixels", few)),
    }
    index = tf.argmax(tf.constant(list(checks)) == image_format, output_type=tf.int32)
    return tf.ensure_shape(tf.switch_case(index, list(checks.values())), ())


def pixels_needed(sides, cover):
    """Returns how many pixels an image has, as it is or resized to cover a size: the larger number, float64.

    Args:
        sides: int32 (2,), height and width of the image, positive.
        cover: int32 (2,), height and width of the size.
    """
    sides = tf.cast(sides, tf.float64)
    scale = tf.reduce_max(tf.cast(cover, tf.float64) / sides)
    return tf.reduce_prod(sides) * tf.maximum(scale**2, 1.0)


def pixels_told(sides, cover):
    """Returns what a message says before the rule that an image breaks, a scalar string; arguments as above."""
    height, width, *other = tf.unstack(tf.strings.as_string(tf.concat([sides, cover], axis=0)))
    size = [height, "x", width, " pixels (height x width), to be resized to cover ", other[0], "x", other[1], ": "]
    return tf.strings.join(["has ", *size])


def count_scans(encoded):
    """Returns how many scans a JPEG file has at most, int32: those of a preview in its metadata count, too."""
    # Within the data of a scan these bytes are escaped.
    behind = _split(encoded, b"\xff\xda", _MAX_MARKERS)
    scans = tf.reduce_any(tf.strings.substr(behind, 0, 3)[:, None] == tf.constant(_SCANS), axis=1)
    return tf.where(tf.size(behind) == _MAX_MARKERS, _MAX_MARKERS, tf.reduce_sum(tf.cast(scans, tf.int32)))


def count_texts(encoded):
    """Returns how many chunks zTXt and iTXt a PNG file has at most, int32; `MAX_TEXTS` + 1 stands for more."""
    # In the data of an image of `MAX_BYTES` the three bytes are found once by chance.
    return tf.size(_split(encoded, b"TXt", MAX_TEXTS + 1))


def walk_gif(encoded):
    """Walks over the blocks of a GIF file. Where it ends early or makes no sense, it tells of what came before.

    Returns:
        Whether no more than `MAX_STEPS` were needed, bool; how many pixels all frames have, float64: decoding the first
        one takes memory for all; the largest height and width of a frame, int32 (2,); and how far down and to the right
        frames reach, int32 (2,).
    """
    end = tf.strings.length(encoded)
    # A block may be cut off, and there may be no header.
    data = tf.io.decode_raw(tf.strings.join([encoded, bytes(16)]), tf.uint8)

    def read(position):
        return tf.cast(tf.gather(data, tf.minimum(position, end)), tf.int32)

    def table(flags):
        return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags & 7), 0)

    # Pictures and extensions have a head each, and then data: a chain of blocks of up to 255 bytes.
    def over_blocks(steps, at):
        starts = at + (1 + read(at)) * tf.range(_BLOCKS_A_STEP + 1)
        alike = tf.argmin(tf.concat([read(starts[:-1]) == read(at), [False]], axis=0), output_type=tf.int32)
        return steps + 1, tf.minimum(starts[alike], end)

    def over_picture_or_extension(steps, at, pixels, largest, reach):
        head = read(at + tf.range(10))
        corner, sides = tf.unstack(tf.reshape(head[1:9:2] + 256 * head[2:10:2], (2, 2))[:, ::-1])
        is_picture, is_extension = head[0] == 0x2C, head[0] == 0x21
        length = tf.where(is_picture, 11 + table(head[9]), tf.where(is_extension, 2, end))
        sides, reached = (tf.where(is_picture, value, 0) for value in (sides, corner + sides))
        steps, at = tf.while_loop(
            lambda steps, at: (read(at) > 0) & (steps < MAX_STEPS),
            over_blocks,
            (steps + 1, tf.minimum(at + length, end)),
        )
        pixels += tf.reduce_prod(tf.cast(sides, tf.float64))
        return steps, tf.minimum(at + 1, end), pixels, tf.maximum(largest, sides), tf.maximum(reach, reached)

    nothing = tf.constant([0, 0])
    start = tf.minimum(13 + table(read(10)), end)
    steps, at, *found = tf.while_loop(
        lambda steps, at, *_: (at < end) & (steps < MAX_STEPS),
        over_picture_or_extension,
        (tf.constant(0), start, tf.constant(0.0, tf.float64), nothing, nothing),
    )
    return steps < MAX_STEPS, *found


def _split(encoded, by, most):
    """Returns what stands behind each `by` in a scalar string, up to the next: the first `most` of these."""
    return tf.raw_ops.StringSplitV2(input=encoded[None], sep=by, maxsplit=most).values[1:]


def _is_plain_bmp(encoded):
    """TensorFlow reads a palette, 32 bits or run lengths as if they were pixels; older headers have other fields."""
    header = tf.io.decode_raw(tf.strings.substr(encoded, 14, 4), tf.int32, little_endian=True)
    kind = tf.strings.substr(encoded, 28, 6) == bytes([24, 0, 0, 0, 0, 0])
    return kind & (header[0] >= 40)

"""JPEGs of 256 pixels decoded for training at 96: whole, at half the size by the decoder itself, and stored smaller.

The images are crops of the photograph that comes with matplotlib.
"""

import io
import time
from functools import partial

from absl import app

from benchmarks import common
from benchmarks.common import Contestant

IMAGES, BATCH, BATCHES = 256, 64, 16
STORED, COVER, WINDOW = 256, 108, 96


def photographs(shorter):
    """Returns JPEGs of this shorter side, as data_prep/convert.py stores them."""
    import matplotlib.cbook
    import numpy as np
    from PIL import Image

    from data_prep.images import prepare_images

    random = np.random.default_rng(0)
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        photograph = Image.open(file).convert("RGB")
    crops = []
    for scale in random.uniform(0.6, 1.0, IMAGES):
        width, height = round(scale * photograph.width), round(scale * photograph.height)
        left = int(random.integers(0, photograph.width - width + 1))
        top = int(random.integers(0, photograph.height - height + 1))
        target = io.BytesIO()
        photograph.crop((left, top, left + width, top + height)).save(target, "JPEG", quality=95)
        crops.append(target.getvalue())
    return prepare_images(crops, shorter)


def whole(images):
    """Returns a function from row numbers to windows, by the pipeline's own decoding."""
    import tensorflow as tf

    from tfmdl.data.decode import decode_windows

    columns = [tf.constant([getattr(image, name) for image in images]) for name in ("encoded", "height", "width")]

    def windows(rows):
        fields = (tf.gather(column, rows) for column in columns)
        return decode_windows(*fields, tf.constant([COVER, COVER]), (WINDOW, WINDOW), tf.constant([0, 0]))

    return windows


def halved(images):
    """Returns the same by a decoder that computes every second row and column only."""
    import tensorflow as tf

    from tfmdl.data.decode import resize

    files = tf.constant([image.encoded for image in images])

    def window(file):
        half = tf.io.decode_jpeg(file, channels=3, ratio=2)
        sides = tf.shape(half)[:2]
        scale = COVER / tf.reduce_min(sides)
        size = tf.cast(tf.round(tf.cast(sides, tf.float64) * scale), tf.int32)
        corner = tf.concat([(size - COVER) // 2, [0]], axis=0)
        return tf.slice(resize(half, size), corner, [WINDOW, WINDOW, 3])

    signature = tf.TensorSpec((WINDOW, WINDOW, 3), tf.uint8)
    return lambda rows: tf.map_fn(window, tf.gather(files, rows), fn_output_signature=signature)


def throughput(decoding, shorter):
    """Images per second on all cores, batch by batch as in the pipeline."""
    import numpy as np
    import tensorflow as tf

    from tfmdl.data.pipeline import map_in_order

    windows = decoding(photographs(shorter))
    rows = np.resize(np.arange(IMAGES, dtype="int32"), (BATCHES, BATCH))
    dataset = map_in_order(tf.data.Dataset.from_tensor_slices(rows), windows).prefetch(2)

    def turn():
        started = time.perf_counter()
        for _ in dataset:
            pass
        return rows.size / (time.perf_counter() - started)

    return turn


def print_difference():
    """Prints how far apart the pixels of both ways are."""
    import numpy as np

    images = photographs(STORED)
    rows = np.arange(IMAGES, dtype="int32")
    difference = np.abs(whole(images)(rows).numpy().astype(int) - halved(images)(rows).numpy())
    print(
        f"pixels in 0..255 differ by {difference.mean():.2f} in the mean, "
        f"99% of them by at most {np.percentile(difference, 99):.0f}, all by at most {difference.max()}"
    )


def main(_):
    common.compare(
        "decoding",
        [
            Contestant("whole", partial(throughput, whole, STORED)),
            Contestant("at half the size", partial(throughput, halved, STORED)),
            Contestant(f"stored at {COVER} pixels", partial(throughput, whole, COVER)),
        ],
    )
    print_difference()


if __name__ == "__main__":
    app.run(main)

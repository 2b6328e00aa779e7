"""Shuffling: what an image's place in one epoch says of its place in the next, for sets small and large."""

import pathlib
import tempfile
from functools import partial

from absl import app, flags

from benchmarks import common
from benchmarks.common import FLAGS, Claim, Contestant

flags.DEFINE_integer("small", 40_000, "Records of one source, and of each of ten.", lower_bound=10_000)
flags.DEFINE_integer("large", 1_200_000, "Records of one source, and of ten together.", lower_bound=100_000)

FILE = 10_000  # records: 72-pixel photographs of a shard of 64 MB
BATCH = 1000


def correlation(sources):
    """Coefficients of correlation, without sign, of the places that the images of `sources`, lists of files, take."""
    import numpy as np

    from tfmdl.data.pipeline import Source, TrainPipeline
    from tfmdl.data.preprocessing import Preprocessing

    preprocessing = Preprocessing(1, 1, 1, 1, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    sources = [Source("drawn", tuple(paths), FILE * len(paths), preprocessing) for paths in sources]
    total = sum(source.num_examples for source in sources)
    pipeline = TrainPipeline(sources, BATCH, seed=0)

    def places(epoch):
        batches = pipeline.epoch(epoch).as_numpy_iterator()
        images = np.concatenate([(batch["domain"], batch["image_id"]) for batch in batches], axis=1)[:, :total]
        return np.lexsort(images)

    return lambda: float(abs(np.corrcoef(places(0), places(1))[0, 1]))


def write(folder, files):
    """Writes files of small records whose image ids go on from file to file; returns their paths."""
    import tensorflow as tf

    from tfmdl.data import records

    pixel = tf.io.encode_jpeg(tf.zeros((1, 1, 3), tf.uint8)).numpy()
    paths = []
    for number in range(files):
        paths.append(str(pathlib.Path(folder, f"{number}.tfrecord")))
        with tf.io.TFRecordWriter(paths[-1]) as writer:
            for image_id in range(number * FILE, (number + 1) * FILE):
                writer.write(
                    records.serialize_example(
                        encoded=pixel, image_format="jpeg", height=1, width=1, label=0, text="", image_id=image_id
                    )
                )
    return paths


def main(_):
    small, large = FLAGS.small // FILE, FLAGS.large // FILE
    with tempfile.TemporaryDirectory() as folder:
        paths = write(folder, max(small, large))
        cases = {
            f"{small * FILE:,} records": [paths[:small]],
            f"ten times {small * FILE:,} records": [paths[:small]] * 10,
            f"{large * FILE:,} records": [paths[:large]],
            f"{large * FILE:,} records of ten sources": [paths[number:large:10] for number in range(10)],
        }
        common.compare(
            "shuffling",
            [Contestant(name, partial(correlation, sources)) for name, sources in cases.items()],
            [Claim(f"correlation of two epochs, {name}", name, None, 0.05) for name in cases],
            unit="correlation",
            less_is_better=True,
            rounds=1,
        )


if __name__ == "__main__":
    app.run(main)

"""The converter on a decathlon: original bytes kept, pixels' mean and std included; ours, Pillow, decoding alone."""

import contextlib
import io
import pathlib
import tarfile
import tempfile
import time
from functools import partial

from absl import app, flags

from benchmarks import common, data
from benchmarks.common import FLAGS, Claim, Contestant

flags.DEFINE_string("input_dir", None, "Folder of a decathlon with archives of domains; a drawn one if not given.")


def ours(input_dir):
    """All domains, from archives to records."""
    from data_prep.config import ConvertConfig
    from data_prep.conversion import convert
    from data_prep.plan import SPLITS
    from tfmdl.data import records

    def turn():
        with tempfile.TemporaryDirectory() as output_dir:
            config = ConvertConfig(
                source="decathlon",
                input_dir=pathlib.Path(input_dir),
                output_dir=pathlib.Path(output_dir),
                domains=(),
                splits=_splits(input_dir, SPLITS),
                workers=common.cores(),
                shard_mb=64,
                resize_shorter=None,
                seed=0,
                on_error="fail",
                overwrite=False,
            )
            started = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                convert(config)
            seconds = time.perf_counter() - started
            infos = [records.DatasetInfo.load(output_dir, name) for name in records.converted_domains(output_dir)]
            return sum(split.num_examples for info in infos for split in info.splits.values()) / seconds

    return turn


def pillow(input_dir):
    """What it takes at least in plain Python: each archive read, images decoded by Pillow, pixels summed; no output."""
    import concurrent.futures

    archives = sorted(pathlib.Path(input_dir, "data").glob("*.tar"))
    pool = concurrent.futures.ProcessPoolExecutor(common.cores())

    def turn():
        started = time.perf_counter()
        images = 0
        for archive in archives:
            with tarfile.open(archive) as opened:
                files = [opened.extractfile(member).read() for member in opened if member.isfile()]
            list(pool.map(pixel_sums, files, chunksize=64))
            images += len(files)
        return images / (time.perf_counter() - started)

    return turn


def pixel_sums(file):
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(file)) as image:
        pixels = np.asarray(image.convert("RGB"))
    return pixels.sum((0, 1)), np.square(pixels, dtype="uint32").sum((0, 1))


def decode_alone(input_dir):
    """TensorFlow's decoder on all cores on encoded images in memory, and nothing else."""
    import tensorflow as tf

    files = []
    for archive in sorted(pathlib.Path(input_dir, "data").glob("*.tar")):
        with tarfile.open(archive) as opened:
            files += [opened.extractfile(member).read() for member in opened if member.isfile()]
    dataset = tf.data.Dataset.from_tensor_slices(files)
    dataset = dataset.map(lambda file: tf.io.decode_jpeg(file, 3)[0, 0], tf.data.AUTOTUNE).batch(128).prefetch(2)

    def turn():
        started = time.perf_counter()
        for _ in dataset:
            pass
        return len(files) / (time.perf_counter() - started)

    return turn


def _splits(input_dir, splits):
    """Returns the splits that every domain has annotations of."""
    folder = pathlib.Path(input_dir, "annotations")
    return tuple(split for split in splits if any(folder.glob(f"*_{split}*.json")))


def main(_):
    with tempfile.TemporaryDirectory() as drawn:
        input_dir = FLAGS.input_dir
        if input_dir is None:
            input_dir = drawn
            data.write_decathlon(drawn, 20_000)
        common.compare(
            "convert",
            [
                Contestant("ours", partial(ours, input_dir)),
                Contestant("Pillow and NumPy, all cores, no output", partial(pillow, input_dir)),
                Contestant("JPEG decoding alone", partial(decode_alone, input_dir)),
            ],
            [
                Claim("convert.py, images/s", "ours", None, 5000),
                Claim("convert.py against Pillow", "ours", "Pillow and NumPy, all cores, no output", 1.0),
            ],
        )


if __name__ == "__main__":
    app.run(main)

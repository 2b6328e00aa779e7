"""The input pipeline: TFRecords to random, normalised float32 batches; ours, PyTorch's loader, and a copy of memory."""

import dataclasses
import tempfile
import time
from functools import partial

from absl import app, flags

from benchmarks import common, data
from benchmarks.common import FLAGS, Claim, Contestant

flags.DEFINE_string("data_dir", None, "Converted domains, the first ten of which are used; drawn ones if not given.")
flags.DEFINE_integer("batch", 128, "Images per batch.", lower_bound=1)
flags.DEFINE_integer("batches", 150, "Batches per turn.", lower_bound=1)

COPIES = 50  # per file: beginning and end of an epoch cost something, so one must outlast the measurement
TURNS = 20  # PyTorch's loader gets a list of images: as many as so many turns need


def domains_of(data_dir):
    from tfmdl.data import records

    return records.converted_domains(data_dir)[:10]


def ours(data_dir, batch, batches, mixed):
    """Batches of ten domains, mixed or taken for one."""
    from tfmdl.data import records
    from tfmdl.data.pipeline import Source, TrainPipeline
    from tfmdl.data.preprocessing import Preprocessing

    preprocessing = Preprocessing(72, 72, 64, 64, (0.48, 0.45, 0.4), (0.22, 0.22, 0.22))
    sources = [
        Source.of(data_dir, records.DatasetInfo.load(data_dir, domain), ("train",), preprocessing)
        for domain in domains_of(data_dir)
    ]
    if mixed:
        sources = [
            dataclasses.replace(source, paths=source.paths * COPIES, num_examples=source.num_examples * COPIES)
            for source in sources
        ]
    else:
        paths = tuple(path for source in sources for path in source.paths)
        total = sum(source.num_examples for source in sources)
        sources = [Source("all", paths * COPIES, total * COPIES, preprocessing)]
    iterator = iter(TrainPipeline(sources, batch, seed=0).epoch(0))

    def take():
        image = next(iterator)["image"]
        assert image.shape == (batch, 64, 64, 3)

    return _turns(take, batch, batches)


class Images:
    """The same images for PyTorch: the files in memory, decoded by Pillow, cropped and normalised."""

    def __init__(self, files):
        import numpy as np

        self.files = files
        self.mean = np.float32([0.48, 0.45, 0.4])
        self.std = np.float32([0.22, 0.22, 0.22])

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        import io
        import random

        import numpy as np
        import torch
        from PIL import Image

        file, label = self.files[index]
        with Image.open(io.BytesIO(file)) as opened:
            image = opened.convert("RGB")
        left = (image.width - 72) // 2 + random.randint(0, 8)
        top = (image.height - 72) // 2 + random.randint(0, 8)
        pixels = np.asarray(image.crop((left, top, left + 64, top + 64)), "float32") / 255
        return torch.from_numpy((pixels - self.mean) / self.std), label


def pytorch(data_dir, batch, batches):
    """PyTorch's DataLoader with two workers."""
    import torch

    torch.set_num_threads(1)
    files = _files(data_dir)
    needed = batch * batches * TURNS
    loader = torch.utils.data.DataLoader(
        Images(files * -(-needed // len(files))), batch, shuffle=True, num_workers=2, persistent_workers=True
    )
    iterator = iter(loader)

    return _turns(lambda: next(iterator), batch, batches)


def copy(batch, batches):
    """A copy of the bytes of the batches."""
    import numpy as np

    source = np.ones((batch, 64, 64, 3), "float32")
    target = np.empty_like(source)

    return _turns(lambda: np.copyto(target, source), batch, batches)


def decode_alone(data_dir, batch, batches):
    """TensorFlow's decoder on all cores on encoded images in memory, and nothing else."""
    import tensorflow as tf

    def decode(files):
        # Batch by batch and untuned, as ours: image by image the scheduling would be measured.
        return tf.map_fn(lambda file: tf.io.decode_jpeg(file, 3)[0, 0], files, fn_output_signature=tf.uint8)

    files = [file for file, _ in _files(data_dir)][: batch * 100]
    options = tf.data.Options()
    options.autotune.enabled = False
    dataset = tf.data.Dataset.from_tensor_slices(files).repeat().batch(batch)
    iterator = iter(dataset.map(decode, tf.data.AUTOTUNE).prefetch(2).with_options(options))

    return _turns(lambda: next(iterator), batch, batches)


def _turns(take, batch, batches):
    """Returns turns of `batches` calls of `take`, as images/s."""

    def turn():
        started = time.perf_counter()
        for _ in range(batches):
            take()
        return batch * batches / (time.perf_counter() - started)

    return turn


def _files(data_dir):
    import tensorflow as tf

    from tfmdl.data import records

    files = []
    for domain in domains_of(data_dir):
        paths = records.DatasetInfo.load(data_dir, domain).shard_paths(data_dir, "train")
        for record in tf.data.TFRecordDataset(paths):
            example = tf.train.Example.FromString(record.numpy()).features.feature
            encoded = example["image/encoded"].bytes_list.value[0]
            files.append((encoded, example["image/class/label"].int64_list.value[0]))
    return files


def main(_):
    with tempfile.TemporaryDirectory() as drawn:
        data_dir = FLAGS.data_dir
        if data_dir is None:
            data_dir = drawn
            for number in range(10):
                data.write_domain(drawn, f"drawn{number}", 0, files=data.jpegs(500, number))
        size = (FLAGS.batch, FLAGS.batches)
        common.compare(
            "pipeline",
            [
                Contestant("ours", partial(ours, data_dir, *size, mixed=False)),
                Contestant("ours, ten domains mixed", partial(ours, data_dir, *size, mixed=True)),
                Contestant("PyTorch DataLoader, two workers", partial(pytorch, data_dir, *size)),
                Contestant("JPEG decoding alone", partial(decode_alone, data_dir, *size)),
                Contestant("memory copy of the batches", partial(copy, *size)),
            ],
            [
                Claim("pipeline, images/s", "ours", None, 20_000),
                Claim("pipeline against PyTorch's DataLoader", "ours", "PyTorch DataLoader, two workers", 2.0),
                Claim("pipeline mixing ten domains against one", "ours, ten domains mixed", "ours", 0.9),
            ],
        )


if __name__ == "__main__":
    app.run(main)

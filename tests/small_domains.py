"""Small converted domains on disk, whose classes differ in colour, for the tests of pipelines, runs and evaluation."""

import hashlib
import io
import json
import pathlib

import numpy as np
import tensorflow as tf
from PIL import Image

from tfmdl.data import records

CLASSES = {"base": 3, "ucf101": 4, "tiny": 2}
SIZES = {"train": 40, "val": 13, "test": 9}
COLOURS = np.array([[200, 60, 60], [60, 190, 70], [70, 80, 210], [190, 180, 60]])


def encode(pixels, image_format="jpeg", **options):
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, image_format.upper(), **({"quality": 95} | options))
    return target.getvalue()


def picture(random, colour, height, width):
    coarse = np.clip(colour + random.normal(0, 25, (3, 3, 3)), 0, 255).astype("uint8")
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


def write_domain(data_dir, name, sizes=None, seed=0, test_labels=False, classes=None):
    """Writes a domain of two shards per split; the test split has no labels, which lie in `labels/` instead.

    The image ids are in no order, and neither they nor the category ids begin at 0. Every fifth image is a PNG, every
    seventh grey; a third has a shorter side of 18 pixels, the rest has to be resized for that.
    """
    random = np.random.default_rng([seed, *name.encode()])
    classes = classes or CLASSES[name]
    sizes = sizes or SIZES
    folder = pathlib.Path(data_dir, name)
    folder.mkdir(parents=True)
    ids = iter((1000 * len(name) + random.permutation(sum(sizes.values()))).tolist())
    category_ids = [70 + 10 * label for label in range(classes)]
    splits = {}
    for split, size in sizes.items():
        labelled = split != "test" or test_labels
        written, annotations = [], []
        for number in range(size):
            label, image_id = number % classes, next(ids)
            height, width = ((18, 18), (24, 20), (18, 23))[number % 3]
            pixels = picture(random, COLOURS[label % len(COLOURS)], height, width)
            if number % 7 == 6:
                pixels = pixels[..., label % 3]
            image_format = "png" if number % 5 == 4 else "jpeg"
            annotations.append({"image_id": image_id, "category_id": category_ids[label]})
            written.append(
                records.serialize_example(
                    encoded=encode(pixels, image_format),
                    image_format=image_format,
                    height=height,
                    width=width,
                    label=label if labelled else records.UNKNOWN_LABEL,
                    text=f"{name} {label}" if labelled else "",
                    image_id=image_id,
                )
            )
        splits[split] = records.SplitInfo(
            num_examples=size,
            labelled=labelled,
            per_class=(np.bincount(np.arange(size) % classes, minlength=classes) * labelled).tolist(),
            shards=[_write_shard(folder / f"{name}-{split}-{i:05d}-of-00002.tfrecord", written[i::2]) for i in (0, 1)],
        )
        if split == "test":
            labels = folder / "labels" / f"{name}_test.json"
            labels.parent.mkdir()
            labels.write_text(json.dumps({"annotations": random.permutation(annotations).tolist()}))
    records.DatasetInfo(
        name=name,
        label_names=[f"{name} {label}" for label in range(classes)],
        category_ids=category_ids,
        splits=splits,
        pixel_mean=[0.5, 0.45, 0.4],
        pixel_std=[0.25, 0.2, 0.3],
        source={"kind": "drawn"},
        inputs={},
        options={},
        skipped=[],
        tool_version="0",
    ).save(folder)


def _write_shard(path, examples):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(example)
    contents = path.read_bytes()
    return records.Shard(path.name, len(examples), len(contents), hashlib.sha256(contents).hexdigest())

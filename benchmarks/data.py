"""Data to measure on where no real data is given: drawn 72-pixel JPEGs of some 3 KB, as records or as a decathlon."""

import hashlib
import io
import itertools
import json
import pathlib
import tarfile

import numpy as np

CLASSES = 10


def jpegs(count: int, seed=0, side=72) -> list[bytes]:
    """Returns `count` JPEG files of `side`x`side` pixels, about as hard to decode as photographs of that size."""
    from PIL import Image

    random = np.random.default_rng(seed)
    files = []
    for _ in range(count):
        coarse = random.integers(0, 256, (12, 12, 3), dtype="uint8")
        picture = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        noisy = np.asarray(picture) + random.normal(0, 6, (side, side, 3))
        target = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype("uint8")).save(target, "JPEG", quality=75)
        files.append(target.getvalue())
    return files


def write_domain(data_dir, name: str, count: int, shards: int = 1, files=None) -> None:
    """Writes a converted domain; each shard of the train split holds the same `count` images."""
    import tensorflow as tf

    from tfmdl.data import records

    folder = pathlib.Path(data_dir, name)
    folder.mkdir(parents=True)
    files = files or jpegs(count)
    written = {}
    for split, images in (("train", files), ("val", files[:64])):
        examples = [
            records.serialize_example(
                encoded=image,
                image_format="jpeg",
                height=72,
                width=72,
                label=number % CLASSES,
                text=str(number % CLASSES),
                image_id=number,
            )
            for number, image in enumerate(images)
        ]
        copies = shards if split == "train" else 1
        shards_of_split = []
        for shard in range(copies):
            path = folder / f"{name}-{split}-{shard:05d}-of-{copies:05d}.tfrecord"
            with tf.io.TFRecordWriter(str(path)) as writer:
                for example in examples:
                    writer.write(example)
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            shards_of_split.append(records.Shard(path.name, len(examples), len(content), digest))
        per_class = [copies * len(images[label::CLASSES]) for label in range(CLASSES)]
        written[split] = records.SplitInfo(copies * len(examples), True, per_class, shards_of_split)
    records.DatasetInfo(
        name=name,
        label_names=[str(label) for label in range(CLASSES)],
        category_ids=list(range(CLASSES)),
        splits=written,
        pixel_mean=[0.5, 0.5, 0.5],
        pixel_std=[0.25, 0.25, 0.25],
        source={"kind": "drawn"},
        inputs={},
        options={},
        skipped=[],
        tool_version="0",
    ).save(folder)


def write_decathlon(folder, count: int, files=()) -> None:
    """Writes one domain of `count` training images, and a tenth as many to validate, as the decathlon's release.

    The images are `files` over and over, or else drawn, each another.
    """
    folder = pathlib.Path(folder)
    (folder / "annotations").mkdir(parents=True)
    (folder / "data").mkdir()
    categories = [{"id": 10_000_000 + label + 1, "name": str(label)} for label in range(CLASSES)]
    first_id = 10_200_000
    with tarfile.open(folder / "data" / "drawn.tar", "w") as archive:
        for split, size in (("train", count), ("val", count // 10)):
            images, annotations = [], []
            drawn = itertools.islice(itertools.cycle(files), size) if files else jpegs(size, seed=len(split))
            for number, file in enumerate(drawn):
                label = number % CLASSES
                member = tarfile.TarInfo(f"drawn/{split}/{label}/{number}.jpg")
                member.size = len(file)
                archive.addfile(member, io.BytesIO(file))
                images.append({"id": first_id, "file_name": f"data/{member.name}", "height": 72, "width": 72})
                annotations.append({"id": first_id, "image_id": first_id, "category_id": categories[label]["id"]})
                first_id += 1
            contents = {"images": images, "annotations": annotations, "categories": categories}
            (folder / "annotations" / f"drawn_{split}.json").write_text(json.dumps(contents))

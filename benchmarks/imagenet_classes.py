"""How often an imported network names the class of images, among all 1,000 of ImageNet.

    python -m benchmarks.imagenet_classes --data_dir=records --domain=mini-imagenet --image_sizes=96,224

The classes of the domain must have ImageNet's synset ids for names: "n01532829". --trunk names what `python -m
tfmdl.trunk` wrote; by default it is EfficientNet-Lite0. --cover says by how much more of an image is resized than is
seen of it: 1.0 shows all of a square one.
"""

import tfmdl.quiet  # isort: skip  # noqa: F401

import dataclasses
import time

import numpy as np
from absl import app, flags

from tfmdl import imported, packs
from tfmdl.data.pipeline import Source
from tfmdl.data.records import DatasetInfo
from tfmdl.evaluation.predict import predict_alone

FLAGS = flags.FLAGS

flags.DEFINE_string("data_dir", None, "Folder that data_prep/convert.py wrote.", required=True)
flags.DEFINE_string("domain", "mini-imagenet", "Domain whose classes are synset ids.")
flags.DEFINE_string("split", "val", "Which images.")
flags.DEFINE_string("trunk", "imagenet", "Folder of an imported network.")
flags.DEFINE_list("image_sizes", ["96", "224"], "Sides of the images, in pixels.")
flags.DEFINE_float("cover", 1.0, "Size that images are resized to, in sizes that are seen.", lower_bound=1.0)
TOP = 5


def main(argv):
    trunk = imported.imagenet() if FLAGS.trunk == "imagenet" else FLAGS.trunk
    model, (pack,) = packs.load_model([str(trunk)])
    info = DatasetInfo.load(FLAGS.data_dir, FLAGS.domain)
    class_of = {name: number for number, name in enumerate(pack.label_names)}
    unknown = [name for name in info.label_names if name not in class_of]
    if unknown:
        raise ValueError(f"{FLAGS.domain}: its class {unknown[0]!r} is none of the network's")
    classes = np.array([class_of[name] for name in info.label_names])
    tower = model.tower(pack.domain)
    for side in map(int, FLAGS.image_sizes):
        cover = round(side * FLAGS.cover)
        how = {name: side for name in ("height", "width", "train_height", "train_width")}
        seen = dataclasses.replace(pack.preprocessing, **how, cover_height=cover, cover_width=cover)
        started, places = time.perf_counter(), []
        for batch in predict_alone(tower, Source.of(FLAGS.data_dir, info, (FLAGS.split,), seen)):
            labels = classes[batch.labels]
            own = np.take_along_axis(batch.logits, labels[:, None], 1)
            places.append((batch.logits > own).sum(axis=1))  # how many classes are more probable than the right one
        places = np.concatenate(places)
        top = " and ".join(f"top-{count} {100 * np.mean(places < count):.1f}%" for count in (1, TOP))
        seconds = time.perf_counter() - started
        print(f"{side} pixels: {top} of {len(places):,} images, {len(pack.label_names):,} classes ({seconds:.0f} s)")


if __name__ == "__main__":
    app.run(main)

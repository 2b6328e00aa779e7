"""What each sharing method gives on a pretrained trunk, by the recipe finetune, on one GPU without TensorFlow.

    python -m benchmarks.finetune_methods --write --data_dir=records --arrays=arrays
    KERAS_BACKEND=jax python -m benchmarks.finetune_methods --arrays=arrays --trunk=runs/imagenet --out=results

The first command puts the encoded train and val images of each domain into one file, where TensorFlow is; the second
needs Keras and JAX alone. Model, recipe, optimiser and the way back are those of train.py. The order of images and the
windows come from numpy instead of tf.data, images are decoded and resized by Pillow, and the head is trained once for
each domain and seed, whatever the method. Domains take one process each, side by side. A line of JSON for each run goes
to `--out`, one file per domain; a run that is there is not repeated.
"""

import tfmdl  # isort: skip  # noqa: F401  (first, as in the command lines)

import dataclasses
import io
import json
import multiprocessing
import pathlib
import time
import types

import keras
import numpy as np
from absl import app, flags
from PIL import Image

from tfmdl import packs
from tfmdl.architecture import Architecture
from tfmdl.evaluation.accuracy import Tally
from tfmdl.model import MultiDomainClassifier, copy_variables
from tfmdl.recipes import HEAD, recipe_for
from tfmdl.training.optimization import compile_network
from tfmdl.training.way_back import go_back

FLAGS = flags.FLAGS

flags.DEFINE_bool("write", False, "Write --arrays from the records of --data_dir.")
flags.DEFINE_string("data_dir", None, "Folder that data_prep/convert.py wrote.")
flags.DEFINE_string("arrays", None, "Folder of the files that --write makes.", required=True)
flags.DEFINE_string("trunk", None, "Folder that python -m tfmdl.trunk wrote.")
flags.DEFINE_string("out", "bench-output/finetune_methods", "Folder of the results.")
flags.DEFINE_list("domains", [], "Of these; by default, of all that are there.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Of each method.")
flags.DEFINE_list("methods", [], "Keys of VARIANTS; by default all.")
flags.DEFINE_integer("epochs", None, "Instead of the recipe's.", lower_bound=1)
flags.DEFINE_integer("image_size", 96, "Side of the images.")
flags.DEFINE_integer("seconds", None, "Begin no run after so many seconds.")

VARIANTS = {
    "classifier_only": {},
    "pointwise_sharing": {},
    "individual": {},
    "low_rank rank=4": {"rank": 4},
    "depthwise_sharing": {},
    "low_rank rank=16": {"rank": 16},
    "low_rank rank=1": {"rank": 1},
    "piggyback": {},
}
SPLITS = ("train", "val")
BATCH = 256  # of evaluation


def write(domain):
    """Writes the encoded images and the labels of a converted domain."""
    import tensorflow as tf

    from tfmdl.data.records import FIELDS, DatasetInfo

    info = DatasetInfo.load(FLAGS.data_dir, domain)
    arrays = {"classes": np.array(info.num_classes)}
    for split in SPLITS:
        dataset = tf.data.TFRecordDataset(info.shard_paths(FLAGS.data_dir, split)).batch(info.num_examples([split]))
        examples = tf.io.parse_example(next(iter(dataset)), FIELDS)
        encoded = examples["image/encoded"].numpy().tolist()
        arrays[f"{split}/bytes"] = np.frombuffer(b"".join(encoded), "uint8")
        arrays[f"{split}/ends"] = np.cumsum([len(each) for each in encoded])
        arrays[f"{split}/labels"] = examples["image/class/label"].numpy().astype("int32")
    path = pathlib.Path(FLAGS.arrays, f"{domain}.npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    print(f"wrote {path}")


def read(path, side):
    """Returns the number of classes and, by split, pixels, uint8 (images, side, side, 3), and labels."""
    arrays = np.load(path)
    images = {}
    for split in SPLITS:
        encoded = np.split(arrays[f"{split}/bytes"], arrays[f"{split}/ends"][:-1])
        images[split] = np.stack([covered(each.tobytes(), side) for each in encoded]), arrays[f"{split}/labels"]
    return int(arrays["classes"]), images


def covered(encoded, side):
    """Decodes an image, resizes it to cover a square and returns the centre: `tfmdl.data.decode`, by Pillow."""
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    scale = max(side / image.width, side / image.height)
    if scale != 1:
        size = [max(side, round(length * scale)) for length in image.size]
        image = image.resize(size, Image.Resampling.BILINEAR)
    left, top = ((length - side) // 2 for length in image.size)
    return np.asarray(image)[top : top + side, left : left + side]


class Work:
    """One domain: its images, the features that the trunk has of them, and a head for each seed."""

    def __init__(self, path):
        self.domain = path.stem
        self.trunk = packs.read_trunk(FLAGS.trunk)
        recipe = recipe_for("finetune", self.domain, 2, 0, base=False)
        sizes = recipe.sizes(FLAGS.image_size, 32)
        self.side = sizes.train[0]
        self.slack = sizes.cover[0] - self.side
        self.classes, self.images = read(path, sizes.cover[0])
        self.features = None
        self.heads = {}

    def runs(self, variant, seeds):
        """Yields what comes of training the domain once for each seed. The graph is traced and compiled for the first.

        Args:
            variant: A key of `VARIANTS`.
            seeds: Asked for the next seed when a run has ended.
        """
        method = variant.split()[0]
        recipe = recipe_for("finetune", self.domain, self.classes, 0, base=False, method=method)
        if FLAGS.epochs and recipe is not HEAD:
            recipe = dataclasses.replace(recipe, schedule=recipe.schedule.scaled(FLAGS.epochs))
        model = None
        for seed in seeds:
            started = time.perf_counter()
            keras.utils.set_random_seed(seed)
            begun = self.model(method, VARIANTS[variant])
            self.set_head(begun, seed)
            if model is None:
                model = begun
                model.train_only([self.domain], keeps_statistics=True)
                tower = model.tower(self.domain, recipe.dropout)
                steps = self.training(recipe, seed).steps_per_epoch
                compile_network(tower, model, {self.domain: recipe}, steps, "auto")
            else:
                copy_variables(begun.variables, model.variables)
                for variable in tower.optimizer.variables:
                    variable.assign(np.zeros(variable.shape, variable.dtype))
            found, note = (self.evaluate(tower), "") if recipe is HEAD else self.trained(tower, recipe, seed)
            own = (v for v in tower.trainable_variables if "head/" not in v.path)
            yield {
                "domain": self.domain,
                "method": variant,
                "seed": seed,
                "epochs": recipe.schedule.epochs,
                "correct": found.correct,
                "images": found.total,
                "loss": found.loss,
                "own_parameters": sum(int(np.prod(variable.shape)) for variable in own),
                "note": note,
                "seconds": round(time.perf_counter() - started, 1),
            }

    def trained(self, tower, recipe, seed):
        """Trains a tower, goes back as far as is good, and returns what was found, and a note."""
        start = {variable.path: np.asarray(variable) for variable in tower.trainable_variables}
        tower.fit(self.training(recipe, seed), verbose=0, shuffle=False)
        job = types.SimpleNamespace(network=tower, base=self.domain, val_sources=[self.domain])
        at_end, notes = self.evaluate(tower), []
        found = go_back(job, start, {self.domain: at_end}, lambda: {self.domain: self.evaluate(tower)}, notes.append)
        return found[self.domain], f"at the end {at_end.accuracy:.4f}; {notes[0]}"

    def model(self, method, options):
        same = self.trunk.architecture
        fields = {"backbone": same.backbone, "network": same.network.to_json(), "method": method, **options}
        model = MultiDomainClassifier({self.domain: self.classes}, Architecture.from_json(fields))
        packs.initialize(model, self.trunk)
        return model

    def set_head(self, model, seed):
        """Gives a model the head that features of the trunk train first of all."""
        network = model.classifier(self.domain, HEAD.dropout)
        if self.features is None:
            extractor = model.extractor(self.domain)
            centre = [self.normalized(self.windows(split)) for split in SPLITS]
            self.features = dict(zip(SPLITS, (_predicted(extractor, images) for images in centre), strict=True))
        if seed not in self.heads:
            values, labels = self.features["train"], self.images["train"][1]
            batches = Batches(lambda step, rows: (values[rows], labels[rows]), len(labels), HEAD, seed)
            compile_network(network, model, {self.domain: HEAD}, batches.steps_per_epoch, "auto")
            network.fit(batches, verbose=0, shuffle=False)
            self.heads[seed] = network.get_weights()
        network.set_weights(self.heads[seed])

    def windows(self, split, rows=slice(None), offsets=None):
        """Returns windows of images, by default the centre: (images, side, side, 3) uint8."""
        covers = self.images[split][0][rows]
        if offsets is None:
            offsets = np.full((len(covers), 2), self.slack // 2)
        side = self.side
        pairs = zip(covers, offsets, strict=True)
        return np.stack([cover[top : top + side, left : left + side] for cover, (top, left) in pairs])

    def training(self, recipe, seed):
        """Returns the batches of a run: windows by chance, some of them mirrored."""
        labels = self.images["train"][1]

        def batch(step, rows):
            random = np.random.default_rng([seed, step, 1])
            pixels = self.windows("train", rows, random.integers(self.slack + 1, size=(len(rows), 2)))
            if recipe.flips:
                mirrored = random.random(len(rows)) < 0.5
                pixels[mirrored] = pixels[mirrored, :, ::-1]
            return self.normalized(pixels), labels[rows]

        return Batches(batch, len(labels), recipe, seed)

    def normalized(self, pixels):
        mean, std = (np.array(getattr(self.trunk.preprocessing, name), "float32") for name in ("mean", "std"))
        return (pixels.astype("float32") / 255 - mean) / std

    def evaluate(self, tower):
        tally = Tally(self.classes)
        tally.add(_predicted(tower, self.normalized(self.windows("val"))), self.images["val"][1])
        return tally.result()


def _predicted(network, images):
    """Returns what a network gives for images, by batches of one size."""
    parts = []
    for first in range(0, len(images), BATCH):
        batch = images[first : first + BATCH]
        parts.append(np.asarray(network.predict_on_batch(np.resize(batch, (BATCH, *batch.shape[1:]))))[: len(batch)])
    return np.concatenate(parts)


class Batches(keras.utils.PyDataset):
    """All batches of a run, one after the other, in the order that train.py has them in.

    Args:
        batch: Called with the number of a step and the rows of its images, gives inputs and labels.
        images: How many there are.
        recipe: Says how many are in a batch, and the epochs.
        seed: Of the order.
    """

    def __init__(self, batch, images, recipe, seed):
        super().__init__()
        self.batch = batch
        self.steps_per_epoch = -(-images // recipe.batch_size)
        orders = (np.random.default_rng([seed, epoch]).permutation(images) for epoch in range(recipe.schedule.epochs))
        self.rows = np.concatenate([np.resize(order, (self.steps_per_epoch, recipe.batch_size)) for order in orders])

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, step):
        return self.batch(step, self.rows[step])


def work_on(path, ends):
    """Does all runs of one domain."""
    out = pathlib.Path(FLAGS.out, f"{path.stem}.jsonl")
    done = [json.loads(line) for line in out.read_text().splitlines()] if out.is_file() else []
    there = {(each["method"], each["seed"]) for each in done}
    work = Work(path)
    for variant in FLAGS.methods or VARIANTS:
        missing = (seed for seed in map(int, FLAGS.seeds) if (variant, seed) not in there and time.time() < ends)
        for result in work.runs(variant, missing):
            with out.open("a") as file:
                file.write(json.dumps(result) + "\n")
            percent = 100 * result["correct"] / result["images"]
            print(f"{work.domain} {variant} {result['seed']}: {percent:.1f}%, {result['seconds']} s; {result['note']}")


def in_process(argv, path, ends):
    FLAGS(argv)
    work_on(path, ends)


def main(argv):
    names = FLAGS.domains
    needed = "data_dir" if FLAGS.write else "trunk"
    if not FLAGS[needed].value:
        raise app.UsageError(f"--{needed}: name a folder")
    unknown = [method for method in FLAGS.methods if method not in VARIANTS]
    if unknown:
        raise app.UsageError(f"--methods must be of {', '.join(VARIANTS)}; received {unknown[0]!r}")
    if FLAGS.write:
        there = sorted(pathlib.Path(FLAGS.data_dir).glob("*/dataset_info.json"))
        for name in names or [path.parent.name for path in there]:
            write(name)
        return
    paths = [path for path in sorted(pathlib.Path(FLAGS.arrays).glob("*.npz")) if not names or path.stem in names]
    pathlib.Path(FLAGS.out).mkdir(parents=True, exist_ok=True)
    ends = time.time() + FLAGS.seconds if FLAGS.seconds else float("inf")
    given = ["", *(flag.serialize() for flag in FLAGS.flags_by_module_dict()[argv[0]] if flag.present)]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=in_process, args=(given, path, ends)) for path in paths]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError("a domain's process has ended early: see above")


if __name__ == "__main__":
    app.run(main)

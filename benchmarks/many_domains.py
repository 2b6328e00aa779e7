"""What very many domains cost in one model: to compose, export, load and ask.

    python -m benchmarks.many_domains --domains=100,1000 --width=16

Trunk and packs of pointwise sharing are written with drawn weights, ten classes each. Composing and exporting take one
process, serving another, as they would be. Everything lies below --out and goes when it is done.
"""

import tfmdl.quiet  # isort: skip  # noqa: F401

import json
import multiprocessing
import pathlib
import resource
import shutil
import statistics
import tempfile
import time

from absl import app, flags
from rich.console import Console
from rich.table import Table

FLAGS = flags.FLAGS

flags.DEFINE_list("domains", ["10", "100", "1000"], "Numbers of domains to try.")
flags.DEFINE_integer("width", 16, "Channels after the stem.", lower_bound=2)
flags.DEFINE_integer("blocks_per_stage", 4, "Residual blocks in each of the three stages.", lower_bound=1)
flags.DEFINE_integer("image_size", 32, "Side of the images.", lower_bound=8)
flags.DEFINE_integer("calls", 20, "Requests whose median is the latency.", lower_bound=1)
flags.DEFINE_string("out", "bench-output", "Folder to write many_domains.json into.")

CLASSES = 10
BATCHES = (1, 32)

ROWS = {
    "packs_mb": "trunk and packs on disk, MB",
    "compose_s": "compose the model, s",
    "export_s": "export it, checked, s",
    "export_mb": "export on disk, MB",
    "graph_mb": "of which graph, MB",
    "export_gb": "memory of the exporting process, GB",
    "load_s": "load the export, s",
    "first_s": "first request, s",
    **{f"batch_{rows}_ms": f"request of {rows}, each of another domain, ms" for rows in BATCHES},
    "serve_gb": "memory of the serving process, GB",
}


def write_packs(folder, count, width, blocks_per_stage, image_size):
    """Writes a trunk and `count` packs with drawn weights."""
    import numpy as np

    from tfmdl import packs
    from tfmdl.architecture import Architecture
    from tfmdl.data.preprocessing import Preprocessing
    from tfmdl.model import MultiDomainClassifier

    rng = np.random.default_rng(0)
    names = [f"domain{number:04d}" for number in range(count)]
    architecture = Architecture(width=width, blocks_per_stage=blocks_per_stage)
    model = MultiDomainClassifier(dict.fromkeys(names, CLASSES), architecture)
    for variable in model.variables:
        variable.assign(variable + 0.1 * rng.normal(size=variable.shape) * ("moving_var" not in variable.path))
    fingerprint = packs.write_trunk(folder / "trunk.safetensors", model, names[0])
    size = (image_size, image_size)
    seen = Preprocessing(*size, *size, (0.5,) * 3, (0.25,) * 3, *size)
    for name in names:
        packs.write_pack(
            folder / "packs" / f"{name}.safetensors",
            model,
            name,
            label_names=[f"class {label}" for label in range(CLASSES)],
            category_ids=list(range(CLASSES)),
            preprocessing=seen,
            trunk_fingerprint=fingerprint,
            accuracy=None,
            base=name == names[0],
        )


def export(folder):
    """Composes the packs in `folder`, exports them, and returns what that took."""
    from tfmdl.serving.source import from_runs
    from tfmdl.serving.writer import write_export

    started = time.perf_counter()
    source = from_runs(trunk=str(folder), pack_paths=sorted(map(str, (folder / "packs").iterdir())))
    composed = time.perf_counter()
    done = write_export(source, folder / "served")
    return {
        "packs_mb": _megabytes(folder / "trunk.safetensors") + _megabytes(folder / "packs"),
        "compose_s": composed - started,
        "export_s": time.perf_counter() - composed,
        "export_mb": _megabytes(done.path),
        "graph_mb": _megabytes(done.path / "saved_model.pb"),
        "export_gb": _peak(),
    }


def serve(folder, count, image_size, calls):
    """Loads the export in `folder`, asks it, and returns what that took."""
    import numpy as np
    import tensorflow as tf

    started = time.perf_counter()
    classify = tf.saved_model.load(str(folder / "served" / "1")).signatures["serve_images_uint8"]
    took = {"load_s": time.perf_counter() - started}
    rng = np.random.default_rng(0)

    def ask(rows):
        image = tf.constant(rng.integers(0, 256, (rows, image_size, image_size, 3), "uint8"))
        domain_id = tf.constant(rng.permutation(count)[np.arange(rows) % count], tf.int32)
        started = time.perf_counter()
        classify(image=image, domain_id=domain_id)["class_id"].numpy()
        return time.perf_counter() - started

    took["first_s"] = ask(1)
    for rows in BATCHES:
        ask(rows)
        took[f"batch_{rows}_ms"] = 1000 * statistics.median(ask(rows) for _ in range(calls))
    return {**took, "serve_gb": _peak()}


def _megabytes(path):
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _in_a_process(function, *arguments):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def measure(count):
    """Returns what a model of `count` domains costs."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="many_domains-", dir=FLAGS.out))
    try:
        _in_a_process(write_packs, folder, count, FLAGS.width, FLAGS.blocks_per_stage, FLAGS.image_size)
        return {
            **_in_a_process(export, folder),
            **_in_a_process(serve, folder, count, FLAGS.image_size, FLAGS.calls),
        }
    finally:
        shutil.rmtree(folder)


def main(argv):
    pathlib.Path(FLAGS.out).mkdir(parents=True, exist_ok=True)
    counts = [int(count) for count in FLAGS.domains]
    costs = {}
    for count in counts:
        costs[count] = measure(count)
        pathlib.Path(FLAGS.out, "many_domains.json").write_text(json.dumps(costs, indent=1))
    table = Table("domains", *map(str, counts), title=f"ResNet-26, width {FLAGS.width}, {FLAGS.image_size} pixels")
    for key, what in ROWS.items():
        table.add_row(what, *(f"{costs[count][key]:,.1f}" for count in counts))
    Console(soft_wrap=True).print(table)


if __name__ == "__main__":
    app.run(main)

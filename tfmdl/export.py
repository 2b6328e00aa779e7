"""Writes a SavedModel for TensorFlow Serving: `python -m tfmdl.export --workdir=RUN --export_dir=BASE`.

BASE/<version>/ answers for all domains of the model; `tfmdl.serving.signatures` says with what. An export is
written aside, loaded back, compared with the live model, and only then renamed into place.
"""

import tfmdl.quiet  # isort: skip  # noqa: F401

import dataclasses
import os
import pathlib
import shlex
import tempfile

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags, logging

from tfmdl.cli import report_errors
from tfmdl.data.decode import decode_window, normalize
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import Pack, load_model
from tfmdl.serving.signatures import SERVING_DEFAULT, build_module, mixable, pixel_names

TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class Export:
    """A finished export.

    Attributes:
        path: Folder of the version.
        difference: Largest difference of its probabilities from the live model's, on random images.
        signatures: By name: inputs and outputs, each a `tf.TensorSpec` by name.
    """

    path: pathlib.Path
    difference: float
    signatures: dict[str, tuple[dict, dict]]


def export(
    model: MultiDomainClassifier, packs: list[Pack], export_dir: str | os.PathLike, version: int | None = None
) -> Export:
    """Writes one version of a served model.

    Args:
        model: The model, float32.
        packs: The packs of its domains, in their order.
        export_dir: Folder of all versions.
        version: By default one more than the newest.

    Raises:
        FileExistsError: if there is such a version.
        ValueError: if the export does not answer as the live model does, or two domains want one signature.
    """
    export_dir = pathlib.Path(export_dir).absolute()
    export_dir.mkdir(parents=True, exist_ok=True)
    taken = [int(entry.name) for entry in export_dir.iterdir() if entry.name.isdecimal()]
    version = version or max(taken, default=0) + 1
    path = export_dir / str(version)
    if version in taken:
        raise FileExistsError(f"--version: {path} exists already; versions are never overwritten")
    module, signatures = build_module(model, packs)
    # TensorFlow Serving looks at folders with a whole number as their name, and at no others.
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=export_dir) as aside:
        written = pathlib.Path(aside, str(version))
        tf.saved_model.save(module, str(written), signatures=signatures)
        loaded = tf.saved_model.load(str(written))
        difference = check(loaded.signatures, model, packs)
        os.rename(written, path)
    specs = {
        name: (signature.structured_input_signature[1], signature.structured_outputs)
        for name, signature in loaded.signatures.items()
    }
    return Export(path, difference, specs)


def check(signatures, model: MultiDomainClassifier, packs: list[Pack]) -> float:
    """Compares a loaded export with the live model on random images of every domain.

    Args:
        signatures: Of the loaded export.
        model, packs: As in `export`.

    Returns:
        The largest difference of probabilities.

    Raises:
        ValueError: if that is above `TOLERANCE`, or a label is another.
    """
    rng = np.random.default_rng(0)
    largest = 0.0
    files, domains, expected = [], [], []
    for pack in packs:
        width, height = rng.integers(20, 150, 2)
        image = rng.integers(0, 256, (height, width, 3), "uint8")
        encoded = [tf.io.encode_jpeg(image).numpy(), tf.io.encode_png(image).numpy()]
        of_jpeg, of_png = (
            (pack, _live_probabilities(model, pack, file, image_format))
            for file, image_format in zip(encoded, ("jpeg", "png"), strict=True)
        )
        if pack in mixable(packs):
            files += encoded
            domains += [pack.domain] * 2
            expected += [of_jpeg, of_png]
        for name in pixel_names(pack.domain):
            (spec,) = signatures[name].structured_input_signature[1].values()
            answer = signatures[name](image=tf.cast(image[None], spec.dtype))
            largest = max(largest, _difference(name, answer, [of_png]))
    answer = signatures[SERVING_DEFAULT](image_bytes=tf.constant(files), domain=tf.constant(domains))
    largest = max(largest, _difference(SERVING_DEFAULT, answer, expected))
    if not largest <= TOLERANCE:
        raise ValueError(
            f"the export does not answer as the model does: probabilities differ by {largest:.2g}; "
            f"expected at most {TOLERANCE:g}"
        )
    return largest


def _live_probabilities(model, pack, encoded, image_format):
    """Returns the probabilities of one image file, (classes,), computed as evaluation does."""
    size = (pack.preprocessing.height, pack.preprocessing.width)
    height, width, _ = tf.io.decode_image(encoded).shape
    image = decode_window(encoded, tf.constant(image_format), height, width, size, size, tf.constant([0, 0]))
    image = normalize(image[None], pack.preprocessing.mean, pack.preprocessing.std)
    logits = model.head(model.features(image, pack.domain), domain=pack.domain)
    return np.asarray(keras.ops.softmax(logits)[0])


def _difference(name, answer, expected):
    """Returns the largest difference of the probabilities of `answer` from the rows of `expected`."""
    largest = 0.0
    rows = zip(*(answer[key].numpy() for key in ("label", "probability", "class_id")), expected, strict=True)
    for labels, probability, class_id, (pack, values) in rows:
        own = class_id >= 0
        if [label.decode() for label in labels[own]] != [pack.label_names[index] for index in class_id[own]]:
            raise ValueError(f"signature {name!r}: labels of domain {pack.domain!r} do not fit the class ids")
        best = np.sort(values)[::-1][: len(class_id)]
        if own.sum() != len(best):
            raise ValueError(f"signature {name!r}: {own.sum()} of {len(best)} classes of domain {pack.domain!r}")
        for wanted in (values[class_id[own]], best):
            largest = max(largest, float(np.abs(probability[own] - wanted).max()))
    return largest


def summary(done: Export) -> str:
    """Returns what was made, and what to type next."""
    size = sum(file.stat().st_size for file in done.path.rglob("*") if file.is_file())
    rows = [("signature", "inputs", "outputs")]
    for name, parts in done.signatures.items():
        rows.append((name, *(", ".join(map(_described, part, part.values())) for part in parts)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    mount = shlex.quote(f"{done.path.parent}:/models/tfmdl")
    return f"""{table}

Wrote {done.path} ({size / 1e6:.1f} MB).
Its probabilities differ from the live model's by at most {done.difference:.1e}.

Serve it:
  docker run --rm -p 8500:8500 -p 8501:8501 -v {mount} -e MODEL_NAME=tfmdl tensorflow/serving
Try it in Python:
  import tensorflow as tf
  classify = tf.saved_model.load({str(done.path)!r}).signatures[{SERVING_DEFAULT!r}]
  print(classify(image_bytes=tf.constant([open("IMAGE", "rb").read()]), domain=tf.constant(["DOMAIN"])))"""


def _described(name, spec):
    sides = ["?" if side is None else str(side) for side in spec.shape]
    return f"{name} {spec.dtype.name} ({', '.join(sides)}{',' if len(sides) == 1 else ''})"


def define_flags():
    # Not at import: other command lines have flags of these names.
    flags.DEFINE_list("workdir", [], "Runs of train.py, by commas; they must share one trunk.")
    flags.DEFINE_string("trunk", None, "Instead of --workdir: a run or file with the trunk.")
    flags.DEFINE_list("packs", [], "With --trunk: runs or files with the domains' packs.")
    flags.DEFINE_list("expert_packs", [], "Runs or packs that soft_sharing mixes, if they have moved.")
    flags.DEFINE_string("export_dir", None, "Folder of all versions of the served model.", required=True)
    flags.DEFINE_integer("version", None, "Version to write; by default the newest plus one.", lower_bound=1)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}: flags are --name=value")
    values = flags.FLAGS
    # Saving tells of every variable that it renames.
    logging.set_verbosity(logging.WARNING)
    tf.get_logger().setLevel("WARNING")
    with report_errors():
        model, packs = load_model(values.workdir, values.trunk, values.packs, expert_paths=values.expert_packs)
        print(f"Exporting {', '.join(model.domains)}: this takes some seconds a domain ...\n", flush=True)
        print(summary(export(model, packs, values.export_dir, values.version)))


if __name__ == "__main__":
    define_flags()
    app.run(main)

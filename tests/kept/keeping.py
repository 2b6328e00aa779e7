"""What a release keeps for later ones to read: `python tests/kept/keeping.py` writes it, test_kept.py reads it.

Beside this file there is a folder per release, and in it

    runs.tar.xz     trunks, and a pack of each method
    run.tar.xz      a converted domain, and a run on it that was stopped in the middle of an epoch
    export.tar.xz   an export of two domains
    answers.json    what they answer

Images are drawn, and weights as they are at first, or near: nothing was learned.
"""

import tfmdl.quiet  # isort: skip

import dataclasses
import io
import json
import pathlib
import sys
import tarfile
import tempfile

import keras
import numpy as np
import tensorflow as tf

import tfmdl
from tfmdl.architecture import Architecture
from tfmdl.config import load_config
from tfmdl.files import write_json
from tfmdl.packs import load_model
from tfmdl.serving.source import from_runs
from tfmdl.serving.writer import write_export
from tfmdl.sharing import METHODS, options_of
from tfmdl.training.loop import train
from tfmdl.training.run_folder import RunFolder
from tfmdl.training.settings import configure

HERE = pathlib.Path(__file__).parent
SIZE = 16
IMAGES = np.sin(np.arange(3 * SIZE * SIZE * 3, dtype="float64")).reshape(3, SIZE, SIZE, 3).astype("float32")
PIXELS = (37 * np.arange(4 * 18 * 18 * 3) % 256).reshape(4, 18, 18, 3).astype("uint8")  # as large as packs say
DOMAIN_IDS = [0, 1, 1, 0]
SIGNATURE = "serve_images_uint8"
STOPPED_AT = 3
# Requests are most of an export, and only TensorFlow Serving reads them.
LEFT_OUT = (".lock", "tf_serving_warmup_requests")


def answers_of_pack(folder: pathlib.Path, method: str) -> list[list[float]]:
    """Returns the logits of IMAGES by the pack of a method, read from the folder of runs."""
    experts = [str(folder / METHODS[method].experts_by)] if METHODS[method].experts_by else None
    trunk = folder / METHODS[method].default_backbone
    model, (pack,) = load_model(trunk=str(trunk), pack_paths=[str(folder / method)], expert_paths=experts)
    return logits(model, pack.domain)


def answers_of_keras(folder: pathlib.Path) -> list[list[float]]:
    """Returns the logits of IMAGES by what was made of a network of Keras, read from the folder of runs."""
    return logits(tfmdl.load(folder / "keras").model, "added")


def logits(model, domain: str) -> list[list[float]]:
    """Returns the logits of IMAGES, of a domain."""
    return np.asarray(model.head(model.features(IMAGES, domain), domain=domain)).tolist()


def answers_of_export(version: pathlib.Path) -> dict[str, list]:
    """Returns what an export answers to PIXELS."""
    signature = tf.saved_model.load(str(version)).signatures[SIGNATURE]
    found = signature(image=tf.constant(PIXELS), domain_id=tf.constant(DOMAIN_IDS))
    return {name: value.numpy().tolist() for name, value in found.items()}


def unpacked(name: str, release: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Unpacks what a release keeps into a folder, which it returns."""
    with tarfile.open(release / f"{name}.tar.xz") as archive:
        archive.extractall(folder)  # as written here: it is ours
    return folder


def _write(release: pathlib.Path) -> None:
    for helpers in (HERE.parent, HERE.parent / "packs"):
        sys.path.insert(0, str(helpers))
    release.mkdir()
    answers = {"packs": {}}
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        _write_runs(folder / "runs")
        for method in METHODS:
            answers["packs"][method] = answers_of_pack(folder / "runs", method)
        answers["keras"] = answers_of_keras(folder / "runs")
        answers["run"] = _write_run(folder / "run")
        parts = [folder / "runs" / name for name in ("resnet26_separable", "pointwise_sharing")]
        source = from_runs(trunk=str(parts[0]), pack_paths=list(map(str, parts)))
        export = write_export(source, folder / "export")
        answers["export"] = answers_of_export(export.path)
        for name in ("runs", "run", "export"):
            _archive(folder / name, release / f"{name}.tar.xz")
    (release / "answers.json").write_text(json.dumps(answers) + "\n")


def _write_runs(folder):
    from fleets import moved, save_pack, save_trunk

    from tfmdl.model import MultiDomainClassifier
    from tfmdl.packs import initialize, read_packs, read_trunk

    for backbone, method in (("resnet26_separable", "pointwise_sharing"), ("resnet26", "individual")):
        save_trunk(folder / backbone, Architecture(method, backbone, width=2, blocks_per_stage=1))
    for seed, (name, method) in enumerate(METHODS.items()):
        trunk = read_trunk(folder / method.default_backbone)
        experts = read_packs(folder / method.experts_by) if method.experts_by else []
        names = ("base", "added") if experts else ()
        architecture = Architecture(name, None, 2, 1, options_of(name, {}))
        model = MultiDomainClassifier({"added": 2}, architecture, experts=names)
        initialize(model, trunk, experts)
        path = folder / name / "packs" / "added.safetensors"
        # No path of the machine that this is written on.
        named = [dataclasses.replace(pack, path=f"{method.experts_by}/packs/added.safetensors") for pack in experts]
        save_pack(path, moved(model, ("added",), seed), "added", trunk.fingerprint, experts=named)
    image = keras.Input((SIZE, SIZE, 3))
    features = keras.layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="stem")(image)
    features = keras.layers.ReLU(6.0, name="relu")(keras.layers.BatchNormalization(name="norm")(features))
    features = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(features)
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(features)
    network = keras.Model(image, keras.layers.Dense(3, name="top")(pooled))
    model = tfmdl.multi_domain(network, {"base": 3, "added": 2}, method="pointwise_sharing")
    labels = {"base": ["a", "b", "c"], "added": ["d", "e"]}
    tfmdl.save_packs(moved(model, ("base", "added"), 0), folder / "keras", labels, image_size=SIZE)


def _write_run(folder):
    """Writes a domain and a run that was stopped; returns what its checkpoint answers."""
    from small_domains import write_domain

    keras.utils.set_random_seed(0)
    write_domain(folder / "data", "tiny", {"train": 8, "val": 2})
    config = configure(
        ["tiny"],
        data_dir=folder / "data",
        workdir=folder / "stopped",
        width=2,
        blocks_per_stage=1,
        image_size=SIZE,
        recipe="quick",
        epochs=2,
        batch_size=4,
        checkpoint_every=1,
        tensorboard=False,
    )
    train(dataclasses.replace(config, max_steps=STOPPED_AT))
    model, _ = load_model([str(folder / "stopped")])
    left = RunFolder(folder / "stopped")
    first, _ = left.metrics.read_text().splitlines(keepends=True)  # as a kill leaves it in the second epoch
    left.metrics.write_text(first)
    for path in (left.trunk, *left.packs.iterdir(), *sorted(left.path.glob("checkpoints/*"))[:-1]):
        path.unlink()
    described = json.loads(left.config.read_text())
    described["run"] = dataclasses.replace(load_config(left.path), max_steps=None, data_dir="", workdir="").to_json()
    write_json(left.config, described)
    return logits(model, "tiny")


def _archive(folder, path):
    with tarfile.open(path, "w:xz", preset=9) as archive:
        files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name not in LEFT_OUT)
        for file in files:
            member = tarfile.TarInfo(str(file.relative_to(folder)))
            member.size = file.stat().st_size
            archive.addfile(member, io.BytesIO(file.read_bytes()))


if __name__ == "__main__":
    _write(HERE / tfmdl.__version__)

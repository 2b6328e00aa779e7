"""Takes networks of keras.applications all the way as trunks, and compares them with themselves.

    python -m benchmarks.applications
    python -m benchmarks.applications --networks=MobileNetV2 --litert --openvino
    KERAS_BACKEND=jax python -m benchmarks.applications --networks=MobileNetV2

Weights and moving statistics are random. Each network is saved, imported by `python -m tfmdl.trunk`, and two domains
are added, the second with values of its own. Prints by how much apart; features relative to the greatest difference
between images:

    rounding  features of the network itself, called as a graph, from those when it is called op by op
    tower     features of the imported trunk, from those of the network itself
    domain    the same of a domain that pointwise sharing has just added
    mixed     features of a batch that mixes both domains, from those of each domain alone
    pack      features of the packs that were written, read and composed again, from those before
    export    probabilities of a SavedModel of both domains, from the live model's
    folded    the same with --fold: what an export of one domain is served as

--networks=A,B chooses, --train names the one that takes three steps by `fit`. --litert and --openvino add columns:
probabilities in LiteRT and OpenVINO. Exports need TensorFlow; on JAX they are left out. Fails where something is more
than 1e-4 apart, and of packs more than nothing.
"""

import tfmdl.quiet  # isort: skip

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
from absl import app, flags, logging

import tfmdl
from tfmdl import packs, pretrained

FLAGS = flags.FLAGS

NETWORKS = ["MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0", "Xception", "ConvNeXtTiny"]
flags.DEFINE_list("networks", NETWORKS, "Names of keras.applications.")
flags.DEFINE_string("train", "MobileNetV2", "Of these the one that is trained, too.")
flags.DEFINE_integer("image_size", 64, "Side of the images; some networks want more.", lower_bound=32)
flags.DEFINE_bool("export", True, "Export them, too.")
flags.DEFINE_bool("litert", False, "Also as LiteRT.")
flags.DEFINE_bool("openvino", False, "Also in OpenVINO.")
SMALLEST = {"Xception": 96}
LIMIT = {"pack": 0.0}
DOMAINS = {"a": 5, "b": 3}
IDS = np.array([0, 1, 1, 0], "int32")
OPENVINO = pathlib.Path(__file__).with_name("openvino_latency.py")


def main(argv):
    logging.set_verbosity(logging.WARNING)  # saving tells of every variable that it renames
    wrong = []
    for name in FLAGS.networks:
        started = time.perf_counter()
        side = max(FLAGS.image_size, SMALLEST.get(name, 0))
        print(f"{name}, {side} pixels:", end="", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            for what, apart in checked(name, side, pathlib.Path(folder)):
                print(f" {what} {apart:.1e}", end="", flush=True)
                if not apart <= LIMIT.get(what, 1e-4):
                    wrong.append(f"{name} {what}")
        print(f" ({time.perf_counter() - started:.0f} s)", flush=True)
    sys.exit(f"too far apart: {', '.join(wrong)}" if wrong else 0)


def checked(name, side, folder):
    """Yields what was compared, and by how much it is apart."""
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    original = getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=10)
    images = draw(rng, 16, side)
    randomize(original, images, rng)
    images = images[: len(IDS)]
    features, _, _ = pretrained.split(original)
    wanted = array(features(images))
    yield "rounding", relative(features.predict(images, verbose=0), wanted)

    original.save(folder / "network.keras")
    command = [sys.executable, "-m", "tfmdl.trunk", f"--source={folder / 'network.keras'}"]
    subprocess.run([*command, f"--workdir={folder / 'trunk'}"], check=True, stdout=subprocess.DEVNULL)
    trunk, _ = packs.load_model([str(folder / "trunk")])
    yield "tower", relative(trunk.features(images, "imagenet"), wanted)

    model = tfmdl.multi_domain(original, DOMAINS)
    yield "domain", relative(model.features(images, "b"), wanted)
    for variable in model.variables:
        if variable.path.endswith("/b"):
            variable.assign(array(variable) * rng.uniform(0.8, 1.2, variable.shape))
        if variable.path.startswith("head/kernel"):  # so that its logits are around 1
            variable.assign(rng.normal(0, 1, variable.shape) / np.linalg.norm(wanted[0]))
    alone = {domain: array(model.features(images, domain)) for domain in DOMAINS}
    mixed = array(model.features(images, IDS))
    yield "mixed", max(
        relative(mixed[index == IDS], alone[domain][index == IDS]) for index, domain in enumerate(DOMAINS)
    )

    labels = {domain: [f"{domain}{number}" for number in range(count)] for domain, count in DOMAINS.items()}
    again = tfmdl.save_packs(model, folder / "packs", labels, image_size=side).model
    yield "pack", max(relative(again.features(images, domain), alone[domain]) for domain in DOMAINS)
    if keras.backend.backend() == "tensorflow":
        yield from exported(folder)
    if name == FLAGS.train:
        train(model, images)


def exported(folder):
    from tfmdl.serving.litert import write_litert
    from tfmdl.serving.source import from_runs
    from tfmdl.serving.writer import Options, write_export

    both = from_runs(trunk=str(folder / "packs"), pack_paths=[str(folder / "packs")])
    one = from_runs(trunk=str(folder / "packs"), pack_paths=[str(folder / "packs" / "packs" / "b.safetensors")])
    if FLAGS.export:
        yield "export", write_export(both, folder / "export", Options(tolerance=1.0)).difference
    if FLAGS.export or FLAGS.openvino:
        folded = write_export(one, folder / "folded", Options(tolerance=1.0, fold=True))
        yield "folded", folded.difference
    if FLAGS.litert:
        # Random weights are no measure of what int8 does to trained ones: only the float32 file is compared.
        whole, _ = write_litert(one, folder / "litert", Options(tolerance=1.0))
        yield "LiteRT", whole.difference
    if FLAGS.openvino:
        yield "OpenVINO", in_openvino(folded.path, one.size, folder)


def in_openvino(path, size, folder):
    """Returns by how much OpenVINO's probabilities of an export are apart from TensorFlow's."""
    import openvino
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serve_images"]
    image = np.random.default_rng(1).integers(0, 256, (4, *size, 3)).astype("float32")
    inputs = {"image": image, "domain_id": np.zeros(4, "int32")}
    wanted = serve(**{name: tf.constant(value) for name, value in inputs.items()})["probability"].numpy()
    np.savez(folder / "inputs.npz", wanted=wanted, **inputs)
    openvino.save_model(openvino.convert_model(serve), folder / "model.xml", compress_to_fp16=False)
    command = [sys.executable, str(OPENVINO), str(folder / "model.xml"), str(folder / "inputs.npz"), "1"]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["apart"]


def train(model, images):
    """Takes three steps of the second domain by `fit`.

    Raises:
        ValueError: if the loss does not fall, or another variable than the domain's moves.
    """
    labels = np.arange(len(images)) % DOMAINS["b"]
    before = {variable.path: array(variable) for variable in model.variables}
    model.train_only(["b"])
    tower = model.tower("b")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    how = {"jit_compile": False} if keras.backend.backend() == "tensorflow" else {}
    tower.compile(keras.optimizers.Adam(1e-3), loss, **how)
    losses = tower.fit(images, labels, batch_size=len(images), epochs=3, verbose=0).history["loss"]
    moved = [variable.path for variable in model.variables if (array(variable) != before[variable.path]).any()]
    print(f" loss of three steps {', '.join(f'{loss:.3f}' for loss in losses)}", end="")
    if not losses[-1] < losses[0] or not moved or not all(path.endswith("/b") for path in moved):
        raise ValueError(f"three steps must lower the loss and move variables of b alone; moved {', '.join(moved)}")


def draw(rng, count, side):
    """Returns noise of as many grains as that which exports are checked on: float32 (count, side, side, 3)."""
    noise = [rng.uniform(0, 255, (*rng.integers(20, 150, 2), 3)) for _ in range(count)]
    return np.stack([array(keras.ops.image.resize(image, (side, side))) for image in noise]).astype("float32")


def randomize(network, images, rng):
    """Gives each channel a scale, an offset and statistics of its own, so that a mix-up shows. Kernels are random.

    The statistics are those of `images`, taken last: by others, what images differ by would vanish on the way, or drown
    in rounding. Those of a `Normalization` stay: what the layer computes by, it makes of them when they are loaded, and
    only then.
    """
    for variable in network.weights:
        name = variable.path.rpartition("/")[2]
        if name == "gamma":
            variable.assign(array(variable) * rng.uniform(0.8, 1.25, variable.shape))
        elif name in ("beta", "bias"):
            variable.assign(array(variable) + rng.normal(0, 0.1, variable.shape))
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    network(images, training=True)


def array(values):
    return np.array(keras.ops.convert_to_numpy(values))


def relative(found, wanted):
    """Returns how far features are apart, relative to what the images differ by: a common offset hides nothing."""
    return float(np.abs(array(found) - wanted).max() / np.ptp(wanted, axis=0).max())


if __name__ == "__main__":
    app.run(main)

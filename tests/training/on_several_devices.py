"""Training on several devices, in a process whose CPU is divided before TensorFlow starts: see test_devices.py."""

import contextlib
import dataclasses
import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_network import small

from tfmdl.config import RunConfig
from tfmdl.domains import SHARED
from tfmdl.files import read_tensors
from tfmdl.layers import DomainBatchNormalization, DomainHead, DomainSeparableConv2D
from tfmdl.training import devices
from tfmdl.training.loop import run, train
from tfmdl.training.setup import prepare
from tfmdl.training.sgd import DecayingSGD

DEVICES = int(os.environ["DEVICES"])
BATCH = 8

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * DEVICES
)

DOMAINS = ("a", "b", "c")
BY_NAME_AND_BY_ID = pytest.mark.parametrize(
    ("domains", "ids"), [(("a",), np.zeros(8, "int32")), (DOMAINS, np.array([0, 0, 1, 1, 0, 0, 0, 0], "int32"))]
)


class Network:
    """Norm, separable convolution, norm and head, trained by SGD: of one domain by name, or of several by id."""

    def __init__(self, domains, trained, on_one_device=False, synchronized=False):
        self.by_id = len(domains) > 1
        with contextlib.nullcontext() if on_one_device else devices.strategy_scope():
            image = keras.Input((4, 4, 3), name="image")
            domain = keras.Input((), dtype="int32", name="domain") if self.by_id else domains[0]
            first_norm = DomainBatchNormalization(domains, name="first_norm")
            x = first_norm(image, domain=domain)
            x = DomainSeparableConv2D(4, domains, name="conv")(x, domain=domain)
            norm = DomainBatchNormalization(domains, name="norm")
            x = norm(x, domain=domain)
            head = DomainHead(dict.fromkeys(domains, 2), name="head")
            logits = head(keras.ops.mean(keras.ops.relu(x), axis=(1, 2)), domain=domain)
            first_norm.synchronized = norm.synchronized = synchronized
            self.model = keras.Model({"image": image, "domain": domain} if self.by_id else image, logits)
            random = np.random.default_rng(0)
            for variable in self.model.variables:
                variable.assign(random.uniform(0.5, 1.5, variable.shape))
                variable.trainable = variable.trainable and variable.name in (*trained, SHARED)
            self.model.compile(
                DecayingSGD(0.05, 0.9, lambda variable: 1e-3, name="sgd"),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                jit_compile=False,
            )
            self.model.optimizer.build(self.model.trainable_variables)
        self.variables = {v.path: v for v in (*self.model.variables, *self.model.optimizer.variables)}

    def fit(self, images, ids, steps=3):
        """Takes steps on one batch, which the devices share, and returns their mean loss."""
        labels = np.arange(len(ids)) % 2 + 2 * ids
        batch = tf.data.Dataset.from_tensors(({"image": images, "domain": ids} if self.by_id else images, labels))
        (loss,) = self.model.fit(batch.repeat(steps), verbose=0, shuffle=False).history["loss"]
        return loss

    def values(self):
        return {path: variable.numpy() for path, variable in self.variables.items()}

    def assert_devices_agree(self):
        for path, variable in self.variables.items():
            first, *others = variable.value.values
            assert len(others) == DEVICES - 1
            for other in others:
                np.testing.assert_array_equal(first, other, err_msg=path)


@pytest.fixture(autouse=True)
def fresh():
    """As `train` does it; names of one process would else be numbered."""
    devices.set_up(seed=0)


@pytest.fixture
def images(rng):
    """Parts, one for each device, differ in mean and spread; the two classes, in turn, in one channel."""
    by_part = np.repeat(1.0 + 2.0 * np.arange(DEVICES), BATCH // DEVICES)[:, None, None, None]
    images = rng.normal(size=(BATCH, 4, 4, 3)) * by_part + by_part
    images[1::2, ..., 0] += 10.0
    return images.astype("float32")


# In turn in one process, with other shapes: they share a strategy, whose collectives must not be taken for others.
@BY_NAME_AND_BY_ID
def test_the_devices_hold_the_same_and_a_frozen_domain_stays(domains, ids, images):
    network = Network(domains, trained=("a", "b"))
    start = network.values()
    first_loss = network.fit(images, ids, steps=1)
    network.assert_devices_agree()
    after_one = network.values()
    for index, domain in enumerate(domains):
        # The mean of what each device finds in its own part; without an image of the domain it keeps what it has.
        parts = [part[own == index] for part, own in zip(*(np.split(a, DEVICES) for a in (images, ids)), strict=True)]
        for slot, of_pixels in (("moving_mean", np.mean), ("moving_variance", np.var)):
            path = f"first_norm/{slot}/{domain}"
            found = [of_pixels(part, axis=(0, 1, 2)) if part.size else start[path] for part in parts]
            moved = 0.9 * start[path] + 0.1 * np.mean(found, axis=0)
            np.testing.assert_allclose(after_one[path], moved, rtol=1e-5, err_msg=path)

    assert network.fit(images, ids, steps=9) < 0.9 * first_loss
    network.assert_devices_agree()
    for path, value in network.values().items():
        if path.endswith("/c"):
            np.testing.assert_array_equal(value, start[path], err_msg=path)
        elif path.endswith(("/a", "/b")) and "beta" not in path and "bias" not in path:
            assert not np.array_equal(value, start[path]), path


@BY_NAME_AND_BY_ID
def test_equal_parts_train_as_one_part_on_one_device(domains, ids, images):
    """Then each device normalises by what the one does, and the mean of equal gradients is the gradient."""
    one, two = Network(domains, trained=domains, on_one_device=True), Network(domains, trained=domains)
    losses = one.fit(images, ids), two.fit(np.concatenate([images] * DEVICES), np.concatenate([ids] * DEVICES))
    np.testing.assert_allclose(*losses, rtol=1e-6)
    expected = one.values()
    assert two.values().keys() == expected.keys()
    for path, value in two.values().items():
        np.testing.assert_allclose(value, expected[path], rtol=1e-6, atol=1e-7, err_msg=path)


def test_synchronized_devices_train_as_one(images):
    """Whose parts differ: by the statistics of its own part each would do otherwise."""
    ids = np.zeros(8, "int32")
    one = Network(("a",), trained="a", on_one_device=True)
    two, apart = (Network(("a",), trained="a", synchronized=synchronized) for synchronized in (True, False))
    losses = [network.fit(images, ids) for network in (one, two, apart)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert abs(losses[2] - losses[0]) > 1e-3 * losses[0]
    expected = one.values()
    for path, value in two.values().items():
        np.testing.assert_allclose(value, expected[path], rtol=1e-4, atol=1e-5, err_msg=path)
    two.assert_devices_agree()


@pytest.fixture
def config(data_dir, tmp_path):
    return RunConfig(
        domains=("base", "tiny"),
        data_dir=str(data_dir),
        workdir=str(tmp_path),
        architecture=small(width=2),
        recipe="quick",
        batch_size=8,
        image_size=16,
        max_steps=3,
        checkpoint_every=2,
        tensorboard=False,
    )


def test_a_joint_run_goes_on_in_the_middle_of_an_epoch(config, tmp_path):
    def results():
        tensors = {path: read_tensors(path)[0] for path in tmp_path.rglob("*.safetensors")}
        line = json.loads((tmp_path / "metrics.jsonl").read_text())
        return tensors, {key: value for key, value in line.items() if key != "images_per_second"}

    train(config)
    tensors, line = results()
    (tmp_path / "checkpoints" / "step-000000003.safetensors").unlink()
    (tmp_path / "trunk.safetensors").unlink()
    shutil.rmtree(tmp_path / "packs")
    train(config)
    tensors_again, line_again = results()
    # Of running metrics a checkpoint has one sum of what each device has added up; all else is the same to the bit.
    assert line_again == pytest.approx(line, rel=1e-6)
    assert tensors_again.keys() == tensors.keys()
    for path, values in tensors.items():
        for name, value in values.items():
            rtol = 1e-6 if name.startswith("metrics:") else 0
            np.testing.assert_allclose(tensors_again[path][name], value, rtol, err_msg=f"{path}: {name}")


def test_a_run_of_one_domain_goes_on_with_one_device(config, tmp_path):
    """As it would have gone on with several, but for the order in which these add numbers."""
    config = dataclasses.replace(config, domains=("base",), sync_norm=True, max_steps=4, learning_rate=0.02)
    train(config)
    several = read_tensors(tmp_path / "trunk.safetensors")[0]
    (tmp_path / "checkpoints" / "step-000000004.safetensors").unlink()
    (tmp_path / "trunk.safetensors").unlink()
    shutil.rmtree(tmp_path / "packs")
    devices.set_up(config.seed)
    run(prepare(config))
    for name, value in read_tensors(tmp_path / "trunk.safetensors")[0].items():
        np.testing.assert_allclose(value, several[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_what_several_devices_cannot_do_is_refused(config):
    assert devices.use_xla("auto") is False
    with pytest.raises(ValueError, match="--jit_compile=on compiles for one device; CPU:0, CPU:1.* train together"):
        devices.use_xla("on")
    with pytest.raises(ValueError, match="--sync_norm is for runs of one domain; received --domain=base,tiny"):
        train(dataclasses.replace(config, sync_norm=True))
    with pytest.raises(ValueError, match=f"--batch_size must be a multiple of the {DEVICES} devices .* received 7"):
        train(dataclasses.replace(config, batch_size=7))

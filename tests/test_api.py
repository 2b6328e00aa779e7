"""The program from Python gives what its commands give."""

import dataclasses
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import tfmdl
from tfmdl.config import load_config
from tfmdl.data import records

NETWORK = {"width": 4, "blocks_per_stage": 1, "image_size": 16}
SMALL = {**NETWORK, "batch_size": 16, "recipe": "quick", "tensorboard": False}


@pytest.fixture(scope="module")
def runs(data_dir, tmp_path_factory):
    """Folder of a trunk and of a domain that was added to it."""
    folder = tmp_path_factory.mktemp("runs")
    tfmdl.train("base", data_dir=data_dir, workdir=folder / "base", epochs=2, **SMALL)
    settings = {"method": "low_rank", "rank": 2, "epochs": 4, "init_from": str(folder / "base")}
    tfmdl.train("tiny", data_dir=data_dir, workdir=folder / "tiny", **SMALL, **settings)
    return folder


def test_a_trunk_is_found_from_elsewhere(runs, data_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(runs)
    tfmdl.train("tiny", data_dir=data_dir, workdir=tmp_path, init_from=pathlib.Path("base"), max_steps=1, **SMALL)
    monkeypatch.chdir(tmp_path)
    assert tfmdl.load(tmp_path).domains == ("tiny",)


@pytest.fixture(scope="module")
def images(data_dir):
    """Image files and labels of the val split of "tiny"."""
    info = records.DatasetInfo.load(data_dir, "tiny")
    parsed = [
        tf.io.parse_single_example(record, records.FIELDS)
        for record in tf.data.TFRecordDataset(info.shard_paths(data_dir, "val"))
    ]
    return [each["image/encoded"].numpy() for each in parsed], [int(each["image/class/label"]) for each in parsed]


def test_importing_the_package_is_fast():
    program = "import sys, tfmdl; assert {'train', 'load'} <= set(dir(tfmdl)); print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
    with pytest.raises(AttributeError, match="module 'tfmdl' has no attribute 'fly'"):
        _ = tfmdl.fly


def test_settings_are_those_of_the_flags(runs):
    config = load_config(runs / "tiny")
    assert (config.epochs, config.image_size, config.architecture.options.rank) == (4, 16, 2)
    assert config.init_from == str(runs / "base")
    with pytest.raises(TypeError, match="wings"):
        tfmdl.train("tiny", data_dir="data", workdir="run", wings=2)
    with pytest.raises(ValueError, match="pointwise_sharing has no option --rank"):
        tfmdl.train("tiny", data_dir="data", workdir="run", rank=2)


def test_a_finished_run_is_returned_as_it_is(runs, data_dir):
    packs = (runs / "base" / "packs" / "base.safetensors").read_bytes()
    again = tfmdl.train("base", data_dir=data_dir, workdir=runs / "base", epochs=2, **SMALL)
    assert (runs / "base" / "packs" / "base.safetensors").read_bytes() == packs
    assert again.domains == ("base",)


def test_predictions_have_the_accuracy_of_the_evaluation(runs, data_dir, images):
    files, labels = images
    classifier = tfmdl.load(runs / "tiny")
    probabilities = classifier.predict(files, "tiny")
    assert probabilities.shape == (len(files), len(classifier.packs["tiny"].label_names))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    accuracy = np.mean(probabilities.argmax(axis=1) == labels)
    assert accuracy == pytest.approx(classifier.evaluate(data_dir)["tiny"].accuracy)
    assert accuracy == pytest.approx(classifier.packs["tiny"].accuracy)


def test_an_image_may_be_a_path_or_bytes_or_pixels(runs, images, tmp_path):
    classifier = tfmdl.load(trunk=runs / "base", packs=[runs / "base", runs / "tiny"])
    assert classifier.domains == ("base", "tiny")
    file = images[0][0]
    path = tmp_path / "image.jpg"
    path.write_bytes(file)
    pixels = tf.io.decode_image(file, channels=3).numpy()
    probabilities = classifier.predict([path, str(path), file, pixels], "tiny")
    np.testing.assert_array_equal(probabilities, np.broadcast_to(probabilities[0], probabilities.shape))
    assert classifier.predict([], "tiny").shape == (0, 2)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"GIF89a", "image 0: is no JPEG, PNG, GIF or BMP file that decodes"),
        (np.zeros((5, 5), "uint8"), r"image 0: pixels must be uint8 \(height, width, 3\); received uint8 \(5, 5\)"),
        (np.zeros((5, 5, 3)), "image 0: pixels must be uint8 .*; received float64"),
        (7, "image 0: pixels must be uint8 .*; received int"),
    ],
)
def test_what_is_no_image_is_named(runs, image, message):
    with pytest.raises(ValueError, match=message):
        tfmdl.load(runs / "tiny").predict([image], "tiny")


def test_a_domain_that_is_not_there_is_named(runs):
    with pytest.raises(ValueError, match="must be one of tiny; received domain='dtd'"):
        tfmdl.load(runs / "tiny").predict([], "dtd")


@pytest.mark.slow
def test_an_export_answers_as_the_classifier(runs, images, tmp_path):
    classifier = tfmdl.load(runs / "base", runs / "tiny")
    path = classifier.export(tmp_path / "served")
    classify = tf.saved_model.load(str(path)).signatures["serving_default"]
    answer = classify(image_bytes=tf.constant(images[0][:4]), domain=tf.constant(["tiny"] * 4))
    best = classifier.predict(images[0][:4], "tiny").max(axis=1)
    np.testing.assert_allclose(answer["probability"].numpy()[:, 0], best, rtol=1e-4)
    with pytest.raises(TypeError, match="wings"):
        classifier.export(tmp_path / "served", wings=2)


def test_packs_are_described(runs):
    pack = tfmdl.load(runs / "tiny").packs["tiny"]
    assert pack.label_names == ["tiny 0", "tiny 1"]
    assert dataclasses.is_dataclass(pack.preprocessing)

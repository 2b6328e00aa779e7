"""Pretrained networks as trunks: imported, trained on, evaluated, exported, composed."""

import json

import keras
import numpy as np
import pytest
from small_keras import keras_model

import tfmdl
from faults.commands import run_command
from tfmdl import imported, packs, pretrained
from tfmdl.config import load_config
from tfmdl.training.settings import configure
from tfmdl.training.setup import prepare

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """Folder of a small network with a classifier of four classes, imported by the command."""
    folder = tmp_path_factory.mktemp("imported")
    keras.utils.set_random_seed(0)
    features = keras_model()
    answers = keras.layers.Dense(4, name="answers")(features.output)
    keras.Model(features.input, answers, name="small").save(folder / "small.keras")
    flags = [f"--source={folder / 'small.keras'}", f"--workdir={folder / 'run'}", "--image_size=24"]
    done = run_command("-m", "tfmdl.trunk", *flags, "--mean=0.5,0.4,0.3", "--std=0.2,0.3,0.4")
    assert done.returncode == 0, done.stderr
    assert "for images of 24 pixels" in done.stdout and f"--init_from={folder / 'run'}" in done.stdout
    return folder / "run"


def test_a_trunk_says_what_it_wants(trunk):
    read = packs.read_trunk(trunk)
    assert read.base_domain == "imagenet" and read.architecture.network.name == "small"
    assert read.preprocessing.size == (24, 24) and (read.preprocessing.mean, read.preprocessing.std) == (MEAN, STD)
    assert json.loads((trunk / "imported.json").read_text())["source"].endswith("small.keras")


def test_it_answers_as_the_network_does(trunk, rng):
    model, (pack,) = packs.load_model([str(trunk)])
    network = pretrained.load(str(trunk.parent / "small.keras"))
    images = rng.uniform(size=(2, 24, 24, 3)).astype("float32")
    wanted = np.asarray(network.network(images)) @ network.kernel + network.bias
    np.testing.assert_allclose(model.tower("imagenet")(images), wanted, rtol=1e-4, atol=1e-5)
    assert pack.label_names == ["0", "1", "2", "3"] and not [slot for slot in pack.tensors if "head" not in slot]


@pytest.fixture(scope="module")
def runs(trunk, data_dir, tmp_path_factory):
    """Folders of a domain that was added by each of two methods."""
    folder = tmp_path_factory.mktemp("runs")
    for method in ("pointwise_sharing", "classifier_only"):
        added = {"init_from": trunk, "method": method, "epochs": 1, "tensorboard": False}
        tfmdl.train("tiny", data_dir=data_dir, workdir=folder / method, **added)
    return folder


def test_a_domain_is_added_by_what_suits_the_trunk(runs, trunk):
    config = load_config(runs / "pointwise_sharing")
    assert (config.recipe, config.image_size, config.architecture.network.name) == ("finetune", 24, "small")
    assert config.architecture.options.share_last_pointwise
    (pack,) = packs.read_packs(runs / "pointwise_sharing")
    assert (pack.preprocessing.mean, pack.preprocessing.std) == (MEAN, STD)
    assert pack.preprocessing.size == pack.preprocessing.train_size == (24, 24)
    kept = packs.read_trunk(trunk).tensors
    own = {slot for slot in pack.tensors if "moving" in slot}
    assert own and all(np.array_equal(pack.tensors[slot], kept[slot]) for slot in own)  # statistics stay the trunk's


def test_the_head_comes_first(runs, data_dir):
    """What a method begins with is no worse than the head alone, up to what a few images say."""
    accuracy = {run.name: packs.read_packs(run)[0].accuracy for run in runs.iterdir()}
    assert accuracy["classifier_only"] > 0.3  # of three classes that differ by colour
    assert accuracy["pointwise_sharing"] >= accuracy["classifier_only"] - 0.2


@pytest.mark.slow
def test_it_is_evaluated_and_exported(runs, data_dir, tmp_path, rng):
    loaded = tfmdl.load(runs / "pointwise_sharing")
    evaluated = loaded.evaluate(data_dir)["tiny"].accuracy
    assert evaluated == pytest.approx(loaded.packs["tiny"].accuracy)
    for options in ({}, {"fold": True}):
        loaded.export(tmp_path / str(len(options)), **options)  # which compares its answers with the model's


def test_several_domains_share_a_mixed_model(runs, trunk, tmp_path, rng):
    packed = [str(trunk), str(runs / "pointwise_sharing")]
    model, _ = packs.load_model(trunk=str(trunk), pack_paths=packed)
    images = rng.normal(size=(4, 24, 24, 3)).astype("float32")
    ids = np.array([0, 1, 1, 0], "int32")
    mixed = keras.ops.convert_to_numpy(model({"image": images, "domain": ids}))
    np.testing.assert_allclose(mixed[ids == 0][:, :4], model.tower("imagenet")(images[ids == 0]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mixed[ids == 1][:, 4:], model.tower("tiny")(images[ids == 1]), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_model_in_hand_is_trained_by_fit_and_saved(data_dir, tmp_path, rng):
    model = tfmdl.multi_domain(keras_model(), {"a": 3, "b": 2}, "low_rank", rank=1)
    model.train_only(["b"])
    tower = model.tower("b")
    tower.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    tower.fit(rng.normal(size=(4, 16, 16, 3)), np.array([0, 1, 0, 1]), verbose=0)
    saved = tfmdl.save_packs(model, tmp_path / "mine", {"b": ["left", "right"]}, image_size=16)
    images = rng.integers(0, 256, (2, 16, 16, 3), "uint8")
    wanted = keras.ops.softmax(tower(images.astype("float32")))
    np.testing.assert_allclose(saved.predict(list(images), "b"), wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("flips", "mirrored"), [(None, True), (False, False)])
def test_whether_training_mirrors_images_can_be_said(flips, mirrored, trunk, data_dir, tmp_path):
    job = prepare(configure(["tiny"], data_dir=data_dir, workdir=tmp_path, init_from=trunk, flips=flips))
    assert job.recipe.flips is mirrored and job.pipeline.sources[0].flips is mirrored
    assert not any(source.flips for source in job.val_sources)


def test_images_have_a_size_that_divides(trunk, data_dir, tmp_path):
    with pytest.raises(ValueError, match="--image_size must be a multiple of 4 for small; received 30"):
        tfmdl.train("tiny", data_dir=data_dir, workdir=tmp_path / "run", init_from=trunk, image_size=30)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_and_an_import_do_not_share_a_folder(runs, trunk, data_dir):
    network = pretrained.load(str(trunk.parent / "small.keras"))
    with pytest.raises(ValueError, match="holds a run of train.py"):
        imported.write_imported(network, "again", runs / "pointwise_sharing")
    with pytest.raises(ValueError, match="holds an imported trunk"):
        tfmdl.train("tiny", data_dir=data_dir, workdir=trunk, recipe="quick", width=4, image_size=16)


def test_the_recipe_is_for_added_domains(data_dir, tmp_path):
    with pytest.raises(ValueError, match="--recipe=finetune adds a domain to a trunk: give --init_from"):
        tfmdl.train("tiny", data_dir=data_dir, workdir=tmp_path / "run", recipe="finetune")


@pytest.mark.slow
def test_imagenet_is_imported_once(monkeypatch, tmp_path, data_dir):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = configure(["tiny"], data_dir=data_dir, workdir=tmp_path / "run", init_from="imagenet")
    folder = imported.imagenet()
    assert config.init_from == str(folder) and tmp_path in folder.parents
    assert (config.image_size, config.recipe) == (224, "finetune")
    assert config.architecture.network.name == "efficientnet_lite0"
    before = (folder / "trunk.safetensors").stat().st_mtime_ns
    assert imported.imagenet() == folder and (folder / "trunk.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--source=nothing"], "--source must be one of efficientnet_lite0"),
        (["--source=nowhere.keras"], "nowhere.keras: no such file"),
        (["--source=efficientnet_lite0", "--mean=0,0,0"], "--mean is for .keras files"),
        (["--source=small.keras", "--std=1,2"], "--std must be three numbers, as in 0.5,0.5,0.5; received '1,2'"),
    ],
)
def test_the_command_says_what_is_wrong(flags, message, tmp_path):
    done = run_command("-m", "tfmdl.trunk", f"--workdir={tmp_path / 'run'}", *flags)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and message in done.stderr, done.stderr
    assert not (tmp_path / "run").exists()

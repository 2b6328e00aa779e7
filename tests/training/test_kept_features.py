"""A classifier alone is trained on features that are computed once, where nothing before them changes."""

import dataclasses
import pathlib
import shutil

import numpy as np
import pytest
from reading_runs import metrics_of, without_speed
from small_domains import SIZES, write_domain
from small_network import small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfmdl.config import RunConfig
from tfmdl.data.features import FeaturePipeline, Features
from tfmdl.data.pipeline import evaluation_batches
from tfmdl.evaluation.evaluate import EvaluationConfig, evaluate
from tfmdl.files import read_tensors, write_tensors
from tfmdl.packs import read_pack, read_trunk
from tfmdl.training import setup
from tfmdl.training.loop import run, train
from tfmdl.training.optimization import compile_network
from tfmdl.training.setup import prepare

# Both are trained on whole images, and the recipe gives the first dropout, if they have the classes of the Decathlon.
DROPPED, PLAIN = "daimlerpedcls", "svhn"
CLASSES = {DROPPED: 2, PLAIN: 10}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name in ("base", "tiny"):
        write_domain(folder, name)
    for name, classes in CLASSES.items():
        write_domain(folder, name, classes=classes)
    return folder


@pytest.fixture(scope="module")
def config(data_dir, tmp_path_factory):
    """Adds a classifier to a trunk that has seen a little: 3 epochs of 5 steps."""
    runs = tmp_path_factory.mktemp("runs")
    trunk = RunConfig(
        domains=("base",),
        data_dir=str(data_dir),
        workdir=str(runs / "trunk"),
        architecture=small("individual"),
        recipe="quick",
        batch_size=8,
        image_size=16,
        max_steps=3,
        tensorboard=False,
    )
    train(trunk)
    return dataclasses.replace(
        trunk,
        domains=(DROPPED,),
        architecture=small("classifier_only"),
        init_from=trunk.workdir,
        workdir=str(runs / "added"),
        epochs=3,
        max_steps=None,
        checkpoint_every=7,
    )


@pytest.fixture(scope="module")
def added(config):
    """Folder of the finished run of `config`."""
    train(dataclasses.replace(config, tensorboard=True))
    return pathlib.Path(config.workdir)


def pack_of(run):
    return read_pack(run / "packs" / f"{DROPPED}.safetensors")


def tensors_of(run):
    return {path.name: read_tensors(path)[0] for path in run.rglob("*.safetensors")}


def test_the_run_learns_and_leaves_what_every_run_leaves(added, config):
    lines = metrics_of(added)
    assert [line["step"] for line in lines] == [5, 10, 15]
    assert lines[-1]["train/loss"] < lines[0]["train/loss"]
    assert pack_of(added).trunk_fingerprint == read_trunk(config.init_from).fingerprint
    events = EventAccumulator(str(added / "train")).Reload()
    assert "augmented_images" in events.Tags()["tensors"]


def test_eval_finds_what_the_run_found(added, config):
    line = metrics_of(added)[-1]
    found = evaluate(EvaluationConfig(config.data_dir, "val", workdirs=(str(added),))).evaluations[DROPPED]
    assert found.accuracy == line["val/accuracy"] == pack_of(added).accuracy
    assert found.loss == pytest.approx(line["val/loss"], rel=1e-6)


def test_features_are_float32_whatever_the_run_computes_in(config, tmp_path):
    mixed = prepare(dataclasses.replace(config, precision="mixed_bfloat16", workdir=str(tmp_path / "mixed")))
    found = mixed.features.of(mixed.val_sources[0])
    exact = prepare(dataclasses.replace(config, workdir=str(tmp_path / "exact")))
    wanted = exact.features.of(mixed.val_sources[0])
    np.testing.assert_array_equal(found.values, wanted.values)
    run(mixed)
    asked = EvaluationConfig(config.data_dir, "val", workdirs=(str(tmp_path / "mixed"),))
    evaluated = evaluate(asked).evaluations[DROPPED]
    assert evaluated.loss == pytest.approx(metrics_of(tmp_path / "mixed")[-1]["val/loss"], rel=1e-6)


def test_a_run_goes_on_in_the_middle_of_an_epoch(added, config, tmp_path, capsys):
    shutil.copytree(added, tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "step-000000015.safetensors"
    assert {path.name for path in newest.parent.iterdir()} == {"step-000000014.safetensors", newest.name}
    newest.unlink()
    shutil.rmtree(tmp_path / "run" / "packs")
    train(dataclasses.replace(config, workdir=str(tmp_path / "run")))
    said = capsys.readouterr().out
    for split in ("train", "val"):
        assert said.count(f"features of {DROPPED}: {SIZES[split]} images, ") == 1
    assert without_speed(metrics_of(tmp_path / "run")) == without_speed(metrics_of(added))
    wanted, found = tensors_of(added), tensors_of(tmp_path / "run")
    assert found.keys() == wanted.keys()
    for name, tensors in wanted.items():
        assert found[name].keys() == tensors.keys()
        for key, value in tensors.items():
            np.testing.assert_array_equal(found[name][key], value, err_msg=f"{name}: {key}")


def test_the_head_is_what_the_same_steps_on_images_make_it(config, tmp_path):
    job = prepare(dataclasses.replace(config, domains=(PLAIN,), workdir=str(tmp_path)))
    head = job.network.trainable_variables
    start = [variable.numpy() for variable in head]
    run(job)
    on_features = [variable.numpy() for variable in head]

    (whole,) = evaluation_batches(job.train_sources, 99)
    images, labels = whole["image"].numpy(), whole["label"].numpy()
    rows = np.arange(len(labels), dtype="int32")
    order = FeaturePipeline(Features(PLAIN, rows, rows, rows[:, None]), config.batch_size, config.seed)
    for variable, value in zip(head, start, strict=True):
        variable.assign(value)
    tower = job.model.tower(PLAIN)
    compile_network(tower, job.model, job.recipes, job.steps_per_epoch, jit_compile=False)
    for epoch in range(config.epochs):
        for batch in order.epoch(epoch).as_numpy_iterator():
            tower.train_on_batch(images[batch["label"]], labels[batch["label"]])
    for variable, before, value in zip(head, start, on_features, strict=True):
        assert not np.allclose(value, before, atol=1e-3)
        np.testing.assert_allclose(value, variable.numpy(), rtol=1e-5, atol=1e-5)


def test_where_features_change_images_are_read(config, tmp_path, monkeypatch):
    def reads_images(**changes):
        job = prepare(dataclasses.replace(config, **{"workdir": str(tmp_path / "-".join(changes)), **changes}))
        return job.features is None and job.network.input.name == "image"

    assert not reads_images()
    assert reads_images(domains=("tiny",))  # a random crop
    assert reads_images(architecture=small("pointwise_sharing"))
    monkeypatch.setattr(setup, "MOST_FEATURES", 1000)
    assert reads_images(seed=1)


def test_a_bad_record_is_named(config, tmp_path):
    write_domain(tmp_path, DROPPED, classes=CLASSES[DROPPED])
    shard = sorted((tmp_path / DROPPED).glob("*-train-*"))[1]
    contents = bytearray(shard.read_bytes())
    contents[len(contents) // 2] ^= 255
    shard.write_bytes(contents)
    with pytest.raises(ValueError, match=rf"{shard}: record \d+ \(counted from 0\) cannot be read"):
        train(dataclasses.replace(config, data_dir=str(tmp_path), workdir=str(tmp_path / "run")))


def test_features_that_are_not_finite_are_told_of_by_image_and_trunk(config, tmp_path):
    tensors, header = read_tensors(pathlib.Path(config.init_from) / "trunk.safetensors")
    large = tmp_path / "trunk.safetensors"
    write_tensors(large, {slot: value * np.float32(1e30) for slot, value in tensors.items()}, header)
    with pytest.raises(FloatingPointError, match=rf"the features of image \d+ are not finite .*: look at {large} and"):
        train(dataclasses.replace(config, init_from=str(large), workdir=str(tmp_path / "run")))

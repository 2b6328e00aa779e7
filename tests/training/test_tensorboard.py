"""What a run shows in TensorBoard, read back from its event files."""

import dataclasses
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_network import small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.util.tensor_util import make_ndarray

from tfmdl.config import RunConfig
from tfmdl.files import read_tensors
from tfmdl.training.callbacks import AroundSteps
from tfmdl.training.events import EventsFile
from tfmdl.training.history import History
from tfmdl.training.loop import train
from tfmdl.training.settings import command
from tfmdl.training.steps import Steps
from tfmdl.training.tensorboard import tile


def read(workdir):
    """Returns the events of a run by "run", "train" and "val"."""
    folders = {"run": workdir, "train": workdir / "train", "val": workdir / "val"}
    files = {name: next(path.glob("events.*.v2")) for name, path in folders.items()}
    return {name: EventAccumulator(str(path), {"tensors": 0}).Reload() for name, path in files.items()}


def values(events, tag):
    return {event.step: make_ndarray(event.tensor_proto) for event in events.Tensors(tag)}


@pytest.fixture(scope="module")
def config(data_dir, tmp_path_factory):
    """Trains a trunk on two domains at once: 3 epochs of 5 steps."""
    return RunConfig(
        domains=("base", "tiny"),
        data_dir=str(data_dir),
        workdir=str(tmp_path_factory.mktemp("run") / "joint"),
        architecture=small(),
        recipe="quick",
        epochs=3,
        batch_size=16,
        image_size=16,
        profile_steps=(2, 3),
    )


@pytest.fixture(scope="module")
def workdir(config):
    train(config)
    return pathlib.Path(config.workdir)


@pytest.fixture(scope="module")
def events(workdir):
    assert list((workdir / "train" / "plugins" / "profile").glob("*/*.xplane.pb"))
    return read(workdir)


@pytest.mark.slow
def test_a_run_has_events_of_the_whole_and_of_both_parts(workdir):
    for folder in (workdir, workdir / "train", workdir / "val"):
        assert list(folder.glob("events.out.tfevents.*")), folder


@pytest.mark.slow
def test_numbers_are_written_every_epoch(events):
    for part, tags in (
        ("train", ("by_epoch/loss", "by_epoch/accuracy")),
        ("val", ("by_epoch/loss", "by_epoch/accuracy")),
        ("val", [f"by_domain/{what}/{domain}" for what in ("loss", "accuracy") for domain in ("base", "tiny")]),
    ):
        for tag in tags:
            assert list(values(events[part], tag)) == [5, 10, 15], tag


@pytest.mark.slow
def test_numbers_are_written_by_step(events):
    losses, rates = (values(events["train"], f"by_step/{name}") for name in ("loss", "learning_rate"))
    assert list(losses) == list(rates) == list(range(1, 16))
    by_epoch = values(events["train"], "by_epoch/loss")
    for end, loss in by_epoch.items():
        assert np.mean([losses[step] for step in range(end - 4, end + 1)]) == pytest.approx(loss, rel=1e-4)
    assert min(rates.values()) > 0 and len({float(rate) for rate in rates.values()}) > 1
    # The first step compiles the network.
    shares, speeds = (values(events["train"], f"by_step/{name}") for name in ("waiting_for_input", "images_per_second"))
    assert list(shares) == list(speeds) == list(range(2, 16))
    assert all(0 <= share < 1 for share in shares.values()) and min(speeds.values()) > 0


def test_waiting_for_input_is_told_from_computing():
    network = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
    metrics = [keras.metrics.MeanSquaredError(name) for name in ("cross_entropy", "accuracy")]
    network.compile("sgd", "mse", metrics=metrics, jit_compile=False)

    def slow(inputs, labels):
        tf.py_function(lambda: time.sleep(0.2), [], [])
        return inputs, labels

    def shares(batches, seconds):
        steps, found = Steps(lambda step: 0.1, 4, 5), []

        def after(logs):
            time.sleep(seconds)  # in place of a larger network
            found.append(steps.after(len(found) + 1, logs))

        around = AroundSteps(lambda: steps.before(len(found) + 1), after)
        network.fit(steps.watched(batches), verbose=0, shuffle=False, callbacks=[around])
        return [point["waiting_for_input"] for point in found[1:]]

    quick = tf.data.Dataset.from_tensors((tf.ones((4, 3)), tf.ones((4, 2)))).repeat(5)
    waiting, computing = shares(quick.map(slow), 0), shares(quick, 0.2)
    assert len(waiting) == len(computing) == 4
    assert np.median(waiting) > 0.5 > np.median(computing)


@pytest.mark.slow
def test_the_run_tells_its_command_and_the_next(events, config):
    (text,) = (value.item().decode() for value in values(events["run"], "about").values())
    told = text.split("```")[1].replace("\\\n", " ")
    assert shlex.split(told) == command(config)
    assert re.search(rf" --workdir={config.workdir} --data_dir={config.data_dir} --split=val\n.* --export_dir=", text)
    for owner in ("shared", "base", "tiny"):
        assert re.search(rf"^\| {owner} \| [1-9][\d,]* \|$", text, re.MULTILINE)
    (configuration,) = values(events["run"], "configuration").values()
    assert b'"recipe": "quick"' in configuration.item()


@pytest.mark.slow
def test_runs_are_told_apart_by_settings_and_results(events):
    data = events["run"].summary_metadata
    content = {tag: data[tag].plugin_data.content for tag in data if tag.startswith("_hparams_/")}
    settings = metadata.parse_session_start_info_plugin_data(content["_hparams_/session_start_info"]).hparams
    assert settings["method"].string_value == "pointwise_sharing"
    assert (settings["domain"].string_value, settings["seed"].number_value) == ("base, tiny", 0)
    assert settings["parameters"].number_value > 0
    experiment = metadata.parse_experiment_plugin_data(content["_hparams_/experiment"])
    assert set(settings) <= {column.name for column in experiment.hparam_infos}
    assert "rank" in {column.name for column in experiment.hparam_infos}
    for metric, by_epoch in (("result/accuracy", "by_epoch/accuracy"), ("result/loss", "by_epoch/loss")):
        assert metric in {column.name.tag for column in experiment.metric_infos}
        assert values(events["run"], metric) == {15: values(events["val"], by_epoch)[15]}


@pytest.mark.slow
def test_pictures_are_few_and_written_at_the_first_at_doubling_and_at_the_last_epochs(events):
    pictures = {
        part: {tag for tag, data in found.summary_metadata.items() if data.plugin_data.plugin_name == "images"}
        for part, found in events.items()
    }
    of_domains = {f"{what}/{domain}" for what in ("confusion", "most_wrong") for domain in ("base", "tiny")}
    assert pictures == {"run": set(), "train": {"augmented_images", "kernels_moved"}, "val": of_domains}
    assert len(events["train"].Tensors("augmented_images")) == 1
    for part, tag in (("train", "kernels_moved"), ("val", "confusion/base"), ("val", "confusion/tiny")):
        assert [event.step for event in events[part].Tensors(tag)] == [5, 10, 15]


@pytest.mark.slow
def test_the_history_has_how_far_kernels_are_at_each_epoch(workdir):
    columns, _ = read_tensors(workdir / "train" / "history.safetensors")
    assert columns["epoch"].tolist() == [1, 2, 3] and columns["step"].tolist() == [5, 10, 15]
    for domain in ("base", "tiny"):
        for kind in ("depthwise", "pointwise"):
            moved = columns[f"moved/{domain}/{kind}"]
            assert moved.shape == (3, 7) and (moved > 0).all()
    shared = slice(-1)  # all but the last
    base, tiny = (columns[f"moved/{domain}/pointwise"] for domain in ("base", "tiny"))
    np.testing.assert_array_equal(base[:, shared], tiny[:, shared])
    assert (base[:, -1] != tiny[:, -1]).all()


@pytest.mark.slow
def test_a_run_that_goes_on_shows_the_epochs_before(workdir, config, tmp_path):
    whole, _ = read_tensors(workdir / "train" / "history.safetensors")
    copied = tmp_path / "run"
    shutil.copytree(workdir, copied)
    (copied / "checkpoints" / "step-000000015.safetensors").unlink()
    train(dataclasses.replace(config, workdir=str(copied), profile_steps=None))
    again, _ = read_tensors(copied / "train" / "history.safetensors")
    assert again.keys() == whole.keys()
    for name, rows in whole.items():
        np.testing.assert_array_equal(again[name], rows, err_msg=name)


def test_a_damaged_history_is_named(tmp_path):
    path = tmp_path / "history.safetensors"
    kept = History(path)
    kept.add(1, 5, {"a": np.zeros(3)})
    kept.add(2, 10, {"a": np.ones(3)})
    again = History(path)
    again.go_on(9)
    assert again.epochs == [1] and len(again.rows("a")) == 1
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"{path}: damaged.*move it away"):
        History(path).go_on(10)


@pytest.mark.slow
def test_a_command_asks_for_the_run_that_it_is_of(config, workdir, tmp_path):
    """In a process of its own, as flags are read once."""
    added = dataclasses.replace(
        config,
        domains=("tiny",),
        init_from=str(workdir),
        workdir=str(tmp_path / "with space"),
        architecture=small("low_rank", rank=3),
        flips=True,
        learning_rate=0.05,
        train_splits=("train", "val"),
        tensorboard=False,
        profile_steps=None,
    )
    code = (
        "import json, sys, tfmdl.training.__main__ as command\n"
        "command.define_flags()\n"
        "for flags in json.loads(sys.argv[1]):\n"
        "    command.FLAGS.unparse_flags()\n"
        "    command.FLAGS(['', *flags])\n"
        "    print(json.dumps(command.config_of_flags().to_json()))"
    )
    flags = [command(wanted)[2:] for wanted in (config, added)]
    said = subprocess.run([sys.executable, "-c", code, json.dumps(flags)], check=True, capture_output=True, text=True)
    found = [RunConfig.from_json(json.loads(line)) for line in said.stdout.splitlines()]
    assert found == [config, added]


@pytest.mark.slow
def test_without_it_nothing_is_written_or_imported(config, workdir, tmp_path):
    """And the run is the same: it even goes on with it."""
    without = dataclasses.replace(config, workdir=str(tmp_path / "run"), tensorboard=False, profile_steps=None)
    code = (
        "import tfmdl.quiet, json, sys\n"
        "from tfmdl.config import RunConfig\n"
        "from tfmdl.training.loop import train\n"
        "train(RunConfig.from_json(json.loads(sys.argv[1])))\n"
        "print([name for name in sys.modules if name.startswith(('tensorboard.plugins', 'tfmdl.training.'))])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, json.dumps(without.to_json())], check=True, capture_output=True, text=True
    ).stdout
    imported = said.splitlines()[-1]
    assert "tfmdl.training.board" in imported and "tensorboard" not in imported and "pictures" not in imported
    assert "tensorboard" not in said
    run = tmp_path / "run"
    assert not list(run.rglob("events.*")) and not list(run.rglob("history*"))
    for name in ("trunk.safetensors", "packs/tiny.safetensors"):
        found, wanted = (read_tensors(folder / name)[0] for folder in (run, workdir))
        for slot, value in wanted.items():
            np.testing.assert_array_equal(found[slot], value, err_msg=slot)
    train(dataclasses.replace(without, tensorboard=True))
    assert values(read(run)["run"], "result/accuracy").keys() == {15}


def test_events_that_are_not_seen_are_an_error_that_says_what_to_do(tmp_path):
    """As on a file system that shows a file only when it is closed."""
    events = EventsFile(tmp_path / "train")
    with pytest.raises(OSError, match="--tensorboard=false does without") as told, events.at(0):
        tf.summary.scalar("loss", 0.5)
        for file in (tmp_path / "train").iterdir():
            file.unlink()
    assert told.value.filename == str(tmp_path / "train")


def test_a_profile_needs_it(config):
    with pytest.raises(ValueError, match="--profile_steps are shown in TensorBoard; received --tensorboard=false"):
        dataclasses.replace(config, tensorboard=False)


def test_tile_puts_every_image_somewhere(rng):
    images = rng.uniform(0.1, 0.9, (5, 4, 6, 3)).astype("float32")
    picture = tile(images, border=1)
    assert picture.shape == (10, 21, 3)
    np.testing.assert_array_equal(picture[5:9, 7:13], images[4])
    assert (picture[5:, 14:] == 1).all()

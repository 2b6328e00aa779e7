"""The epochs of runs: what they measure, what they leave alone, and that killing one changes nothing."""

import dataclasses
import json
import pathlib
import re
import shutil
import signal

import numpy as np
import pytest
from reading_runs import assert_same_weights, metrics_of, steps_of, without_speed
from small_domains import SIZES
from small_network import small

from faults.commands import Command, run_command
from tfmdl.cli import report_errors
from tfmdl.config import load_config
from tfmdl.domains import SHARED
from tfmdl.files import read_tensors, write_tensors
from tfmdl.model import slot_and_owner
from tfmdl.packs import load_model, read_trunk
from tfmdl.sharing import METHODS
from tfmdl.training.loop import run, train
from tfmdl.training.setup import prepare

ROOT = pathlib.Path(__file__).parents[2]
STEPS_PER_EPOCH = 10
# Or without much: what the norm behind it takes out in training, and what a ReLU over few channels may shut.
WITHOUT_GRADIENT = ("adapter_norm/beta", "gate/hidden_bias")
KEYS = {
    "epoch",
    "step",
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "learning_rate",
    "images_per_second",
}


def test_there_is_a_line_of_metrics_an_epoch(trunk):
    lines = metrics_of(trunk)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["step"] for line in lines] == [10, 20, 30, 40, 50]
    assert [line["learning_rate"] for line in lines] == pytest.approx([0.02, 0.02, 0.02, 0.002, 0.0002])
    for line in lines:
        assert line.keys() == KEYS
        assert all(np.isfinite(value) for value in line.values())
        assert 0 <= line["train/accuracy"] <= 1 and line["images_per_second"] > 0
    # It learns; in batches of four the loss goes up and down, and the last one says little.
    assert min(line["train/loss"] for line in lines[1:]) < lines[0]["train/loss"]


@pytest.mark.parametrize("method", METHODS)
def test_adding_a_domain_leaves_the_trunk_alone_and_its_pack_is_the_model(
    method, added_config, trunk, plain_trunk, tmp_path, rng
):
    architecture = small(method)
    trunk = plain_trunk if architecture.backbone == "resnet26" else trunk
    before = read_trunk(trunk)
    asked = dataclasses.replace(added_config, init_from=str(trunk))
    if METHODS[method].experts_by:  # what it goes on from
        expert = str(tmp_path / "expert")
        by = small(METHODS[method].experts_by)
        train(dataclasses.replace(asked, architecture=by, workdir=expert))
        asked = dataclasses.replace(asked, packs=(expert,))
    job = prepare(dataclasses.replace(asked, architecture=architecture, workdir=str(tmp_path)))
    started = {variable.path: np.array(variable) for variable in job.model.variables}
    run(job)

    assert read_trunk(trunk).fingerprint == before.fingerprint
    assert not (tmp_path / "trunk.safetensors").exists()
    for variable in job.model.variables:
        slot, owner = slot_and_owner(variable)
        if not slot.startswith("head/") and not slot.endswith(WITHOUT_GRADIENT):
            # What the domain owns has moved, by momentum, weight decay and moving statistics; the rest has not.
            start = before.tensors[slot] if owner == SHARED else started[variable.path]
            still = owner == SHARED or job.model.is_fixed(slot)
            assert np.array_equal(np.asarray(variable), start) == still, variable.path

    model, (pack,) = load_model([str(tmp_path)])
    assert pack.trunk_fingerprint == before.fingerprint and pack.accuracy is None
    images = rng.normal(size=(4, 18, 18, 3)).astype("float32")
    live, loaded = (np.asarray(one.head(one.features(images, "tiny"), domain="tiny")) for one in (job.model, model))
    np.testing.assert_array_equal(live, loaded)

    # It trained on val too: there is no val to measure on. And it stopped where it was told, within the epoch.
    (line,) = metrics_of(tmp_path)
    assert line["step"] == 3 and line.keys() == KEYS - {"val/loss", "val/accuracy"}
    assert job.pipeline.sources[0].num_examples == SIZES["train"] + SIZES["val"]


@pytest.mark.slow
def test_a_run_goes_on_from_before_a_damaged_checkpoint(config, trunk, tmp_path, capsys):
    """And ends with the same weights; a line says what it did."""
    workdir = tmp_path / "run[/red]"
    shutil.copytree(trunk, workdir)
    before, newest = sorted((workdir / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-10])
    train(dataclasses.replace(config, workdir=str(workdir)))
    said = capsys.readouterr().out.splitlines()
    (told,) = [line for line in said if line.startswith(f"{newest}: damaged, it has ")]
    assert told.endswith(f": goes on from {before}")
    assert f"wrote {workdir}/trunk.safetensors, {workdir}/packs/ucf101.safetensors" in said
    assert_same_weights(workdir, trunk)
    assert without_speed(metrics_of(workdir)) == without_speed(metrics_of(trunk))


# As processes


def command(config, workdir):
    values = {
        "domain": config.domains[0],
        "data_dir": config.data_dir,
        "workdir": workdir,
        "recipe": config.recipe,
        "width": config.architecture.width,
        "blocks_per_stage": config.architecture.blocks_per_stage,
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "image_size": config.image_size,
        "checkpoint_every": config.checkpoint_every,
        "tensorboard": str(config.tensorboard).lower(),
    }
    return [str(ROOT / "train.py"), *(f"--{name}={value}" for name, value in values.items())]


def signal_after_checkpoint(command, workdir, step, what):
    """Starts a run, sends it a signal once a checkpoint of `step` or later is there, and returns what came of it."""
    process = Command(*command)
    while max(steps_of(workdir), default=0) < step:
        assert not process.ended(0.002), process.result(0).stderr
    process.send_signal(what)
    return process.result(timeout=120)


def test_a_run_that_is_killed_goes_on_as_if_it_had_not_been(config, trunk, tmp_path, capsys):
    workdir = tmp_path / "run"
    again = command(config, workdir)
    killed = signal_after_checkpoint(again, workdir, STEPS_PER_EPOCH + 2, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    # As kills at worse moments leave it: a checkpoint half written, a line of metrics half written, or one of an
    # epoch whose checkpoint was not.
    (workdir / "checkpoints" / "step-000000099.safetensors.partial").write_bytes(b"half")
    last = metrics_of(workdir)[-1]
    with open(workdir / "metrics.jsonl", "a") as file:
        file.write(json.dumps(last | {"epoch": 9, "step": 90}) + "\n" + '{"epoch": 10, "st')

    stopped = signal_after_checkpoint(again, workdir, max(steps_of(workdir)) + 2, signal.SIGTERM)
    assert stopped.returncode == 143
    newest = workdir / "checkpoints" / f"step-{max(steps_of(workdir)):09d}.safetensors"
    assert stopped.stderr.splitlines() == [f"SIGTERM: wrote {newest}; the same command goes on from there"]
    assert not (workdir / "trunk.safetensors").exists()

    train(dataclasses.replace(config, workdir=str(workdir)))
    assert f"wrote {workdir}/trunk.safetensors, {workdir}/packs/ucf101.safetensors" in capsys.readouterr().out
    assert without_speed(metrics_of(workdir)) == without_speed(metrics_of(trunk))
    assert_same_weights(workdir, trunk)


@pytest.mark.slow
def test_without_a_flag_the_network_has_the_published_depth(config, tmp_path):
    """From flags to a pack: built, traced, trained, measured and written at the depth that nobody asked to change."""
    flags = [flag for flag in command(config, tmp_path / "run") if not flag.startswith("--blocks_per_stage=")]
    done = run_command(*flags, "--max_steps=1")
    assert done.returncode == 0, done.stderr
    model, (pack,) = load_model([str(tmp_path / "run")])
    assert pack.architecture.blocks_per_stage == 4
    assert sum("/depthwise/kernel/" in variable.path for variable in model.variables) == 25
    (line,) = metrics_of(tmp_path / "run")
    assert line["step"] == 1 and line["val/accuracy"] == pack.accuracy


def test_a_run_that_diverges_says_where_and_what_is_left(config, tmp_path, capsys):
    workdir = tmp_path / "run"
    with pytest.raises(SystemExit) as ended, report_errors():
        train(dataclasses.replace(config, workdir=str(workdir), learning_rate=1e30, checkpoint_every=1))
    assert ended.value.code == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"error: (the loss is (nan|inf)|(backbone|head)/\S+ is not finite) at step \d+; ", line)
    for step in steps_of(workdir):
        path = workdir / "checkpoints" / f"step-{step:09d}.safetensors"
        assert all(np.isfinite(value).all() for value in read_tensors(path)[0].values())
    last = workdir / "checkpoints" / f"step-{max(steps_of(workdir)):09d}.safetensors" if steps_of(workdir) else "none"
    left = "goes on from there" if steps_of(workdir) else "begins anew"
    assert f"last good checkpoint: {last}" in line and line.endswith(f" with a lower --learning_rate {left}")
    assert not (workdir / "trunk.safetensors").exists()


@pytest.mark.slow
def test_a_run_that_is_not_finished_goes_on_with_another_rate(config, tmp_path, capsys):
    """Of one epoch, whose rate is the same throughout, and therefore in its checkpoints."""
    config = dataclasses.replace(config, workdir=str(tmp_path), epochs=1, checkpoint_every=9, tensorboard=False)
    train(config)
    again = dataclasses.replace(config, learning_rate=0.5)
    with pytest.raises(ValueError, match="--learning_rate: was 0.02, now 0.5"):
        train(again)
    last = tmp_path / "checkpoints" / "step-000000010.safetensors"
    for path in (last, tmp_path / "trunk.safetensors", tmp_path / "packs" / "ucf101.safetensors"):
        path.unlink()
    capsys.readouterr()
    train(again)
    assert "the learning rate was 0.02; from now on it is 0.5\n" in capsys.readouterr().out
    assert load_config(tmp_path) == again and [line["learning_rate"] for line in metrics_of(tmp_path)] == [0.5]
    assert read_tensors(last)[0]["optimizer:sgd/learning_rate"] == 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factor", "precision", "advice"),
    [
        (1e6, "mixed_float16", "the loss is nan at step 1: .* too large for mixed_float16: --precision=float32, in "),
        # By the first update: the loss is finite, since batches are divided by what has no bounds.
        (1e12, "float32", "moving_variance/tiny is not finite at step 1: .* too large for float32: look at the trunk "),
    ],
)
def test_what_overflows_before_the_first_update_is_not_put_on_the_rate(
    factor, precision, advice, added_config, trunk, tmp_path
):
    config = on_larger_kernels(factor, added_config, trunk, tmp_path)
    with pytest.raises(FloatingPointError, match=advice):
        train(dataclasses.replace(config, precision=precision))


@pytest.mark.slow
def test_what_diverges_after_a_first_loss_of_no_sense_is_not_put_on_the_rate(added_config, trunk, tmp_path):
    """Of a method that normalises by what the trunk has seen, and not by the images at hand."""
    config = on_larger_kernels(100, added_config, trunk, tmp_path)
    architecture = dataclasses.replace(config.architecture, method="classifier_only", options=None)
    advice = r", after a loss of \de\+\d\d at step 1, at step \d+: .* too large for float32: look at the trunk "
    with pytest.raises(FloatingPointError, match=advice):
        train(dataclasses.replace(config, architecture=architecture))


def on_larger_kernels(factor, config, trunk, folder):
    tensors, header = read_tensors(trunk / "trunk.safetensors")
    large = folder / "trunk.safetensors"
    scale = np.float32(factor)
    write_tensors(large, {k: v * scale if k.endswith("kernel") else v for k, v in tensors.items()}, header)
    return dataclasses.replace(config, init_from=str(large), workdir=str(folder / "run"))

"""Runs: what they write, what they leave alone, and that killing one changes nothing."""

import dataclasses
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from small_domains import CLASSES, SIZES, write_domain
from small_network import small

from tfmdl.cli import report_errors
from tfmdl.config import RunConfig, load_config
from tfmdl.data.records import DatasetInfo
from tfmdl.domains import SHARED
from tfmdl.model import MultiDomainClassifier, slot_and_owner
from tfmdl.packs import load_model, read_pack, read_tensors, read_trunk, write_trunk
from tfmdl.sharing import METHODS
from tfmdl.training import devices
from tfmdl.training.loop import Run, train

ROOT = pathlib.Path(__file__).parents[2]
STEPS_PER_EPOCH = 10
EPOCHS = 5
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


def metrics_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def without_speed(lines):
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


@pytest.fixture(scope="module")
def config(data_dir, tmp_path_factory):
    """A trunk on a domain that the recipe gives dropout and random crops."""
    return RunConfig(
        domains=("ucf101",),
        data_dir=str(data_dir),
        workdir=str(tmp_path_factory.mktemp("runs") / "trunk"),
        architecture=small(),
        recipe="quick",
        epochs=EPOCHS,
        batch_size=4,
        learning_rate=0.02,
        image_size=16,
        checkpoint_every=3,
    )


@pytest.fixture(scope="module")
def trunk(config):
    """Folder of the finished run of `config`."""
    train(config)
    return pathlib.Path(config.workdir)


@pytest.fixture(scope="module")
def plain_trunk(config, tmp_path_factory):
    """Folder of a run that trained a little of a plain network, by a method that adds to it."""
    workdir = tmp_path_factory.mktemp("runs") / "plain"
    train(
        dataclasses.replace(
            config, workdir=str(workdir), architecture=small("parallel_adapters"), max_steps=2
        )
    )
    return workdir


@pytest.fixture(scope="module")
def added_config(config, trunk):
    """Adds a domain to `trunk` with all that could make it forget."""
    return dataclasses.replace(
        config,
        domains=("tiny",),
        init_from=str(trunk),
        workdir="",
        batch_size=8,
        learning_rate=0.1,
        weight_decay=0.1,
        max_steps=3,
        train_splits=("train", "val"),
    )


# What a run leaves


def test_a_trunk_run_leaves_all_that_it_should(trunk, config):
    assert {path.name for path in trunk.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        ".lock",
        "checkpoints",
        "train",
        "val",
        "trunk.safetensors",
        "packs",
    }
    assert [path.name for path in (trunk / "packs").iterdir()] == ["ucf101.safetensors"]
    for part in ("train", "val"):
        assert list((trunk / part).glob("events.out.tfevents.*"))
    assert load_config(trunk) == config
    newest = [f"step-{step:09d}.safetensors" for step in (48, 50)]
    assert sorted(path.name for path in (trunk / "checkpoints").iterdir()) == newest


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


def test_the_pack_tells_what_the_run_found(trunk, config):
    info = DatasetInfo.load(config.data_dir, "ucf101")
    pack = read_pack(trunk / "packs" / "ucf101.safetensors")
    assert (pack.domain, pack.label_names, pack.category_ids) == ("ucf101", info.label_names, info.category_ids)
    assert pack.architecture == config.architecture
    assert pack.accuracy == metrics_of(trunk)[-1]["val/accuracy"]
    assert pack.trunk_fingerprint == read_trunk(trunk).fingerprint
    found = pack.preprocessing
    assert (found.cover_size, found.train_size, found.size) == ((18, 18), (16, 16), (16, 16))
    # Not the published statistics: this domain has the name, but not the classes.
    assert (found.mean, found.std) == (tuple(info.pixel_mean), tuple(info.pixel_std))


def test_a_finished_run_is_finished(trunk, config):
    def contents():
        names = ("trunk.safetensors", "packs/ucf101.safetensors", "metrics.jsonl", "config.json")
        return [(trunk / name).read_bytes() for name in names]

    before = contents()
    train(config)
    assert contents() == before


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
    run = Run(dataclasses.replace(asked, architecture=architecture, workdir=str(tmp_path)))
    started = {variable.path: variable.numpy() for variable in run.model.variables}
    run.train()

    assert read_trunk(trunk).fingerprint == before.fingerprint
    assert not (tmp_path / "trunk.safetensors").exists()
    for variable in run.model.variables:
        slot, owner = slot_and_owner(variable)
        if not slot.startswith("head/") and not slot.endswith(WITHOUT_GRADIENT):
            # What the domain owns has moved, by momentum, weight decay and moving statistics; the rest has not.
            start = before.tensors[slot] if owner == SHARED else started[variable.path]
            still = owner == SHARED or run.model.is_fixed(slot)
            assert np.array_equal(variable.numpy(), start) == still, variable.path

    model, (pack,) = load_model([str(tmp_path)])
    assert pack.trunk_fingerprint == before.fingerprint and pack.accuracy is None
    images = rng.normal(size=(4, 18, 18, 3)).astype("float32")
    live, loaded = (one.head(one.features(images, "tiny"), domain="tiny").numpy() for one in (run.model, model))
    np.testing.assert_array_equal(live, loaded)

    # It trained on val too: there is no val to measure on. And it stopped where it was told, within the epoch.
    (line,) = metrics_of(tmp_path)
    assert line["step"] == 3 and line.keys() == KEYS - {"val/loss", "val/accuracy"}
    assert run.pipeline.sources[0].num_examples == SIZES["train"] + SIZES["val"]


def test_same_seed_same_run_other_seed_another(config, tmp_path):
    def start(seed):
        run = Run(dataclasses.replace(config, seed=seed, workdir=str(tmp_path / str(seed))))
        (batch,) = run.pipeline.epoch(0).take(1)
        return [variable.numpy() for variable in run.network.trainable_variables], batch["image"].numpy()

    def same(some, others):
        pairs = zip((*some[0], some[1]), (*others[0], others[1]), strict=True)
        return [np.array_equal(one, other) for one, other in pairs]

    found = []
    for seed in (1, 1, 2):
        devices.set_up(seed)  # as `train` does
        found.append(start(seed))
    assert all(same(found[0], found[1]))
    assert same(found[0], found[2]).count(False) > len(found[0][0]) // 3  # kernels and images; norms start alike


# What a run refuses


@pytest.fixture
def refused(tmp_path):
    """Expects that a configuration is refused with a message, and leaves no trace."""

    def check(config, error, message):
        workdir = tmp_path / "refused"
        with pytest.raises(error, match=message):
            train(dataclasses.replace(config, workdir=str(workdir)))
        assert not workdir.exists()

    return check


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"domains": ("nowhere",)}, FileNotFoundError, "no converted .* 'nowhere' here; there are: base, tiny, ucf101"),
        ({"init_from": "nowhere"}, FileNotFoundError, "nowhere: no such file"),
        ({"recipe": "slow"}, ValueError, "paper, quick; received 'slow'"),
        ({"architecture": small(backbone="resnet26")}, ValueError, "--backbone=resnet26_separable"),
    ],
)
def test_what_cannot_be_run_is_refused_and_leaves_no_trace(change, error, message, config, refused):
    refused(dataclasses.replace(config, **change), error, message)


def test_a_trunk_that_does_not_fit_is_refused(added_config, trunk, refused, tmp_path):
    wide = dataclasses.replace(added_config, architecture=small(width=6))
    refused(wide, ValueError, "--width: the trunk .* has 4; received 6")
    several = dataclasses.replace(added_config, domains=("tiny", "base"))
    refused(several, ValueError, "one domain at a time; received --domain=tiny,base")
    added = tmp_path / "added"
    (added / "packs").mkdir(parents=True)
    refused(dataclasses.replace(added_config, init_from=str(added)), FileNotFoundError, "has no trunk.safetensors")


def test_what_has_no_labels_is_not_trained_on(config, refused, tmp_path):
    write_domain(tmp_path, "base")
    info = DatasetInfo.load(tmp_path, "base")
    info.splits["train"] = dataclasses.replace(info.splits["train"], labelled=False, per_class=[0, 0, 0])
    info.save(tmp_path / "base")
    unlabelled = dataclasses.replace(config, data_dir=str(tmp_path), domains=("base",))
    refused(unlabelled, ValueError, "train split of 'base' has no labels")


def test_a_workdir_of_another_run_is_refused_by_what_differs(config, trunk, tmp_path):
    before = (trunk / "config.json").read_bytes()
    other = dataclasses.replace(config, seed=7, architecture=small("individual"))
    with pytest.raises(ValueError, match="another configuration") as caught:
        train(other)
    assert "--seed: was 0, now 7" in str(caught.value)
    assert "--method: was 'pointwise_sharing', now 'individual'" in str(caught.value)
    assert "--width" not in str(caught.value)

    write_domain(tmp_path, "ucf101", seed=1)
    with pytest.raises(ValueError, match="records in --data_dir"):
        train(dataclasses.replace(config, data_dir=str(tmp_path)))
    assert (trunk / "config.json").read_bytes() == before


def test_a_run_does_not_go_on_with_another_trunk(config, tmp_path):
    path = tmp_path / "trunk.safetensors"
    model = MultiDomainClassifier({"base": CLASSES["base"]}, config.architecture)
    before = write_trunk(path, model, "base")
    added = dataclasses.replace(config, domains=("tiny",), init_from=str(path), workdir=str(tmp_path / "run"))
    Run(added)  # writes config.json
    model.variables[0].assign(model.variables[0].numpy() + 1)
    after = write_trunk(path, model, "base")
    with pytest.raises(ValueError, match=f"the trunk in --init_from: was '{before}', now '{after}'"):
        Run(added)


def test_a_damaged_checkpoint_is_an_error_that_names_it(config, trunk, tmp_path):
    shutil.copytree(trunk, tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / f"step-{EPOCHS * STEPS_PER_EPOCH:09d}.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    with pytest.raises(ValueError, match=str(newest)):
        train(dataclasses.replace(config, workdir=str(tmp_path / "run")))


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
    }
    return [sys.executable, str(ROOT / "train.py"), *(f"--{name}={value}" for name, value in values.items())]


def steps_of(workdir):
    return [int(path.stem[-9:]) for path in (workdir / "checkpoints").glob("step-*.safetensors")]


def signal_after_checkpoint(command, workdir, step, what):
    """Starts a run, sends it a signal once a checkpoint of `step` or later is there, and returns the ended process."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while max(steps_of(workdir), default=0) < step:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.002)
        process.send_signal(what)
        _, process.errors = process.communicate(timeout=120)
    finally:
        process.kill()
    return process


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
    assert stopped.errors.splitlines() == [f"SIGTERM: wrote {newest}; the same command goes on from there"]
    assert not (workdir / "trunk.safetensors").exists()

    train(dataclasses.replace(config, workdir=str(workdir)))
    assert f"wrote {workdir}/trunk.safetensors, {workdir}/packs/ucf101.safetensors" in capsys.readouterr().out
    assert without_speed(metrics_of(workdir)) == without_speed(metrics_of(trunk))
    for name in ("trunk.safetensors", "packs/ucf101.safetensors", "checkpoints/step-000000050.safetensors"):
        found, wanted = (read_tensors(folder / name)[0] for folder in (workdir, trunk))
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            np.testing.assert_array_equal(found[key], value, err_msg=key)


def test_without_a_flag_the_network_has_the_published_depth(config, tmp_path):
    """From flags to a pack: built, traced, trained, measured and written at the depth that nobody asked to change."""
    flags = [flag for flag in command(config, tmp_path / "run") if not flag.startswith("--blocks_per_stage=")]
    done = subprocess.run([*flags, "--max_steps=1"], capture_output=True, text=True)
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
    assert f"last good checkpoint: {last}" in line
    assert not (workdir / "trunk.safetensors").exists()

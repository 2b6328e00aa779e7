"""A joint run that goes on in the middle of an epoch, what it measured against eval.py, and a trunk that changed."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from small_domains import CLASSES

from tfmdl.config import RunConfig
from tfmdl.evaluation.report import Request, evaluate
from tfmdl.model import Architecture, MultiDomainClassifier
from tfmdl.packs import read_packs, read_tensors, write_trunk
from tfmdl.training.loop import Run, train

DOMAINS = ("base", "tiny")


def files_of(run):
    return {
        str(path.relative_to(run)): read_tensors(path)[0] for path in sorted(run.rglob("*.safetensors"))
    }


def metrics_of(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


@pytest.fixture(scope="module")
def config(data_dir, tmp_path_factory):
    """Mixed batches of decoded images that are kept in memory: 5 steps an epoch."""
    return RunConfig(
        domains=DOMAINS,
        data_dir=str(data_dir),
        workdir=str(tmp_path_factory.mktemp("runs") / "joint"),
        architecture=Architecture(width=2),
        recipe="quick",
        epochs=1,
        batch_size=16,
        image_size=16,
        cache=True,
        checkpoint_every=3,
    )


@pytest.fixture(scope="module")
def joint(config):
    """Folder of the finished run of `config`."""
    train(config)
    return pathlib.Path(config.workdir)


def test_a_joint_run_goes_on_in_the_middle_of_an_epoch(config, joint):
    whole, metrics = files_of(joint), metrics_of(joint)
    newest = "checkpoints/step-000000005.safetensors"
    assert list(whole) == [
        "checkpoints/step-000000003.safetensors",
        newest,
        "packs/base.safetensors",
        "packs/tiny.safetensors",
        "trunk.safetensors",
    ]
    # As a kill between the last line of metrics and the last checkpoint would leave it.
    for name in (newest, "trunk.safetensors"):
        (joint / name).unlink()
    shutil.rmtree(joint / "packs")
    train(config)
    again = files_of(joint)
    assert metrics_of(joint) == metrics
    assert again.keys() == whole.keys()
    for name, tensors in whole.items():
        assert again[name].keys() == tensors.keys()
        for key, value in tensors.items():
            np.testing.assert_array_equal(again[name][key], value, err_msg=f"{name}: {key}")


def test_evaluation_measures_what_the_run_did(config, joint):
    (line,) = metrics_of(joint)
    ways = (
        {"workdirs": (str(joint),)},
        {"trunk": str(joint), "pack_paths": tuple(pack.path for pack in read_packs(joint))},
    )
    for way in ways:
        found = evaluate(Request(config.data_dir, "val", **way))
        for domain in DOMAINS:
            assert found[domain].accuracy == line[f"val/accuracy/{domain}"]
            assert found[domain].loss == pytest.approx(line[f"val/loss/{domain}"], rel=1e-4)


def test_a_run_does_not_go_on_with_another_trunk(data_dir, tmp_path):
    path = tmp_path / "trunk.safetensors"
    model = MultiDomainClassifier({"base": CLASSES["base"]}, Architecture(width=2))
    before = write_trunk(path, model, "base")
    config = RunConfig(
        ("tiny",), str(data_dir), str(tmp_path / "run"), Architecture(width=2), str(path), "quick", image_size=16
    )
    Run(config)  # config.json is there from now on
    model.variables[0].assign(np.asarray(model.variables[0]) + 1)
    after = write_trunk(path, model, "base")
    with pytest.raises(ValueError, match=f"the trunk in --init_from: was '{before}', now '{after}'"):
        Run(config)

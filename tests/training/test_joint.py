"""Several domains at once: they learn, go on in the middle of an epoch, and are measured as eval.py measures them."""

import pathlib
import shutil

import numpy as np
import pytest
from reading_runs import metrics_of, without_speed
from small_network import small

from tfmdl.config import RunConfig
from tfmdl.evaluation.evaluate import EvaluationConfig, evaluate
from tfmdl.files import read_tensors
from tfmdl.packs import load_model, read_packs, read_trunk
from tfmdl.training.loop import train

DOMAINS = ("base", "tiny")


def tensors_of(run):
    return {str(path.relative_to(run)): read_tensors(path)[0] for path in run.rglob("*.safetensors")}


@pytest.fixture(scope="module")
def config(data_dir, tmp_path_factory):
    """Mixed batches of images that are kept in memory: 5 steps per epoch."""
    return RunConfig(
        domains=DOMAINS,
        data_dir=str(data_dir),
        workdir=str(tmp_path_factory.mktemp("runs") / "joint"),
        architecture=small(),
        recipe="quick",
        epochs=4,
        batch_size=16,
        learning_rate=0.1,
        image_size=16,
        cache=True,
        checkpoint_every=3,
        tensorboard=False,
    )


@pytest.fixture(scope="module")
def joint(config):
    """Folder of the finished run of `config`."""
    train(config)
    return pathlib.Path(config.workdir)


def test_domains_train_jointly(joint):
    lines = metrics_of(joint)
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    for line in lines:
        assert {f"train/{what}" for what in ("loss", "accuracy")} | {"epoch", "learning_rate"} < line.keys()
        for what in ("loss", "accuracy"):
            mean = np.mean([line[f"val/{what}/{domain}"] for domain in DOMAINS])
            assert line[f"val/{what}"] == pytest.approx(mean)
    assert lines[-1]["train/loss"] < 0.9 * lines[0]["train/loss"]
    assert read_trunk(joint).base_domain == "base"
    model, packs = load_model([str(joint)])
    assert [pack.domain for pack in packs] == ["base", "tiny"]
    assert [pack.accuracy for pack in packs] == [lines[-1][f"val/accuracy/{domain}"] for domain in DOMAINS]
    # Each domain has moved on its own.
    kernels = next(bank for bank in model.banks() if set(bank.variable_of) == set(DOMAINS))
    assert not np.array_equal(*kernels.variables)


def test_eval_finds_what_the_run_found(config, joint):
    line = metrics_of(joint)[-1]
    packs = tuple(pack.path for pack in read_packs(joint))
    for runs in ({"workdirs": (str(joint),)}, {"trunk": str(joint), "pack_paths": packs}):
        found = evaluate(EvaluationConfig(config.data_dir, "val", **runs)).evaluations
        for domain in DOMAINS:
            assert found[domain].accuracy == line[f"val/accuracy/{domain}"]
            assert found[domain].loss == pytest.approx(line[f"val/loss/{domain}"], rel=1e-4)


@pytest.mark.slow
def test_a_joint_run_goes_on_in_the_middle_of_an_epoch(config, joint):
    tensors, metrics = tensors_of(joint), without_speed(metrics_of(joint))
    # As a kill leaves it between the last line of metrics and the checkpoint of that epoch.
    newest = joint / "checkpoints" / "step-000000020.safetensors"
    assert {path.name for path in newest.parent.iterdir()} == {"step-000000018.safetensors", newest.name}
    newest.unlink()
    (joint / "trunk.safetensors").unlink()
    shutil.rmtree(joint / "packs")
    train(config)
    assert without_speed(metrics_of(joint)) == metrics
    again = tensors_of(joint)
    assert again.keys() == tensors.keys()
    for name, values in tensors.items():
        assert again[name].keys() == values.keys()
        for key, value in values.items():
            np.testing.assert_array_equal(again[name][key], value, err_msg=f"{name}: {key}")

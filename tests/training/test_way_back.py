"""Weights that go back towards those that the steps of a run began with."""

import dataclasses
import pathlib
import shutil

import numpy as np
import pytest
from reading_runs import metrics_of, steps_of

from tfmdl import packs
from tfmdl.files import read_tensors
from tfmdl.training.loop import evaluate, train
from tfmdl.training.setup import prepare
from tfmdl.training.way_back import SHARES, WITHOUT_VAL, go_back


@pytest.fixture(scope="module")
def finetuned(added_config, tmp_path_factory):
    """Finetunes a domain so that its val images are left to choose by."""
    workdir = str(tmp_path_factory.mktemp("runs") / "finetuned")
    changes = {"recipe": "finetune", "epochs": 2, "max_steps": None, "weight_decay": None, "train_splits": ("train",)}
    return dataclasses.replace(added_config, workdir=workdir, **changes)


@pytest.fixture(scope="module")
def run(finetuned):
    train(finetuned)
    return pathlib.Path(finetuned.workdir)


def share_of_the_way(run):
    """Returns the only share at which the pack lies between start and end; the start has what is trained."""
    start = read_tensors(run / "start.safetensors")[0]
    end = read_tensors(run / "checkpoints" / f"step-{max(steps_of(run)):09d}.safetensors")[0]
    (pack,) = packs.read_packs(run)
    owned = [path for path in start if path.endswith("/tiny")]
    assert owned == list(start)

    def lies_at(share):
        return all(
            np.allclose((1 - share) * start[path] + share * end[f"network:{path}"], pack.tensors[path[: -len("/tiny")]])
            for path in owned
        )

    (share,) = [share for share in SHARES if lies_at(share)]
    return share


@pytest.mark.slow
def test_the_pack_lies_between_the_trained_head_and_the_end(run):
    assert share_of_the_way(run) in SHARES


@pytest.mark.slow
def test_val_has_no_less_accuracy_than_at_any_share(run, finetuned):
    job = prepare(finetuned)
    start = read_tensors(run / "start.safetensors")[0]
    for variable in job.network.trainable_variables:
        variable.assign(start[variable.path] + 0.1)
    lines, found = [], []

    def measured():
        evaluations = evaluate(job)
        found.append((evaluations["tiny"].accuracy, -evaluations["tiny"].loss))
        return evaluations

    chosen = go_back(job, start, measured(), measured, lines.append)["tiny"]
    assert len(found) == len(SHARES) and (chosen.accuracy, -chosen.loss) == max(found)
    assert evaluate(job)["tiny"].loss == pytest.approx(chosen.loss) and f": {chosen.accuracy:.3f}, " in lines[0]


def test_the_same_command_again_ends_with_the_same_pack(run, finetuned):
    (path,) = (run / "packs").iterdir()
    before = path.read_bytes()
    path.unlink()  # as if the run had been killed before it was written
    train(finetuned)
    assert path.read_bytes() == before and len(metrics_of(run)) == 2


@pytest.mark.slow
def test_without_val_the_share_is_given(finetuned, tmp_path):
    train(dataclasses.replace(finetuned, workdir=str(tmp_path), train_splits=("train", "val"), epochs=1))
    assert share_of_the_way(tmp_path) == WITHOUT_VAL


def test_a_run_whose_start_is_gone_says_so(run, finetuned, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    shutil.rmtree(copied / "packs")  # as if it had been killed before they were written
    (copied / "start.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="start.safetensors: no such file"):
        train(dataclasses.replace(finetuned, workdir=str(copied)))

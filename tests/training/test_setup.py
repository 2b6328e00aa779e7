"""What a run begins with is the same for the same seed; what cannot be run is refused before anything is written."""

import dataclasses

import numpy as np
import pytest
from small_domains import write_domain
from small_network import small

from tfmdl.data.records import DatasetInfo
from tfmdl.training import devices
from tfmdl.training.loop import train
from tfmdl.training.setup import prepare


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
        ({"recipe": "slow"}, ValueError, "paper, quick, finetune; received 'slow'"),
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


def test_same_seed_same_run_other_seed_another(config, tmp_path):
    def start(seed):
        job = prepare(dataclasses.replace(config, seed=seed, workdir=str(tmp_path / str(seed))))
        (batch,) = job.pipeline.epoch(0).take(1)
        return [variable.numpy() for variable in job.network.trainable_variables], batch["image"].numpy()

    def same(some, others):
        pairs = zip((*some[0], some[1]), (*others[0], others[1]), strict=True)
        return [np.array_equal(one, other) for one, other in pairs]

    found = []
    for seed in (1, 1, 2):
        devices.set_up(seed)  # as `train` does
        found.append(start(seed))
    assert all(same(found[0], found[1]))
    assert same(found[0], found[2]).count(False) > len(found[0][0]) // 3  # kernels and images; norms start alike

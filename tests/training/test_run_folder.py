"""What a run leaves in its folder, and whom it lets go on there."""

import dataclasses

import pytest
from reading_runs import metrics_of
from small_domains import CLASSES, write_domain
from small_network import small

from tfmdl.config import load_config
from tfmdl.data.records import DatasetInfo
from tfmdl.files import locked
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import read_pack, read_trunk, write_trunk
from tfmdl.training.loop import train


def test_a_trunk_run_leaves_all_that_it_should(trunk, config):
    assert {path.name for path in trunk.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        ".lock",
        "checkpoints",
        "trunk.safetensors",
        "packs",
    }
    assert [path.name for path in (trunk / "packs").iterdir()] == ["ucf101.safetensors"]
    assert load_config(trunk) == config
    newest = [f"step-{step:09d}.safetensors" for step in (48, 50)]
    assert sorted(path.name for path in (trunk / "checkpoints").iterdir()) == newest


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


@pytest.mark.slow
def test_a_run_does_not_go_on_with_another_trunk(config, tmp_path):
    path = tmp_path / "trunk.safetensors"
    model = MultiDomainClassifier({"base": CLASSES["base"]}, config.architecture)
    before = write_trunk(path, model, "base")
    workdir = str(tmp_path / "run")
    added = dataclasses.replace(config, domains=("tiny",), init_from=str(path), workdir=workdir, max_steps=1)
    train(added)
    model.variables[0].assign(model.variables[0].numpy() + 1)
    after = write_trunk(path, model, "base")
    with pytest.raises(ValueError, match=f"the trunk in --init_from: was '{before}', now '{after}'"):
        train(added)


def test_a_run_at_work_keeps_its_configuration(config, trunk):
    """Even from one that would go on with it."""
    before = (trunk / "config.json").read_bytes()
    with locked(trunk, "run"), pytest.raises(ValueError, match=f"{trunk}: another run is at work in it"):
        train(dataclasses.replace(config, checkpoint_every=7))
    assert (trunk / "config.json").read_bytes() == before

"""What a campaign plans: each run once, in an order in which it finds what it needs."""

import json
import pathlib
import shlex

import pytest

from tfmdl.campaign.costs import Costs, duration
from tfmdl.campaign.plan import CampaignConfig, claim, plan, rows_of
from tfmdl.sharing import METHODS


@pytest.fixture
def config(data_dir, tmp_path):
    """Returns a function that makes a campaign on the small domains."""

    def make(**changes):
        fields = {"base": "base", "domains": ("ucf101", "tiny"), "methods": tuple(METHODS), "recipe": "quick"}
        return CampaignConfig(str(data_dir), str(tmp_path / "campaign"), **{**fields, **changes})

    return make


def test_every_run_comes_after_what_it_needs(config):
    runs = plan(config(seeds=(0, 3), options={"soft_layers": ("all", "first:2")}))
    folders = [run.workdir for run in runs]
    assert len(set(folders)) == len(folders)
    for index, run in enumerate(runs):
        assert set(run.needs) <= set(folders[:index]), run.name
    # Three trunks; nine methods and soft sharing in some layers on two domains; twice.
    assert len(runs) == 2 * (3 + (len(METHODS) + 1) * 2)
    assert {run.seed for run in runs} == {0, 3}


def test_methods_share_the_trunks_that_they_can_start_from(config):
    runs = {(run.row, run.domain): run for run in plan(config())}
    assert runs["individual", "tiny"].needs == runs["pointwise_sharing", "tiny"].needs
    assert runs["dan", "tiny"].needs == runs["piggyback", "tiny"].needs
    assert len({runs[row, "tiny"].needs[0] for row in ("individual", "dan", "serial_adapters")}) == 3


def test_soft_sharing_starts_from_the_packs_of_all_domains(config):
    run = next(run for run in plan(config(options={"soft_layers": ("last:2",)})) if run.method == "soft_sharing")
    packs = [f"{run.workdir.parents[1]}/pointwise_sharing/{domain}" for domain in ("ucf101", "tiny")]
    assert {"--soft_layers=last:2", f"--packs={','.join(packs)}"} <= set(run.flags)
    assert set(map(pathlib.Path, packs)) < set(run.needs)
    with pytest.raises(ValueError, match="soft_sharing starts from the packs of pointwise_sharing"):
        plan(config(methods=("soft_sharing",)))


def test_commands_say_what_was_asked_for(config):
    asked = config(
        methods=("individual",),
        epochs=3,
        base_epochs=5,
        backbone="resnet26",
        train_splits=("train", "val"),
        train_flags=("--width=4",),
    )
    trunk, added, _ = (shlex.split(run.command())[2:] for run in plan(asked))
    both = {"--recipe=quick", "--backbone=resnet26", "--train_splits=train,val", "--width=4", "--seed=0"}
    assert both | {"--domain=base", "--epochs=5"} <= set(trunk)
    assert both | {"--domain=ucf101", "--epochs=3", "--method=individual"} <= set(added)
    assert [run.images for run in plan(asked)] == [5 * 53, 3 * 53, 3 * 53]


def test_heads_on_kept_features_are_as_long_as_the_recipe_says(config):
    methods = ("classifier_only", "pointwise_sharing")
    asked = {"base": None, "init_from": "imagenet", "recipe": "finetune", "methods": methods, "epochs": 3}
    heads, others = ([run for run in plan(config(**asked)) if run.method == method] for method in methods)
    assert heads and not [run for run in heads if "--epochs=3" in run.flags]
    assert others and all("--epochs=3" in run.flags for run in others)
    assert all(head.images * 3 == other.images for head, other in zip(heads, others, strict=True))


def test_rows_are_in_the_order_of_the_methods(config):
    rows = rows_of(config(methods=("soft_sharing", "pointwise_sharing"), options={"soft_layers": ("all", "first:8")}))
    assert [row.name for row in rows] == ["soft_sharing", "soft_sharing-first8", "pointwise_sharing"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"domains": ()}, "--domains must name at least one"),
        ({"domains": ("tiny", "tiny")}, "--domains must name at least one, each once; received 'tiny,tiny'"),
        ({"domains": ("tiny", "base")}, "--domains names 'base', which is the base domain"),
        ({"methods": ("lora",)}, "--methods must be of .*individual.*; received 'lora'"),
        ({"seeds": (1, 1)}, "--seeds must name at least one, each once"),
    ],
)
def test_bad_campaigns_are_refused(config, changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--method=dan"], "the campaign sets --method for each of its runs; received --method=dan"),
        (["--width=4", "-domain", "base"], "the campaign sets --domain for each of its runs; received -domain"),
        (["--packs", "runs"], "the campaign sets --packs for each of its runs"),
        (["--epochs=2"], "the campaign sets --epochs for each of its runs"),
        (["--cache", "photos"], "unexpected argument 'photos': flags are --name=value"),
        (["--", "--cache"], "unexpected argument '--'"),
    ],
)
def test_what_train_cannot_be_handed_is_refused(config, given, message):
    with pytest.raises(ValueError, match=message):
        plan(config(methods=("individual",), train_flags=tuple(given)))


def test_a_folder_takes_one_campaign_which_may_grow(config):
    claim(config(domains=("tiny",)))
    claim(config(domains=("tiny", "ucf101"), seeds=(0, 1)))
    with pytest.raises(ValueError, match=r"(?s)other settings.*--epochs: was None, now 7"):
        claim(config(epochs=7))


def test_costs_are_learned_from_finished_runs(config):
    runs = plan(config(methods=("individual", "dan")))
    assert Costs(runs).seconds(runs) is None
    first = runs[0]
    first.pack.parent.mkdir(parents=True)
    first.pack.touch()
    lines = [{"epoch": 1, "step": 5, "images_per_second": 10}, {"epoch": 2, "step": 10, "images_per_second": 40}]
    (first.workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines * 2))
    costs = Costs(runs)
    assert costs.seconds([]) == 0
    one, all_but_first = costs.seconds([runs[1]]), costs.seconds(runs[1:])
    assert one == pytest.approx(20 + runs[1].images / 25)
    assert all_but_first > one


def test_epochs_of_kept_features_say_nothing_of_images(config):
    methods = ("classifier_only", "pointwise_sharing")
    runs = plan(config(base=None, init_from="imagenet", recipe="finetune", methods=methods))
    head, other = runs[0], runs[-1]
    for run, rate in ((head, 5000), (other, 50)):
        assert Costs(runs).seconds([other]) is None
        run.pack.parent.mkdir(parents=True)
        run.pack.touch()
        line = {"epoch": 1, "step": 5, "images_per_second": rate}
        (run.workdir / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert Costs(runs).seconds([other]) == pytest.approx(20 + other.images / 50)
    assert Costs(runs).seconds([head]) == pytest.approx(20 + head.images / 5000)


def test_durations():
    assert [duration(seconds) for seconds in (7, 300, 7260)] == ["7 s", "5 min", "2 h 01 min"]

"""Soft sharing as a user runs it: from trained packs to a run, its evaluation, an export; and what it refuses."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
from small_domains import SIZES, write_domain
from small_network import small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from faults.commands import run_command
from tfmdl.architecture import Architecture
from tfmdl.cli import table_console
from tfmdl.config import RunConfig, load_config
from tfmdl.data.pipeline import Source, evaluation_batches
from tfmdl.data.records import DatasetInfo
from tfmdl.evaluation.evaluate import EvaluationConfig, evaluate
from tfmdl.evaluation.save import save
from tfmdl.evaluation.show import show
from tfmdl.files import read_tensors, write_tensors
from tfmdl.model import slot_and_owner
from tfmdl.packs import load_model, read_packs, read_trunk
from tfmdl.serving.source import from_export, from_runs
from tfmdl.serving.writer import Options, write_export
from tfmdl.training.loop import train
from tfmdl.training.setup import prepare

pytestmark = pytest.mark.slow  # all of it is about runs that go on from other runs

ROOT = pathlib.Path(__file__).parents[1]
ARCHITECTURE = Architecture(width=4, blocks_per_stage=1)
SOFT = small("soft_sharing", soft_layers="last:5")
LAYERS = ["stage1_block1/conv2", *(f"stage{stage}_block1/conv{i}" for stage in (2, 3) for i in (1, 2))]
EXPERTS = ["base", "tiny", "ucf101"]


@pytest.fixture(scope="module")
def runs(data_dir, tmp_path_factory):
    """Folder of a trunk's run, of two that pointwise sharing added, and of soft sharing for one of them."""
    folder = tmp_path_factory.mktemp("runs")
    base = RunConfig(
        domains=("base",),
        data_dir=str(data_dir),
        workdir=str(folder / "base"),
        architecture=ARCHITECTURE,
        recipe="quick",
        epochs=1,
        batch_size=8,
        learning_rate=0.05,
        image_size=16,
        tensorboard=False,
    )
    train(base)
    added = dataclasses.replace(base, init_from=str(folder / "base"))
    for domain in ("tiny", "ucf101"):
        train(dataclasses.replace(added, domains=(domain,), workdir=str(folder / domain)))
    train(soft_config(added, folder))
    return folder


def soft_config(added, folder, **options):
    fields = {
        "domains": ("tiny",),
        "workdir": str(folder / "soft"),
        "init_from": str(folder / "base"),
        "packs": (str(folder / "ucf101"), str(folder / "tiny")),
        "architecture": SOFT,
        "epochs": 2,
        "checkpoint_every": 4,
        "tensorboard": True,  # which shows the gates
    }
    return dataclasses.replace(added, **{**fields, **options})


@pytest.fixture
def config(runs):
    return load_config(runs / "soft")


@pytest.fixture
def copied(runs, config, tmp_path):
    """The runs and the configuration of soft sharing elsewhere, to be spoiled."""
    shutil.copytree(runs, tmp_path / "runs")
    return soft_config(config, tmp_path / "runs")


def only_pack(workdir):
    (pack,) = read_packs(workdir)
    return pack


# What a run does


def test_a_run_starts_from_its_own_pack_and_the_kernels_of_all(runs, config, tmp_path):
    job = prepare(dataclasses.replace(config, workdir=str(tmp_path)))
    pack_of = {domain: only_pack(runs / domain) for domain in ("tiny", "ucf101")}
    trunk = read_trunk(runs / "base")
    assert list(job.model.gated_layers()) == LAYERS
    assert list(job.model.method.experts) == EXPERTS
    for variable in job.model.variables:
        slot, owner = slot_and_owner(variable)
        if job.model.is_addition(slot):
            assert variable.trainable
            continue
        wanted = pack_of[owner].tensors if owner in pack_of else trunk.tensors
        np.testing.assert_array_equal(variable.numpy(), wanted[slot], err_msg=variable.path)
    last = "backbone/stage3_block1/conv2/pointwise/kernel"
    trained = {slot_and_owner(v) for v in job.model.trainable_variables if not job.model.is_addition(v.path)}
    assert {slot for slot, _ in trained if "kernel" in slot} == {last, "head/kernel"}
    assert {owner for _, owner in trained} == {"tiny"}


def test_a_run_says_what_it_mixed(runs, config):
    written = json.loads((runs / "soft" / "config.json").read_text())
    assert written["run"]["packs"] == [str(runs / "ucf101"), str(runs / "tiny")]
    assert written["run"]["architecture"]["soft_layers"] == "last:5"
    fingerprints = {domain: only_pack(runs / domain).fingerprint for domain in ("tiny", "ucf101")}
    assert written["experts"] == fingerprints
    assert {expert.domain: expert.fingerprint for expert in only_pack(runs / "soft").experts} == fingerprints


def test_gates_are_in_tensorboard_at_each_evaluation(runs):
    events = EventAccumulator(str(runs / "soft" / "val"), {"tensors": 0}).Reload()
    tags = {tag for tag in events.Tags()["tensors"] if tag.startswith("gates/")}
    assert tags == {f"gates/tiny/{expert}" for expert in EXPERTS}
    found = {tag: [make_ndarray(event.tensor_proto) for event in events.Tensors(tag)] for tag in tags}
    assert {len(values) for values in found.values()} == {2}
    assert sum(values[1] for values in found.values()) == pytest.approx(1.0, abs=1e-5)
    assert [event.step for event in events.Tensors("gates")] == [5, 10]
    history, _ = read_tensors(runs / "soft" / "train" / "history.safetensors")
    assert history["gates/tiny"].shape == (2, len(LAYERS), len(EXPERTS))
    np.testing.assert_allclose(history["gates/tiny"].sum(axis=-1), 1, atol=1e-5)
    assert not history["moved/tiny/depthwise"].any()  # of layers that do not mix: they are frozen
    assert (history["moved/tiny/pointwise"][:, :-1] == 0).all() and history["moved/tiny/pointwise"][:, -1].all()


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(runs, copied):
    """As a kill in the second epoch leaves it: the last checkpoint and the pack are not there."""
    workdir = pathlib.Path(copied.workdir)
    whole = only_pack(workdir)
    shutil.rmtree(workdir / "packs")
    *_, before_last, last = sorted((workdir / "checkpoints").iterdir())
    assert [path.name for path in (before_last, last)] == [f"step-{step:09d}.safetensors" for step in (8, 10)]
    last.unlink()
    train(copied)
    again = only_pack(workdir)
    assert again.tensors.keys() == whole.tensors.keys()
    for slot, value in whole.tensors.items():
        np.testing.assert_array_equal(again.tensors[slot], value, err_msg=slot)
    # It wrote where the packs are now.
    assert {expert.path for expert in again.experts} == {
        str(pathlib.Path(path, "packs", f"{pathlib.Path(path).name}.safetensors")) for path in copied.packs
    }


def test_a_run_does_not_go_on_with_other_experts(copied):
    path = pathlib.Path(copied.packs[0], "packs", "ucf101.safetensors")
    before = only_pack(copied.packs[0]).fingerprint
    tensors, header = read_tensors(path)
    tensors["backbone/stem_conv/depthwise/kernel"] += 1
    write_tensors(path, tensors, header)
    after = only_pack(copied.packs[0]).fingerprint
    with pytest.raises(ValueError, match=f"experts in --packs: was .*{before}.*, now .*{after}"):
        train(copied)


# What a run refuses


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"packs": ()}, "--method=soft_sharing goes on from .*pointwise_sharing .*--init_from.*--packs"),
        ({"init_from": None}, "--method=soft_sharing goes on from .*pointwise_sharing .*--init_from.*--packs"),
        ({"architecture": ARCHITECTURE}, "--packs are for a method that mixes them.*--method=pointwise_sharing"),
        (
            {"architecture": small("soft_sharing", soft_layers="first:8")},
            "`soft_layers` must not ask for more than the 7 .*'first:8'",
        ),
        (
            {"architecture": small("soft_sharing", soft_layers="last:5", share_last_pointwise=True)},
            "ucf101.safetensors has .*share_last_pointwise=False.*; wanted is .*share_last_pointwise=True",
        ),
        ({"domains": ("base",)}, "--packs must have a pack of --domain=base itself"),
    ],
)
def test_what_cannot_be_run_is_refused_and_leaves_no_trace(change, message, config, tmp_path):
    workdir = tmp_path / "refused"
    with pytest.raises(ValueError, match=message):
        train(dataclasses.replace(config, **{"workdir": str(workdir), **change}))
    assert not workdir.exists()


def test_a_pack_of_other_classes_is_refused(config, tmp_path):
    write_domain(tmp_path, "tiny")
    info = dataclasses.replace(DatasetInfo.load(tmp_path, "tiny"), label_names=["one", "two"])
    info.save(tmp_path / "tiny")
    with pytest.raises(ValueError, match="tiny.safetensors was trained on other classes than .* has for 'tiny'"):
        train(dataclasses.replace(config, data_dir=str(tmp_path), workdir=str(tmp_path / "run")))


def test_the_command_refuses_with_one_line(runs, data_dir, tmp_path):
    flags = (
        "--domain=tiny --method=soft_sharing --width=4 --blocks_per_stage=1 --soft_layers=last:9 "
        f"--data_dir={data_dir} --workdir={tmp_path / 'run'} --init_from={runs / 'base'} --packs={runs / 'tiny'}"
    )
    done = run_command("train.py", *flags.split(), cwd=ROOT)
    assert done.returncode == 1 and not (tmp_path / "run").exists()
    assert done.stderr.startswith("error: `soft_layers`") and done.stderr.count("\n") == 1, done.stderr


# What its pack is good for


def test_evaluation_alone_and_mixed_tells_the_gates(runs, data_dir, tmp_path, capsys):
    domains = {"base": "base", "soft": "tiny", "ucf101": "ucf101"}
    folders = tuple(str(runs / name) for name in domains)
    outputs = [tmp_path / name for name in ("alone.json", "mixed.json")]
    alone = evaluate(EvaluationConfig(str(data_dir), "val", workdirs=(str(runs / "soft"),)))
    show(alone, table_console())
    assert "mean gate in %" in capsys.readouterr().out
    mixed = evaluate(EvaluationConfig(str(data_dir), "val", trunk=folders[0], pack_paths=folders))
    for result, output in zip((alone, mixed), outputs, strict=True):
        save(result, output)
    alone, mixed = alone.evaluations, mixed.evaluations
    assert only_pack(runs / "soft").accuracy == alone["tiny"].accuracy == mixed["tiny"].accuracy
    assert mixed["tiny"].loss == pytest.approx(alone["tiny"].loss, abs=1e-5)
    of_alone, of_mixed = (json.loads(output.read_text())["gates"] for output in outputs)
    assert list(of_mixed) == list(domains.values())
    for first, second in zip(of_alone["tiny"], of_mixed["tiny"], strict=True):
        assert first["layer"] == second["layer"] and list(first["experts"]) == EXPERTS
        assert first["experts"] == pytest.approx(second["experts"], abs=1e-5)
    for domain in ("base", "ucf101"):
        for layer, entry in zip(LAYERS, of_mixed[domain], strict=True):
            assert entry == {"layer": layer, "experts": {expert: float(expert == domain) for expert in EXPERTS}}

    # The mean over images, by hand.
    model, (pack,) = load_model([str(runs / "soft")])
    source = Source.of(str(data_dir), DatasetInfo.load(data_dir, "tiny"), ("val",), pack.preprocessing)
    (batch,) = evaluation_batches([source], 99)
    (_, gates) = model.tower("tiny", gates=True)(batch["image"])
    assert gates.shape == (SIZES["val"], len(LAYERS), len(EXPERTS))
    wanted = np.asarray(gates).mean(axis=0)
    found = [list(entry["experts"].values()) for entry in of_alone["tiny"]]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_table_without_soft_sharing_has_no_gates(runs, data_dir, tmp_path, capsys):
    output = tmp_path / "evaluation.json"
    result = evaluate(EvaluationConfig(str(data_dir), "val", workdirs=(str(runs / "tiny"),)))
    save(result, output)
    show(result, table_console())
    assert "gates" not in json.loads(output.read_text())
    assert "gate" not in capsys.readouterr().out


def test_experts_that_have_moved_are_named_by_a_flag(copied, data_dir, tmp_path):
    """The run's pack still says where they were when it was trained: there nothing is any more."""
    runs = pathlib.Path(copied.workdir).parent
    path = runs / "soft" / "packs" / "tiny.safetensors"
    tensors, header = read_tensors(path)
    for expert in header["experts"]:
        expert["path"] = str(tmp_path / "gone" / f"{expert['domain']}.safetensors")
    write_tensors(path, tensors, header)
    with pytest.raises(FileNotFoundError, match=f"{path} mixes .*'tiny' .*{tmp_path}/gone/tiny.*--expert_packs"):
        load_model([str(runs / "soft")])
    config = EvaluationConfig(str(data_dir), "val", workdirs=(copied.workdir,), expert_paths=copied.packs)
    assert evaluate(config).evaluations["tiny"].accuracy == only_pack(runs / "soft").accuracy


def test_an_export_answers_as_the_model_does_and_is_not_taken_apart(runs, tmp_path):
    """The export compares itself with the live model: it raises where they differ."""
    source = from_runs(trunk=str(runs / "base"), pack_paths=[str(runs / "base"), str(runs / "soft")])
    done = write_export(source, tmp_path, Options())
    assert 0 <= done.difference <= Options().allowed
    assert {"classify_base", "classify_tiny"} < set(done.signatures)
    with pytest.raises(ValueError, match="--from_export: .* is of method soft_sharing.*export from the runs again"):
        from_export(tmp_path)

"""What eval.py measures and writes: alone and in mixed batches, with labels and without."""

import dataclasses
import json
import pathlib
import shutil
import zipfile

import numpy as np
import pytest
from small_domains import CLASSES, SIZES
from small_network import small

from faults.commands import run_command
from tfmdl.cli import table_console
from tfmdl.config import RunConfig
from tfmdl.data.preprocessing import Preprocessing
from tfmdl.data.records import DatasetInfo
from tfmdl.evaluation.evaluate import EvaluationConfig, evaluate
from tfmdl.evaluation.save import save
from tfmdl.evaluation.show import show
from tfmdl.evaluation.submission import write_submission
from tfmdl.files import read_tensors, write_json, write_tensors
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import write_pack, write_trunk

ROOT = pathlib.Path(__file__).parents[2]
DOMAINS = ("base", "tiny")


def write_runs(folder, data_dir, size_of_tiny=18):
    """Writes a run for each domain of an untrained model, whose predictions are of all classes."""
    random = np.random.default_rng(0)
    model = MultiDomainClassifier({domain: CLASSES[domain] for domain in DOMAINS}, small())
    for variable in model.variables:
        if "kernel" in variable.path:
            variable.assign(np.asarray(variable) * random.uniform(0.5, 1.5, variable.shape))
    fingerprint = write_trunk(folder / "base" / "trunk.safetensors", model, "base")
    for domain in DOMAINS:
        info = DatasetInfo.load(data_dir, domain)
        side = size_of_tiny if domain == "tiny" else 18
        write_pack(
            folder / domain / "packs" / f"{domain}.safetensors",
            model,
            domain,
            label_names=info.label_names,
            category_ids=info.category_ids,
            preprocessing=Preprocessing(side, side, 16, 16, tuple(info.pixel_mean), tuple(info.pixel_std)),
            trunk_fingerprint=fingerprint,
            accuracy=None,
        )
        init_from = None if domain == "base" else str(folder / "base")
        config = RunConfig((domain,), str(data_dir), str(folder / domain), init_from=init_from)
        write_json(folder / domain / "config.json", {"run": config.to_json()})
    return folder


@pytest.fixture(scope="module")
def runs(data_dir, tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("runs"), data_dir)


@pytest.fixture
def config_of(runs, data_dir):
    """Returns a function that says what to evaluate of the runs: by their folders, or composed."""

    def make(split, composed=False, **options):
        folders = tuple(str(runs / domain) for domain in DOMAINS)
        which = {"trunk": folders[0], "pack_paths": folders} if composed else {"workdirs": folders}
        return EvaluationConfig(str(data_dir), split, **which, **options)

    return make


def test_mixed_batches_give_what_each_domain_gives_alone(config_of, tmp_path):
    outputs = [str(tmp_path / name) for name in ("alone.json", "mixed.json")]
    results = [evaluate(config_of("val", composed=composed)) for composed in (False, True)]
    for result, output in zip(results, outputs, strict=True):
        save(result, output)
    alone, mixed = (result.evaluations for result in results)
    for domain in DOMAINS:
        assert alone[domain].total == SIZES["val"]
        np.testing.assert_array_equal(alone[domain].confusion, mixed[domain].confusion)
        assert alone[domain].loss == pytest.approx(mixed[domain].loss, abs=1e-5)
    first, second = (json.loads(pathlib.Path(output).read_text()) for output in outputs)
    assert first["split"] == second["split"] == "val"
    assert second["parameters"]["total"] > second["parameters"]["shared"] > 0
    for domain, entry in first["domains"].items():
        assert entry.keys() == {"accuracy", "correct", "total", "loss", "per_class"}
        assert entry["accuracy"] == entry["correct"] / entry["total"]
        assert list(entry["per_class"]) == [f"{domain} {label}" for label in range(CLASSES[domain])]
        assert sum(one["correct"] for one in entry["per_class"].values()) == entry["correct"]


def test_without_labels_there_are_predictions_and_no_accuracy(config_of, data_dir, tmp_path):
    with pytest.raises(ValueError, match="base, tiny has no labels.*--labels_dir.*--submission"):
        evaluate(config_of("test"))
    path = tmp_path / "results.json"
    result = evaluate(config_of("test"), labels_required=False)
    assert result.evaluations == {}
    write_submission(path, result.predictions)
    entries = json.loads(path.read_text())
    wanted = {}
    for domain in DOMAINS:
        for line in labels_of(data_dir, domain):
            wanted[line["image_id"]] = DatasetInfo.load(data_dir, domain).category_ids
    assert sorted(entry["image_id"] for entry in entries) == sorted(wanted)
    assert all(entry.keys() == {"image_id", "category_id"} for entry in entries)
    assert all(entry["category_id"] in wanted[entry["image_id"]] for entry in entries)


def labels_of(data_dir, domain):
    return json.loads((data_dir / domain / "labels" / f"{domain}_test.json").read_text())["annotations"]


def test_labels_and_predictions_are_joined_by_image(config_of, data_dir, tmp_path):
    """Scored by hand from the submission, whatever the order of either file."""
    labels, path = tmp_path / "labels", tmp_path / "results.zip"
    labels.mkdir()
    for domain in DOMAINS:
        (labels / f"{domain}_test.json").write_text(json.dumps({"annotations": labels_of(data_dir, domain)[::-1]}))
    result = evaluate(config_of("test", composed=True, labels_dir=str(labels)))
    found = result.evaluations
    write_submission(path, result.predictions)
    with zipfile.ZipFile(path) as archive:
        predicted = {e["image_id"]: e["category_id"] for e in json.loads(archive.read("results.json"))}
    for domain in DOMAINS:
        hits = [predicted[line["image_id"]] == line["category_id"] for line in labels_of(data_dir, domain)]
        assert (found[domain].correct, found[domain].total) == (sum(hits), SIZES["test"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda lines: lines[1:], "no label for image"),
        (lambda lines: [{**lines[0], "category_id": 5}, *lines[1:]], "category 5, which domain 'base' does not have"),
        (lambda lines: [{"image_id": 1}], "not COCO-like"),
    ],
)
def test_labels_that_do_not_fit_are_refused(spoil, message, config_of, data_dir, tmp_path):
    for domain in DOMAINS:
        lines = labels_of(data_dir, domain)
        spoiled = spoil(lines) if domain == "base" else lines
        (tmp_path / f"{domain}_test.json").write_text(json.dumps({"annotations": spoiled}))
    with pytest.raises(ValueError, match=message):
        evaluate(config_of("test", labels_dir=str(tmp_path)))


def test_evaluating_says_and_writes_nothing(config_of, data_dir, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = evaluate(config_of("val"))
    assert capsys.readouterr() == ("", "") and not list(tmp_path.iterdir())
    show(result, table_console())
    assert "accuracy %" in capsys.readouterr().out


def test_a_domain_of_another_size_is_not_mixed(config_of, data_dir, tmp_path):
    folder = write_runs(tmp_path, data_dir, size_of_tiny=24)
    folders = tuple(str(folder / domain) for domain in DOMAINS)
    mixed = dataclasses.replace(config_of("val", composed=True), trunk=folders[0], pack_paths=folders)
    with pytest.raises(ValueError, match="'tiny': \\(24, 24\\)"):
        evaluate(mixed)
    assert set(evaluate(EvaluationConfig(str(data_dir), "val", workdirs=folders)).evaluations) == set(DOMAINS)


def test_so_many_batches_are_evaluated_as_are_asked_for(config_of, monkeypatch):
    monkeypatch.setattr("tfmdl.evaluation.predict.BATCH_SIZE", 5)
    found = evaluate(dataclasses.replace(config_of("val"), batches=2, wrong=SIZES["val"], right=SIZES["val"]))
    for domain in DOMAINS:
        assert found.evaluations[domain].total == len(found.wrong[domain]) + len(found.right[domain]) == 10


def test_two_runs_of_one_domain_are_refused(config_of):
    config = config_of("val")
    with pytest.raises(ValueError, match="2 runs of domain 'base'"):
        evaluate(dataclasses.replace(config, workdirs=(config.workdirs[0],) * 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "val", "labels_dir": "labels"}, "--labels_dir is for --split=test; received --split=val"),
        ({"trunk": "trunk"}, "either --workdir, or --trunk and --packs; received both"),
        ({"workdirs": ()}, "either --workdir, or --trunk and --packs"),
        ({"workdirs": (), "trunk": "trunk", "batches": 2}, "`batches` is for `workdirs`; received batches=2"),
        ({"split": "final"}, "domain 'base' in .* has no split 'final'; it has train, val, test"),
    ],
)
def test_what_cannot_be_asked_together_is_refused(change, message, config_of):
    with pytest.raises(ValueError, match=message):
        evaluate(dataclasses.replace(config_of("val"), **change))


def test_data_of_other_classes_is_refused(config_of, data_dir, tmp_path):
    """The same domain name on other data: its labels would be scored against the wrong names."""
    shutil.copytree(data_dir, tmp_path / "data")
    info = DatasetInfo.load(tmp_path / "data", "tiny")
    dataclasses.replace(info, label_names=info.label_names[::-1]).save(tmp_path / "data" / "tiny")
    with pytest.raises(ValueError, match="tiny.safetensors was trained on other classes than .*/data has for 'tiny'"):
        evaluate(dataclasses.replace(config_of("val"), data_dir=str(tmp_path / "data")))


def test_classes_of_one_name_are_told_apart(runs, data_dir, tmp_path):
    """As cranes are, the birds and the machines."""
    shutil.copytree(data_dir, tmp_path / "data")
    shutil.copytree(runs, tmp_path / "runs")
    info = dataclasses.replace(DatasetInfo.load(data_dir, "tiny"), label_names=["crane", "crane"])
    info.save(tmp_path / "data" / "tiny")
    path = tmp_path / "runs" / "tiny" / "packs" / "tiny.safetensors"
    tensors, header = read_tensors(path)
    write_tensors(path, tensors, header | {"label_names": info.label_names})
    output, workdir = tmp_path / "evaluation.json", str(tmp_path / "runs" / "tiny")
    save(evaluate(EvaluationConfig(str(tmp_path / "data"), "val", workdirs=(workdir,))), output)
    per_class = json.loads(output.read_text())["domains"]["tiny"]["per_class"]
    assert {key: entry["total"] for key, entry in per_class.items()} == {"crane (70)": 7, "crane (80)": 6}


@pytest.mark.parametrize("composed", [False, True])
def test_an_answer_that_is_not_finite_is_refused_by_domain_and_image(composed, runs, data_dir, tmp_path):
    """Of weights that are: an accuracy would be a number like any other."""
    shutil.copytree(runs, tmp_path / "runs")
    path = tmp_path / "runs" / "tiny" / "packs" / "tiny.safetensors"
    tensors, header = read_tensors(path)
    for slot, value in tensors.items():
        if slot.endswith("/beta"):
            value += 10  # so that no feature is near zero, whatever the initial weights are
    tensors["head/kernel"][:] = 3e38
    write_tensors(path, tensors, header)
    folders = tuple(str(tmp_path / "runs" / domain) for domain in DOMAINS)
    which = {"trunk": folders[0], "pack_paths": folders} if composed else {"workdirs": folders}
    told = r"domain 'tiny': the network's answer to image \d+ is not finite .*: the images, or the weights of "
    told += rf"({folders[0]}, .*, )?{path}, are too large"
    with pytest.raises(FloatingPointError, match=told):
        evaluate(EvaluationConfig(str(data_dir), "val", **which))


def test_the_command(runs, data_dir, tmp_path):
    """A table and a file; and one line for what cannot be scored."""

    def run(*flags):
        return run_command("eval.py", f"--workdir={runs / 'tiny'}", f"--data_dir={data_dir}", *flags, cwd=ROOT)

    output = tmp_path / f"{'long' * 40}.json"  # a name to be copied from the screen whole
    picture = tmp_path / "mistakes-tiny.png"
    done = run("--split=val", f"--output={output}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and "accuracy %" in done.stdout and f"wrote {output}\n" in done.stdout
    assert list(json.loads(output.read_text())["domains"]) == ["tiny"]
    assert f"wrote {picture}\n" in done.stdout and picture.is_file()
    refused = run("--split=test")
    assert refused.returncode == 1 and refused.stdout == ""
    assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1

"""`python -m tfmdl.score`: its files, and what it refuses."""

import json

import pytest

from faults.commands import run_command
from tfmdl.architecture import Architecture
from tfmdl.data.preprocessing import Preprocessing
from tfmdl.evaluation.decathlon import read_percentages
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import write_pack
from tfmdl.score import accuracies_of_runs, parse_sizes, scores_of


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "file.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


@pytest.mark.parametrize("content", ["no json", "[1, 2]", {"a": "high"}, {"a": [99]}, {"a": 101}, {"a": -1}])
def test_a_file_that_is_not_percentages_is_refused_by_name(content, written):
    with pytest.raises(ValueError, match=r"file\.json"):
        read_percentages(written(content))


@pytest.mark.parametrize("item", ["gtsrb", "gtsrb:", "gtsrb:x", "gtsrb:0", "gtsrb:-3"])
def test_a_size_that_is_none_is_refused(item):
    with pytest.raises(ValueError, match="--test_sizes must be DOMAIN:NUMBER"):
        parse_sizes(["svhn:10", item])


def test_other_domains_are_scored_against_given_baselines():
    scores = scores_of({"mine": 0.9, "gtsrb": 0.9}, {"mine": 0.8, "gtsrb": 0.8}, {"mine": 100})
    assert scores["mine"].points == scores["gtsrb"].points == pytest.approx(562.5)
    assert scores["mine"].upper > scores["gtsrb"].upper  # gtsrb has its own, larger, number of test images


@pytest.mark.parametrize(
    ("accuracies", "baselines", "sizes", "message"),
    [
        ({"mine": 0.9}, None, {}, "'mine' is not one of the Visual Decathlon"),
        ({"mine": 0.9}, {}, {}, "no accuracy for domain 'mine'"),
        ({"mine": 0.9}, {"mine": 0.5}, {}, "add --test_sizes=mine:NUMBER"),
        ({"mine": 0.9}, {"mine": 1.0}, {"mine": 9}, "'mine' has 100"),
        ({"gtsrb": 0.9}, None, {"gtsbr": 9}, "--test_sizes names 'gtsbr'"),
        ({}, None, {}, "no accuracies"),
    ],
)
def test_what_cannot_be_scored_is_named(accuracies, baselines, sizes, message):
    with pytest.raises(ValueError, match=message):
        scores_of(accuracies, baselines, sizes)


@pytest.fixture
def finished(tmp_path):
    """Returns a function that writes what a finished run leaves that counts here, and returns its folder."""

    def write(name, domain, method, accuracy):
        model = MultiDomainClassifier({domain: 2}, Architecture(method, width=2, blocks_per_stage=1))
        write_pack(
            tmp_path / name / "packs" / f"{domain}.safetensors",
            model,
            domain,
            label_names=["no", "yes"],
            category_ids=[0, 1],
            preprocessing=Preprocessing(8, 8, 8, 8, (0.5,) * 3, (0.2,) * 3),
            trunk_fingerprint="0" * 64,
            accuracy=accuracy,
        )
        return str(tmp_path / name)

    return write


def test_individual_runs_are_baselines(finished):
    a, b = finished("a", "mine", "individual", 0.8), finished("b", "other", "individual", 0.7)
    assert accuracies_of_runs([a, b]) == {"mine": 0.8, "other": 0.7}
    for runs, message in (
        ([finished("c", "mine", "pointwise_sharing", 0.8)], "must be runs of --method=individual; .* is of pointwise"),
        ([finished("d", "mine", "individual", None)], "d/.* has no accuracy on val"),
        ([a, finished("e", "mine", "individual", 0.1)], "names two runs of domain 'mine'"),
    ):
        with pytest.raises(ValueError, match=message):
            accuracies_of_runs(runs)


def run(*arguments):
    return run_command("-m", "tfmdl.score", *arguments)


def test_the_command(written):
    done = run(written({"gtsrb": 99.27, "svhn": 96.16}))
    assert done.returncode == 0, done.stderr
    assert "partial sum of 2" in done.stdout and "726.3" in done.stdout and "923" in done.stdout


def test_the_command_with_baselines(written, tmp_path):
    baselines = tmp_path / "baselines.json"
    baselines.write_text('{"mine": 80, "other": 50}')
    accuracies = written({"mine": 90, "other": 100})
    done = run(accuracies, f"--baselines={baselines}", "--test_sizes=mine:100,other:30")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:3] for line in done.stdout.splitlines()}
    assert (rows["mine"], rows["other"]) == (["90.00", "562.5"], ["100.00", "1,000.0"])
    # Other baselines make another number: it is not called the Visual Decathlon's.
    assert "Decathlon" not in done.stdout


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        ({"mine": 90}, [], "'mine' is not one of the Visual Decathlon"),
        ({"gtsrb": 990}, [], "accuracy of 'gtsrb' must be in 0..100; received 990"),
        ("{", [], "file.json: expected"),
        ({"gtsrb": 99}, ["--baselines=nowhere.json"], "nowhere.json"),
        ({"gtsrb": 99}, ["--test_sizes=gtsrb"], "--test_sizes must be DOMAIN:NUMBER"),
        ({"gtsrb": 99}, ["another.json"], "expected one FILE.json of accuracies; received 2 arguments"),
    ],
)
def test_the_command_answers_bad_input_by_one_line(content, flags, message, written):
    refused = run(written(content), *flags)
    assert (refused.returncode, refused.stdout) == (1, "")
    (line,) = refused.stderr.splitlines()
    assert line.startswith("error: ") and message in line

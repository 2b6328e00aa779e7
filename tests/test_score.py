"""`python -m tfmdl.score`: its files, and what it refuses."""

import json
import subprocess
import sys

import pytest

from tfmdl.score import parse_sizes, read_percentages, scores_of


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
    ("accuracies", "baselines", "message"),
    [
        ({"mine": 0.9}, None, "'mine' is not one of the Visual Decathlon"),
        ({"mine": 0.9}, {}, "no accuracy for domain 'mine'"),
        ({"mine": 0.9}, {"mine": 0.5}, "add --test_sizes=mine:NUMBER"),
    ],
)
def test_a_domain_that_cannot_be_scored_is_named(accuracies, baselines, message):
    with pytest.raises(ValueError, match=message):
        scores_of(accuracies, baselines, {})


def test_the_command(written):
    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "tfmdl.score", *arguments], capture_output=True, text=True)

    done = run(written({"gtsrb": 99.27, "svhn": 96.16}))
    assert done.returncode == 0, done.stderr
    assert "partial sum of 2" in done.stdout and "726.3" in done.stdout and "923" in done.stdout
    refused = run()
    assert refused.returncode == 1 and refused.stderr.startswith("error: expected one FILE.json")

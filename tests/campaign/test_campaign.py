"""A campaign as a user runs it: one that fails in part, is killed, and goes on to the report."""

import json
import os
import re
import shutil
import signal
import xml.etree.ElementTree

import pytest
from small_domains import write_domain

from faults.commands import Command, run_command
from tfmdl.campaign.executors import Local
from tfmdl.campaign.plan import CampaignConfig, plan
from tfmdl.campaign.runner import execute
from tfmdl.evaluation.evaluate import EvaluationConfig, evaluate

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
SMALL = ("--recipe=quick", "--epochs=1", "--base_epochs=2")
NETWORK = ("--width=2", "--blocks_per_stage=1", "--image_size=16", "--batch_size=8", "--tensorboard=false")
METHODS = ("classifier_only", "pointwise_sharing")


def command(data_dir, workdir, *more):
    return [
        *("-m", "tfmdl.campaign", f"--data_dir={data_dir}", f"--workdir={workdir}", "--base=base"),
        *(f"--methods={','.join(METHODS)}", *SMALL, *NETWORK, *more),
    ]


def run(*arguments):
    return run_command(*command(*arguments), cwd=ROOT)


def folders(workdir):
    return {
        path.parent.parent.relative_to(workdir).as_posix() for path in workdir.glob("seed*/*/*/packs/*.safetensors")
    }


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("campaign-data")
    for name in ("base", "ucf101", "tiny"):
        write_domain(folder, name)
    return folder


@pytest.fixture(scope="module")
def campaign(data_dir, tmp_path_factory):
    """Runs a campaign whose domain `tiny` is broken, mends it, kills the campaign in the middle, and lets it finish."""
    workdir = tmp_path_factory.mktemp("campaign") / "work"
    shard = next((data_dir / "tiny").glob("tiny-train-00000*"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-40])
    broken = run(data_dir, workdir)
    done_then = folders(workdir)
    shard.write_bytes(whole)
    killed = Command(*command(data_dir, workdir, "--jobs=2"), cwd=ROOT)
    begun = workdir / "seed0" / "classifier_only" / "tiny" / "config.json"
    while not begun.is_file():
        assert not killed.ended(0.1), killed.result(0).stdout
    killed.send_signal(signal.SIGKILL)
    killed.result(timeout=60)
    resumed = run(data_dir, workdir, "--jobs=2")
    return workdir, broken, done_then, resumed


@pytest.mark.slow
def test_what_fails_is_named_and_the_rest_goes_on(campaign):
    workdir, broken, done_then, _ = campaign
    assert broken.returncode == 1
    assert re.search(r"classifier_only tiny: failed with exit code 1: .*tiny-train-00000", broken.stdout)
    assert "error: 2 of 5 runs failed" in broken.stderr
    expected = {"seed0/trunks/resnet26_separable", "seed0/classifier_only/ucf101", "seed0/pointwise_sharing/ucf101"}
    assert done_then == expected
    assert "$ python train.py --domain=tiny" in (workdir / "seed0/classifier_only/tiny/log.txt").read_text()


@pytest.mark.slow
def test_it_goes_on_after_a_kill(campaign):
    workdir, _, done_then, resumed = campaign
    assert resumed.returncode == 0, resumed.stderr
    assert folders(workdir) == done_then | {
        f"seed0/{method}/{domain}" for method in METHODS for domain in ("ucf101", "tiny")
    }
    again = [line for line in resumed.stdout.splitlines() if re.match(r" *\d+ of \d+ ", line)]
    assert not [line for line in again if "trunk" in line or "pointwise_sharing ucf101" in line]


def table_of(workdir):
    """Returns the first table of the report: cells by method and column."""
    lines = [line for line in (workdir / "report.md").read_text().splitlines() if line.startswith("|")]
    header, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in lines[: 2 + len(METHODS)])
    assert header == ["method", "base", "tiny", "ucf101", "mean", "S", "parameters"]
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}


def measured(workdir, method, domain):
    last = (workdir / "seed0" / method / domain / "metrics.jsonl").read_text().splitlines()[-1]
    return f"{100 * json.loads(last)['val/accuracy']:.1f}"


@pytest.mark.slow
def test_the_report_has_the_runs_own_numbers(campaign):
    workdir, *_ = campaign
    table, markdown = table_of(workdir), (workdir / "report.md").read_text()
    for method in METHODS:
        for domain in ("tiny", "ucf101"):
            assert table[method][domain] == measured(workdir, method, domain)
            assert f"seed0/{method}/{domain}" in markdown
        assert re.fullmatch(r"\d+\.\d\dx", table[method]["parameters"])


@pytest.mark.slow
def test_the_page_stands_by_itself(campaign):
    workdir, *_ = campaign
    page = (workdir / "report.html").read_text()
    assert not re.search(r"""(src|href)=["'](https?:)?//""", page)
    assert page.count("<script") == 1
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 4  # accuracy by parameters, and a panel of curves for each domain
    for picture in pictures:
        xml.etree.ElementTree.fromstring(picture)
    for folder in re.findall(r'href="(seed0[^"]*)"', page):
        assert (workdir / folder).is_dir()


@pytest.mark.slow
def test_the_page_shows_right_and_wrong_answers_of_the_best_row(campaign):
    workdir, *_ = campaign
    table, page = table_of(workdir), (workdir / "report.html").read_text()
    best = max(METHODS, key=lambda method: float(table[method]["mean"]))
    assert f"What {best} answered" in page
    shown = dict(re.findall(r'<h3>(\w+)</h3><ul class="samples">(.*?)</ul>', page, re.DOTALL))
    assert set(shown) == {"base", "tiny", "ucf101"}
    for domain, images in shown.items():
        accuracy = float(table[best][domain])
        assert (images.count("✗") > 0) == (accuracy < 100)
        assert (images.count("<li>") > images.count("✗")) == (accuracy > 0)


@pytest.mark.slow
def test_on_test_it_measures_what_eval_measures(campaign, data_dir, tmp_path):
    workdir, *_ = campaign
    labels = tmp_path / "labels"
    labels.mkdir()
    for domain in ("base", "ucf101", "tiny"):
        (labels / f"{domain}_test.json").write_bytes(
            (data_dir / domain / "labels" / f"{domain}_test.json").read_bytes()
        )
    reported = run(data_dir, workdir, "--report_only", "--split=test", f"--labels_dir={labels}", "--domains=tiny")
    assert reported.returncode == 0, reported.stderr
    config = EvaluationConfig(
        str(data_dir), "test", workdirs=(f"{workdir}/seed0/classifier_only/tiny",), labels_dir=str(labels)
    )
    accuracy = evaluate(config).evaluations["tiny"].accuracy
    row = next(
        line for line in (workdir / "report.md").read_text().splitlines() if line.startswith("| classifier_only")
    )
    assert row.split(" | ")[2] == f"{100 * accuracy:.1f}"


@pytest.mark.slow
def test_a_damaged_pack_is_named_and_the_rest_is_reported(campaign, data_dir, tmp_path):
    copied = tmp_path / "work"
    shutil.copytree(campaign[0], copied)
    pack = copied / "seed0" / "classifier_only" / "tiny" / "packs" / "tiny.safetensors"
    pack.write_bytes(pack.read_bytes()[:-20])
    reported = run(data_dir, copied, "--report_only")
    assert (reported.returncode, reported.stderr) == (1, "error: 1 of 5 runs failed, see above\n")
    assert re.search(rf"^classifier_only tiny: failed: .*{re.escape(str(pack))}", reported.stdout, re.MULTILINE)
    table = table_of(copied)
    assert (table["classifier_only"]["tiny"], table["classifier_only"]["mean"]) == ("failed", "")
    whole = [("classifier_only", "ucf101"), ("pointwise_sharing", "tiny"), ("pointwise_sharing", "ucf101")]
    assert all(table[method][domain] == measured(copied, method, domain) for method, domain in whole)
    assert table["pointwise_sharing"]["mean"] and table["pointwise_sharing"]["parameters"]
    assert str(pack) in (copied / "report.md").read_text()


@pytest.mark.slow
def test_flags_that_train_refuses_stop_it_before_anything_runs(data_dir, tmp_path):
    refused = run(data_dir, tmp_path / "work", "--widht=4")
    assert refused.returncode == 1
    assert re.search(
        r"error: train.py refuses the flags of the first run: .*Unknown command line flag 'widht'", refused.stderr
    )
    assert not list(tmp_path.glob("work/seed*"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--seed", "3"), "error: the campaign sets --seed for each of its runs; received --seed"),
        (("--labels_dir=labels",), "error: --labels_dir is for --split=test; received --split=val"),
    ],
)
def test_what_cannot_be_asked_for_stops_it_before_anything_runs(data_dir, tmp_path, flags, message):
    refused = run(data_dir, tmp_path / "work", *flags)
    assert (refused.returncode, refused.stderr.strip()) == (1, message)
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_what_starts_from_a_run_that_failed_is_left_out(data_dir, tmp_path, capsys):
    config = CampaignConfig(
        str(data_dir), str(tmp_path), "base", ("tiny",), ("individual", "dan"), train_flags=("--widht=4",)
    )
    runs = plan(config)
    assert {run.workdir for run in execute(runs, Local(2))} == {run.workdir for run in runs}
    said = capsys.readouterr().out
    assert said.count("trunk base: failed with exit code 1: ") == 2
    assert [name for name in ("individual", "dan") if f"4  {name} tiny: left out, what it starts from failed" in said]
    assert not (tmp_path / "seed0" / "dan").exists()

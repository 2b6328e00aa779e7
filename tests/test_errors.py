"""Whatever goes wrong outside the program is one line on standard error that names it, as text, and exit code 1."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tensorflow as tf
from full_disk import files_of_at_most
from rich.table import Table
from small_network import small

from tfmdl.campaign.plan import CampaignConfig, claim, plan
from tfmdl.cli import report_errors, table_console
from tfmdl.config import RunConfig
from tfmdl.data.preprocessing import Preprocessing
from tfmdl.evaluation.decathlon import read_percentages
from tfmdl.evaluation.evaluate import EvaluationConfig, evaluate
from tfmdl.evaluation.submission import read_labels, write_submission
from tfmdl.files import write_json
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import load_model, write_pack, write_trunk
from tfmdl.training.checkpoints import Checkpoint, Checkpoints
from tfmdl.training.events import EventsFile
from tfmdl.training.loop import train
from tfmdl.training.metrics import append_metrics, read_metrics
from tfmdl.training.progress import Progress, counted

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = RunConfig(("tiny",), "data", "run").to_json()
METRICS = {"epoch": 1, "step": 5, "train/loss": 1.0, "images_per_second": 9.0}


@pytest.fixture(scope="module")
def model():
    return MultiDomainClassifier({"tiny": 2}, small(width=2))


@pytest.fixture(scope="module")
def finished(model, data_dir, tmp_path_factory):
    """A run that is finished: trunk, pack and configuration."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    trunk = write_trunk(workdir / "trunk.safetensors", model, "tiny")
    save_pack(workdir / "packs" / "tiny.safetensors", model, trunk)
    write_json(workdir / "config.json", {"run": RunConfig(("tiny",), str(data_dir), str(workdir)).to_json()})
    return workdir


def save_pack(path, model, trunk="0" * 64):
    write_pack(
        path,
        model,
        "tiny",
        label_names=["tiny 0", "tiny 1"],
        category_ids=[70, 80],
        preprocessing=Preprocessing(16, 16, 16, 16, (0.5,) * 3, (0.2,) * 3),
        trunk_fingerprint=trunk,
        accuracy=0.5,
    )


class Place:
    """What a case has: a folder of its own, a model, data, and a copy of a finished run."""

    def __init__(self, folder, model, data_dir, run):
        self.folder, self.model, self.data_dir, self.run = folder, model, str(data_dir), folder / "run"
        shutil.copytree(run, self.run)

    def campaign(self):
        return CampaignConfig(self.data_dir, str(self.folder), "base", ("tiny",), ("individual",))

    def cut(self, name):
        path = self.folder / name
        path.write_bytes(path.read_bytes()[:-20])

    def put(self, name, content):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode(errors="surrogateescape"))
        return path

    def evaluate(self):
        evaluate(EvaluationConfig(self.data_dir, "val", workdirs=(str(self.run),)))

    def evaluate_as_added(self):
        """As a run whose trunk lies elsewhere: only its config.json says where."""
        (self.run / "trunk.safetensors").unlink()
        self.evaluate()


def on_full_disk(action, limit=1000):
    def act(place):
        with files_of_at_most(limit):
            action(place)

    return act


def after(make, action):
    def act(place):
        make(place)
        action(place)

    return act


def write_checkpoint(place):
    Checkpoints(place.folder / "run").save(Checkpoint(7, False, 0.0, {"a": np.zeros(999)}))


def write_metrics(place):
    for _ in range(99):
        append_metrics(place.folder / "metrics.jsonl", METRICS)


def read_metrics_of(place):
    read_metrics(place.folder / "metrics.jsonl")


def write_events(place):
    events = EventsFile(place.folder / "train")
    for step in range(99):
        with events.at(step):
            tf.summary.scalar("loss", 0.5)


def write_picture(place):
    """Larger than what TensorFlow keeps back, which it drops without a word."""
    with EventsFile(place.folder / "train").at(0):
        tf.summary.image("picture", np.random.default_rng(0).random((1, 200, 200, 3)))


def claim_folder(place):
    claim(place.campaign())


def score(place):
    read_percentages(place.folder / "evaluation.json")


def learn_costs(place):
    run = plan(place.campaign())[0]
    shutil.copytree(place.run, run.workdir, dirs_exist_ok=True)
    shutil.copy(place.folder / "metrics.jsonl", run.workdir)
    run.metrics()


ENTRIES = [{"image_id": 10**6 + image, "category_id": image} for image in range(999)]

# Each: what happens, and what the line must name, below the folder of the case or anywhere.
CASES = {
    "full disk, checkpoint": (on_full_disk(write_checkpoint), "run/step-000000007.safetensors"),
    "full disk, pack": (on_full_disk(lambda p: save_pack(p.folder / "new", p.model)), "new"),
    "full disk, trunk": (on_full_disk(lambda p: write_trunk(p.folder / "new", p.model, "tiny")), "new"),
    "full disk, metrics": (on_full_disk(write_metrics), "metrics.jsonl"),
    "full disk, events": (on_full_disk(write_events), "train/events.out.tfevents."),
    "full disk, picture": (on_full_disk(write_picture), "train/events.out.tfevents."),
    "full disk, submission": (on_full_disk(lambda p: write_submission(p.folder / "x.zip", ENTRIES)), "x.zip"),
    "full disk, submission of JSON": (on_full_disk(lambda p: write_submission(p.folder / "x.json", ENTRIES)), "x.json"),
    "events where a file is": (after(lambda p: p.put("train", ""), write_events), "train"),
    "config.json, cut": (after(lambda p: p.cut("run/config.json"), Place.evaluate_as_added), "run/config.json"),
    "config.json, a list": (
        after(lambda p: p.put("run/config.json", "[]"), Place.evaluate_as_added),
        "run/config.json",
    ),
    "config.json, deep": (
        after(lambda p: p.put("run/config.json", "[" * 99999), Place.evaluate_as_added),
        "run/config.json",
    ),
    "config.json, no text": (
        after(lambda p: p.put("run/config.json", "\udcff"), Place.evaluate_as_added),
        "run/config.json",
    ),
    "config.json, a number for a path": (
        after(
            lambda p: p.put("run/config.json", json.dumps({"run": CONFIG | {"init_from": 5}})), Place.evaluate_as_added
        ),
        "run/config.json: `init_from` must be str | None; received 5",
    ),
    "config.json, a text for names": (
        after(
            lambda p: p.put("run/config.json", json.dumps({"run": CONFIG | {"domains": "tiny"}})),
            Place.evaluate_as_added,
        ),
        "run/config.json: `domains` must be tuple[str, ...]; received 'tiny'",
    ),
    "accuracies, a number of 400 digits": (
        after(lambda p: p.put("evaluation.json", '{"dtd": 1' + "0" * 400 + "}"), score),
        "evaluation.json: expected",
    ),
    "metrics.jsonl, a folder": (
        after(lambda p: (p.folder / "metrics.jsonl").mkdir(), read_metrics_of),
        "metrics.jsonl: is not a file",
    ),
    "pack, cut": (after(lambda p: p.cut("run/packs/tiny.safetensors"), Place.evaluate), "run/packs/tiny.safetensors"),
    "trunk, cut": (after(lambda p: p.cut("run/trunk.safetensors"), Place.evaluate), "run/trunk.safetensors"),
    "pack, markup in its name": (lambda p: load_model(trunk=str(p.run), pack_paths=["x[red].y[/z]"]), "x[red].y[/z]"),
    "pack, a name with a line and a colour": (
        lambda p: load_model(trunk=str(p.run), pack_paths=["a\x1b[31mb"]),
        r"a\x1b[31mb",
    ),
    "campaign.json, cut": (after(lambda p: p.put("campaign.json", '{"base": '), claim_folder), "campaign.json"),
    "campaign.json, a list": (after(lambda p: p.put("campaign.json", "[]"), claim_folder), "campaign.json"),
    "campaign.json, wrong types": (
        after(lambda p: p.put("campaign.json", '{"base": 5, "epochs": []}'), claim_folder),
        "--base: was 5, now 'base'",
    ),
    "metrics.jsonl of a campaign's run": (
        after(lambda p: p.put("metrics.jsonl", json.dumps(METRICS) + "\n{}\n"), learn_costs),
        "metrics.jsonl, line 2",
    ),
    "metrics.jsonl, no numbers": (
        after(lambda p: p.put("metrics.jsonl", '{"epoch": "1", "step": 2}\n'), read_metrics_of),
        "metrics.jsonl, line 1",
    ),
    "metrics.jsonl, zeros": (
        after(lambda p: p.put("metrics.jsonl", "\0\0\0\n"), read_metrics_of),
        "metrics.jsonl, line 1",
    ),
    "evaluation.json scored": (
        after(lambda p: p.put("evaluation.json", '{"split": "val"}'), score),
        "evaluation.json",
    ),
    "evaluation.json, cut": (
        after(lambda p: p.put("evaluation.json", '{"spl'), score),
        "evaluation.json",
    ),
    "labels, a number": (
        after(lambda p: p.put("tiny_test.json", '{"annotations": 5}'), lambda p: read_labels(p.folder, "tiny", [1])),
        "tiny_test.json",
    ),
    "labels, an id that is a list": (
        after(
            lambda p: p.put("tiny_test.json", '{"annotations": [{"image_id": [1], "category_id": [1]}]}'),
            lambda p: read_labels(p.folder, "tiny", [1]),
        ),
        "tiny_test.json",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_names_it(case, model, data_dir, finished, tmp_path, capfd):
    act, named = CASES[case]
    place = Place(tmp_path, model, data_dir, finished)
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended, report_errors():
        act(place)
    said = capfd.readouterr().err
    assert ended.value.code == 1 and said.startswith("error: ") and named in said
    assert said.count("\n") == 1 or "holds a campaign" in said  # which lists what differs
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("text", ["x[red].jpg", "runs/w[/x]", "[bold]", "a:smile:b", r"\[x]"])
def test_text_is_printed_as_text(text, capsys):
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    table_console().print(table)
    table_console().print(text)
    assert capsys.readouterr().out.count(text) == 4
    progress = Progress(1, 1)
    progress.note(text)
    list(counted([], text, 1))
    assert capsys.readouterr().out.count(text) == 2


def test_warnings_are_a_line(capfd):
    with report_errors():
        warnings.warn("x[red].jpg is old", stacklevel=1)
    assert capfd.readouterr().err == "warning: x[red].jpg is old\n"


@pytest.mark.slow
def test_a_run_goes_on_when_there_is_room_again(data_dir, tmp_path, capfd):
    config = RunConfig(
        domains=("tiny",),
        data_dir=str(data_dir),
        workdir=str(tmp_path / "run[/x]"),
        architecture=small(width=16),
        recipe="quick",
        image_size=16,
        max_steps=1,
        tensorboard=False,
    )
    with files_of_at_most(100_000), pytest.raises(SystemExit), report_errors():
        train(config)
    path = f"{tmp_path}/run[/x]/checkpoints/step-000000001.safetensors"
    assert capfd.readouterr().err.splitlines()[-1] == f"error: [Errno 27] File too large: '{path}'"
    assert not list((tmp_path / "run[/x]" / "checkpoints").iterdir())
    train(config)
    assert f"wrote {tmp_path}/run[/x]/trunk.safetensors" in capfd.readouterr().out


def test_an_argument_that_is_no_text_is_refused(data_dir, tmp_path):
    workdir = os.fsencode(tmp_path) + b"/caf\xe9"
    command = [sys.executable, "train.py", "--domain=tiny", f"--data_dir={data_dir}", b"--workdir=" + workdir]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "arguments must be text in UTF-8; received" in done.stderr and r"caf\udce9" in done.stderr
    assert not os.path.exists(workdir)

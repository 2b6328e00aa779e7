"""What earlier releases wrote is read, and answers as it did. README.md says how it was written."""

import dataclasses
import json

import numpy as np
import pytest
from keeping import HERE, STOPPED_AT, answers_of_export, answers_of_keras, answers_of_pack, logits, unpacked

import tfmdl
from tfmdl.config import load_config
from tfmdl.serving.source import from_export
from tfmdl.serving.versions import newest
from tfmdl.training.run_folder import RunFolder
from tfmdl.training.setup import prepare

RELEASES = sorted(path.parent for path in HERE.glob("*/answers.json"))


@pytest.fixture(params=RELEASES, ids=lambda release: release.name)
def release(request):
    return request.param


def answers(release):
    return json.loads((release / "answers.json").read_text())


def assert_same(found, kept):
    np.testing.assert_allclose(found, kept, rtol=1e-4, atol=1e-5)


def test_the_present_release_is_kept():
    assert tfmdl.__version__ in [release.name for release in RELEASES]


def test_packs_answer_as_they_did(release, tmp_path):
    folder = unpacked("runs", release, tmp_path)
    for method, kept in answers(release)["packs"].items():
        assert_same(answers_of_pack(folder, method), kept)
    assert_same(answers_of_keras(folder), answers(release)["keras"])


def test_a_run_that_was_stopped_goes_on(release, tmp_path):
    folder = unpacked("run", release, tmp_path)
    config = load_config(folder / "stopped")
    config = dataclasses.replace(config, data_dir=str(folder / "data"), workdir=str(folder / "stopped"))
    job, left = prepare(config), RunFolder(config.workdir)
    told = []
    left.claim(config, job.describe(), told.append)
    state = left.resume(job.network, told.append)
    assert (state.step, told) == (STOPPED_AT, []) and state.metrics
    assert_same(logits(job.model, "tiny"), answers(release)["run"])


def test_an_export_answers_as_it_did_and_can_be_added_to(release, tmp_path):
    folder, kept = unpacked("export", release, tmp_path), answers(release)["export"]
    found = answers_of_export(newest(folder))
    assert found["class_id"] == kept["class_id"]
    assert_same(found["probability"], kept["probability"])
    source = from_export(folder, added=[str(unpacked("runs", release, tmp_path / "runs") / "low_rank")])
    assert [pack.architecture.method for pack in source.packs] == ["pointwise_sharing", "low_rank"]

"""The images that the report shows: whose answers they are, and how they stand in the page."""

import base64
import dataclasses
import html
import io
import re
import types

import numpy as np
import pytest
from PIL import Image

from tfmdl.campaign.plan import CampaignConfig, Row
from tfmdl.campaign.report import write_report
from tfmdl.campaign.results import Cell, Results, RowResult
from tfmdl.campaign.samples import DomainSamples, Samples, best_row
from tfmdl.evaluation.answers import Answer
from tfmdl.outside import printable

DOMAINS = ("base", "tiny")


def row(name, *accuracies):
    run = types.SimpleNamespace(workdir=".", name=name, domain="tiny", seed=0, metrics=list)
    cells = {domain: Cell((run,), (one,), 100) for domain, one in zip(DOMAINS, accuracies, strict=False)}
    return RowResult(Row(name, name, {}), cells, {}, None, None)


def results_of(*rows):
    return Results("val", DOMAINS, list(rows), "S", (), (), "one network")


@pytest.fixture
def report(tmp_path):
    """Returns a function that writes a report with samples and returns its two texts."""

    def write(samples):
        config = CampaignConfig("data", str(tmp_path), "base", ("tiny",), ("individual",))
        return [path.read_text() for path in write_report(config, results_of(row("individual", 0.5, 0.7)), samples)]

    return write


def samples_of(random, size, names=("cat", "dog"), domains=DOMAINS, each=4):
    def answers(right):
        pixels = (random.integers(0, 256, (*size, 3), "uint8") for _ in range(each))
        return tuple(Answer(number, 0, int(not right), 0.75, image) for number, image in enumerate(pixels))

    found = DomainSamples(answers(True), answers(False), list(names), 13)
    return Samples("individual", dict.fromkeys(domains, found), {})


def test_the_best_row_is_that_of_the_highest_mean_over_all_domains():
    rows = [row("one", 0.5, 0.6), row("two", 0.7, 0.5), row("half", 0.9)]
    assert best_row(results_of(*rows)).row.name == "two"
    assert best_row(results_of(rows[-1])) is None


def test_thumbnails_have_their_class_and_what_they_were_taken_for(report, rng):
    samples = samples_of(rng, (20, 30))
    _, page = report(samples)
    assert "What individual answered" in page and "Out of 13 per domain" in page
    uris = re.findall(r'<img src="data:image/jpeg;base64,([^"]*)"', page)
    answers = [one for found in samples.domains.values() for one in (*found.right, *found.wrong)]
    assert len(uris) == len(answers)
    for uri, answer in zip(uris, answers, strict=True):
        shown = Image.open(io.BytesIO(base64.b64decode(uri)))
        assert shown.size == (30, 20)
        assert abs(np.asarray(shown).mean() - answer.image.mean()) < 6
    assert page.count("✓&nbsp;cat") == len(answers) and page.count("✗&nbsp;dog 75%") == len(answers) / 2


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x onerror=y>', "$x_1$", "a\x1b[31m\nb"])
def test_names_of_classes_are_text_and_no_markup(name, report, rng):
    _, page = report(samples_of(rng, (8, 8), (name, name)))
    assert "<script>alert" not in page and "<img src=x" not in page and "\x1b" not in page
    assert f"✓&nbsp;{html.escape(printable(name)[:10])}" in page


def test_what_cannot_be_read_is_named(report, rng):
    samples = dataclasses.replace(samples_of(rng, (8, 8), domains=("base",)), unread={"tiny": "x.tfrecord: <gone>"})
    _, page = report(samples)
    assert "tiny cannot be read: x.tfrecord: &lt;gone&gt;" in page and "<h3>base</h3>" in page


def test_ten_domains_of_large_images_stay_below_a_megabyte(report, rng):
    """Of noise, which no image is harder to store than."""
    markdown, page = report(samples_of(rng, (224, 224), domains=[f"domain{number}" for number in range(10)]))
    assert len(page.encode()) < 1_000_000 and "base64" not in markdown


def test_a_report_without_samples_has_no_such_section(report):
    _, page = report(None)
    assert "Right and wrong" not in page and "data:" not in page

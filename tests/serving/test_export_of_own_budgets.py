"""Domains of several methods in one served model: folded and exported they answer as each does alone."""

import re

import numpy as np
import pytest
from small_budgets import CLASSES, NETWORKS, make_budgets

from tfmdl.packs import compose, pack_path
from tfmdl.serving.network import FoldedClassifier
from tfmdl.serving.source import from_export, from_runs
from tfmdl.serving.writer import write_export


@pytest.fixture(scope="module", params=NETWORKS)
def written(request, tmp_path_factory):
    """A trunk and packs by domain."""
    return make_budgets(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.slow
def test_a_folded_network_answers_as_each_domain_does_alone(written, rng):
    trunk, packs = written
    folded = FoldedClassifier(compose(trunk, list(packs.values())))
    images = rng.normal(size=(2 * len(CLASSES), 11, 12, 3)).astype("float32")
    ids = np.arange(len(images), dtype="int32") % len(CLASSES)
    mixed = np.asarray(folded.features(images, ids))
    for index, domain in enumerate(CLASSES):
        own = images[ids == index]
        alone = compose(trunk, [packs[domain]])
        wanted = np.asarray(alone.features(own, domain))
        near = {"rtol": 1e-5, "atol": 1e-5 * max(1.0, np.abs(wanted).max())}
        for found in (mixed[ids == index], folded.features(own, domain), FoldedClassifier(alone).features(own, domain)):
            np.testing.assert_allclose(found, wanted, **near)


def paths(folder, domains):
    return [str(folder / "packs" / f"{domain}.safetensors") for domain in domains]


@pytest.mark.slow
def test_domains_of_other_methods_come_and_go(tmp_path):
    runs, served = tmp_path / "runs", tmp_path / "served"
    runs.mkdir()
    trunk, packs = make_budgets(runs, "keras")

    def files(*domains):
        return [str(pack_path(runs, domain)) for domain in domains]

    write_export(from_runs(trunk=str(runs), pack_paths=files("base", "usual")), served)
    second = write_export(from_export(served, files("far", "near")), served)
    assert second.unchanged == ("base", "usual") and second.change < 1e-5 and second.difference < 1e-5
    card = (second.path / "assets" / "MODEL_CARD.md").read_text()
    assert "low_rank (rank=3), classifier_only." in card
    for domain in ("usual", "far", "near"):
        own = sum(value.size for slot, value in packs[domain].tensors.items() if "moving_" not in slot)
        assert re.search(rf"\| {domain} \|.* {own:,} \|\n", card)
    for pack in from_export(served).packs:
        assert pack.domain == "base" or pack.tensors.keys() == packs[pack.domain].tensors.keys()
        assert all(np.array_equal(value, packs[pack.domain].tensors[slot]) for slot, value in pack.tensors.items())
    removed = from_export(served, removed=["usual", "near"]).model
    assert not removed.budgets  # what is left is of one method
    images = np.ones((1, 16, 16, 3), "float32")
    for domain in removed.domains:
        wanted = compose(trunk, [packs[domain]]).features(images, domain)
        np.testing.assert_allclose(removed.features(images, domain), wanted, rtol=1e-5, atol=1e-5)

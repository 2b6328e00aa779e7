"""Packs of several methods in one model: each domain answers as it does alone, and is counted as its pack is."""

import itertools

import numpy as np
import pytest
from fleets import logits
from small_budgets import BUDGETS, CLASSES, NETWORKS, make_budgets

from tfmdl.counts import count
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import compose, values_of, write_trunk

COMBINATIONS = [*itertools.combinations(BUDGETS, 2), ("far", "near", "usual"), ("base", "near", "far"), tuple(CLASSES)]


@pytest.fixture(scope="module", params=NETWORKS)
def written(request, tmp_path_factory):
    """A trunk and packs by domain. Not to be changed."""
    return make_budgets(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def trunk(written):
    return written[0]


@pytest.fixture(scope="module")
def packs(written):
    return written[1]


@pytest.fixture(scope="module")
def alone(trunk, packs):
    """By domain, the model of its pack alone."""
    return {domain: compose(trunk, [pack]) for domain, pack in packs.items()}


@pytest.mark.parametrize("domains", COMBINATIONS, ids=" ".join)
def test_each_domain_answers_as_it_does_alone(domains, trunk, packs, alone, images):
    model = compose(trunk, [packs[domain] for domain in domains])
    ids = np.arange(2 * len(domains), dtype="int32") % len(domains)
    images = np.resize(images, (len(ids), *images.shape[1:]))
    mixed = np.asarray(model.features(images, ids))
    for index, domain in enumerate(domains):
        own = images[ids == index]
        wanted = np.asarray(alone[domain].features(own, domain))
        near = {"rtol": 1e-5, "atol": 1e-5 * max(1.0, np.abs(wanted).max())}
        np.testing.assert_allclose(model.features(own, domain), wanted, **near)
        np.testing.assert_allclose(mixed[ids == index], wanted, **near)
        np.testing.assert_allclose(
            logits(model, domain, own), logits(alone[domain], domain, own), rtol=1e-5, atol=near["atol"]
        )


def learned_in(tensors):
    return sum(value.size for slot, value in tensors.items() if "moving_" not in slot)


@pytest.mark.parametrize("domains", COMBINATIONS, ids=" ".join)
def test_a_domain_is_counted_as_its_pack_is(domains, trunk, packs, alone):
    model = compose(trunk, [packs[domain] for domain in domains])
    counted = count(model)
    for domain in domains:
        held = values_of(model, domain)
        if domain == trunk.base_domain:
            assert set(held) == {"head/kernel", "head/bias"}  # the rest of it is the trunk
            continue
        assert held.keys() == packs[domain].tensors.keys()
        assert all(np.array_equal(held[slot], value) for slot, value in packs[domain].tensors.items())
        of_alone = count(alone[domain])
        assert (counted.own[domain], counted.classifier[domain]) == (of_alone.own[domain], of_alone.classifier[domain])
        assert counted.own[domain] + counted.classifier[domain] == learned_in(packs[domain].tensors)
    if trunk.base_domain in domains or "near" in domains:
        assert counted.shared == learned_in(trunk.tensors)  # all of the trunk, once
    else:
        assert counted.shared < learned_in(trunk.tensors)


def test_a_near_domain_costs_its_head_and_a_far_one_more(trunk, packs):
    own = count(compose(trunk, list(packs.values()))).own
    assert own["near"] == 0 < own["thin"] < own["far"]


def test_packs_that_are_alike_make_the_model_they_always_made(trunk, packs):
    model = compose(trunk, [packs["base"], packs["far"]])
    assert not model.budgets and model.architecture == packs["far"].architecture


def test_a_copy_has_the_same_budgets(trunk, packs, images):
    model = compose(trunk, list(packs.values()))
    copy = model.of_dtype("float32")
    assert copy.get_config() == model.get_config()
    assert {v.path: tuple(v.shape) for v in copy.variables} == {v.path: tuple(v.shape) for v in model.variables}
    for domain in CLASSES:
        np.testing.assert_array_equal(logits(copy, domain, images), logits(model, domain, images))


def test_no_trunk_is_written_of_domains_that_see_several(trunk, packs, tmp_path):
    with pytest.raises(ValueError, match="`model` must have domains of one method"):
        write_trunk(tmp_path / "trunk.safetensors", compose(trunk, list(packs.values())), "base")


@pytest.mark.parametrize("other", ["individual", "soft_sharing", "depthwise_sharing"])
def test_packs_that_do_not_go_together_are_refused(other, fleet):
    packs = [fleet.pack("low_rank-added", "added"), fleet.pack(f"{other}-other", "other")]
    for given in (packs, packs[::-1]):
        with pytest.raises(ValueError, match="of one method .*, or all of .*classifier_only") as refused:
            compose(fleet.trunk(), given)
        for pack in packs:
            assert f"{pack.path} has {pack.architecture.method_and_options}" in str(refused.value)


def test_methods_that_do_not_go_together_make_no_model(packs):
    budgets = {domain: packs[domain].architecture for domain in ("near", "far")}
    budgets["other"] = budgets["near"].with_method("individual")
    with pytest.raises(ValueError, match="`budgets` must be .*; received classifier_only, individual, low_rank"):
        MultiDomainClassifier({"near": 2, "far": 3, "other": 2}, budgets["near"], budgets=budgets)

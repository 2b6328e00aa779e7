"""Trunk and packs give back the model that wrote them, and what does not belong together is refused by name."""

import dataclasses

import numpy as np
import pytest
from fleets import base_of, logits, moved, save_trunk
from small_network import small

from tfmdl.counts import count
from tfmdl.model import MultiDomainClassifier, slot_and_owner
from tfmdl.packs import compose, domains_without_additions, initialize, load_model, read_packs, read_trunk, write_trunk
from tfmdl.sharing import METHODS

# Round trips


@pytest.mark.parametrize("method", METHODS)
def test_trunk_and_packs_are_the_models_that_wrote_them(method, fleet, images):
    base = base_of(method)
    packs = [fleet.pack(base, "base"), *(fleet.pack(f"{method}-{name}", name) for name in ("added", "other"))]
    model = compose(fleet.trunk(base), packs)
    assert model.architecture == small(method)
    for pack, run in zip(packs, (base, f"{method}-added", f"{method}-other"), strict=True):
        wrote = fleet.models[run]
        np.testing.assert_array_equal(logits(model, pack.domain, images), logits(wrote, pack.domain, images))
        own = {
            slot_and_owner(variable)[0]: bank.stored(owner)
            for bank in wrote.banks()
            for owner, variable in bank.variable_of.items()
            if owner == pack.domain and not bank.pooled
        }
        assert own.keys() == pack.tensors.keys() and own
        for slot, value in own.items():
            np.testing.assert_array_equal(pack.tensors[slot], value)


@pytest.mark.parametrize("method", METHODS)
def test_a_new_domain_starts_from_the_base_domain(method, fleet, images):
    model = MultiDomainClassifier({"added": 2}, small(method))
    initialize(model, fleet.trunk(base_of(method)))
    wanted = fleet.models[base_of(method)].features(images, "base")
    np.testing.assert_allclose(model.features(images, "added"), wanted, rtol=1e-5, atol=1e-6)


ADDING = [name for name, method in METHODS.items() if method.additions]


@pytest.mark.parametrize("method", ADDING)
def test_a_trunk_of_a_method_that_adds_is_the_plain_network(method, fleet, images, tmp_path):
    """Unless its base domain has additions: other methods then say what they have no use for."""
    wrote = save_trunk(tmp_path, small(method))
    trunk, packs = read_trunk(tmp_path), read_packs(tmp_path)
    assert packs[0].trunk_fingerprint == trunk.fingerprint
    model = compose(trunk, packs)
    np.testing.assert_array_equal(logits(model, "base", images), logits(wrote, "base", images))
    new = MultiDomainClassifier({"added": 2}, small(method))
    initialize(new, trunk)
    np.testing.assert_array_equal(new.features(images, "added"), wrote.features(images, "base"))
    other = MultiDomainClassifier({"added": 2}, small("individual", backbone=METHODS[method].default_backbone))
    if METHODS[method].base_has_additions:
        with pytest.raises(ValueError, match="trunk.safetensors has .*, which method individual has no use for"):
            initialize(other, trunk)
    else:
        assert trunk.tensors.keys() == fleet.trunk(base_of(method)).tensors.keys()
        initialize(other, trunk)


@pytest.mark.parametrize("method", ADDING)
def test_the_base_domain_is_counted_without_what_it_lacks(method, fleet):
    packs = [fleet.pack(f"{method}-added", "added"), fleet.pack(base_of(method), "base")]
    model = compose(fleet.trunk(base_of(method)), packs)
    assert domains_without_additions(model, packs) == ["base"]
    assert domains_without_additions(model, packs[:1]) == []
    counted = count(model, ["base"])
    if not METHODS[method].base_has_additions:
        assert counted.own["base"] < counted.own["added"] == count(model).own["base"]


@pytest.mark.parametrize("method", ADDING)
def test_only_the_base_domain_may_lack_what_a_method_adds(method, fleet):
    pack = fleet.pack(f"{method}-added", "added")
    model = fleet.models[f"{method}-added"]
    slot = next(slot for slot in pack.tensors if model.is_addition(slot))
    lacking = {name: value for name, value in pack.tensors.items() if name != slot}
    with pytest.raises(ValueError, match=f"{pack.path}: lacks {slot}"):
        compose(fleet.trunk(base_of(method)), [dataclasses.replace(pack, tensors=lacking)])


def test_runs_and_files_load_alike(fleet, images):
    folder = fleet.folder
    run = folder / "classifier_only-added"
    ways = (
        {"workdirs": [str(run)]},
        {"trunk": str(folder / "base"), "pack_paths": [str(run)]},
        {"trunk": str(folder / "base" / "trunk.safetensors"), "pack_paths": [str(run / "packs/added.safetensors")]},
    )
    wanted = logits(fleet.models["classifier_only-added"], "added", images)
    for way in ways:
        model, (pack,) = load_model(**way)
        assert pack.domain == "added"
        np.testing.assert_array_equal(logits(model, "added", images), wanted)


# Refusals of what does not belong together


def test_another_trunk_is_refused_with_both_fingerprints(copied):
    mine = copied.trunk().fingerprint
    other = moved(MultiDomainClassifier({"base": 3}, small()), ("base",), 9)
    theirs = write_trunk(copied.folder / "base" / "trunk.safetensors", other, "base")
    with pytest.raises(ValueError, match=f"added.safetensors.*{mine[:12]}.*{theirs[:12]}"):
        compose(copied.trunk(), [copied.pack("individual-added", "added")])


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (small(width=2), "--width.*trunk.safetensors has 4; received 2"),
        (small("individual", "resnet26"), "--backbone.*'resnet26_separable'; received 'resnet26'"),
        (small(blocks_per_stage=2), "--blocks_per_stage.*trunk.safetensors has 1; received 2"),
    ],
)
def test_a_network_of_another_make_is_refused(architecture, message, fleet):
    with pytest.raises(ValueError, match=message):
        initialize(MultiDomainClassifier({"added": 2}, architecture), fleet.trunk())


def test_two_packs_of_one_domain_are_refused(fleet):
    packs = [fleet.pack(f"{method}-added", "added") for method in ("individual", "classifier_only")]
    with pytest.raises(ValueError, match=f"two packs of domain 'added': {packs[0].path} and {packs[1].path}"):
        compose(fleet.trunk(), packs)


def test_packs_of_different_methods_are_refused(fleet):
    packs = [fleet.pack("individual-added", "added"), fleet.pack("pointwise_sharing-other", "other")]
    with pytest.raises(ValueError, match=f"{packs[0].path}.*individual.*{packs[1].path}.*pointwise_sharing"):
        compose(fleet.trunk(), packs)


def test_no_pack_is_refused(fleet):
    with pytest.raises(ValueError, match="at least one domain pack"):
        compose(fleet.trunk(), [])


def test_what_a_pack_has_and_the_model_shares_is_never_dropped(fleet):
    pack = fleet.pack("pointwise_sharing-added", "added")
    other = dataclasses.replace(pack, architecture=small("classifier_only"))
    with pytest.raises(ValueError, match=f"{pack.path} has its own .*, which method classifier_only shares"):
        compose(fleet.trunk(), [other])


def test_what_a_trunk_has_and_the_model_does_not_is_never_dropped(fleet):
    trunk = fleet.trunk()
    trunk = dataclasses.replace(trunk, tensors={**trunk.tensors, "backbone/adapter/kernel": np.zeros(2, "float32")})
    with pytest.raises(ValueError, match="trunk.safetensors has backbone/adapter/kernel"):
        initialize(MultiDomainClassifier({"added": 2}, small()), trunk)
    with pytest.raises(ValueError, match="trunk.safetensors has backbone/adapter/kernel"):
        compose(trunk, [fleet.pack("individual-added", "added")])


def test_a_pack_that_lacks_something_is_refused(fleet):
    pack = fleet.pack("individual-added", "added")
    lacking = {slot: value for slot, value in pack.tensors.items() if slot != "head/bias"}
    with pytest.raises(ValueError, match="lacks head/bias"):
        compose(fleet.trunk(), [dataclasses.replace(pack, tensors=lacking)])


def test_either_runs_or_trunk_and_packs():
    with pytest.raises(ValueError, match="either --workdir, or --trunk and --packs"):
        load_model()
    with pytest.raises(ValueError, match="--trunk wants the domains' --packs"):
        load_model(trunk="somewhere")

"""Trunk and packs give back the model that wrote them, and what does not belong together is refused by name."""

import dataclasses
import itertools
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_network import small

from tfmdl.config import Preprocessing, RunConfig, write_json
from tfmdl.model import MultiDomainClassifier, slot_and_owner
from tfmdl.packs import (
    compose,
    domain_without_additions,
    fingerprint,
    initialize,
    load_model,
    read_pack,
    read_packs,
    read_tensors,
    read_trunk,
    write_pack,
    write_tensors,
    write_trunk,
)
from tfmdl.params import count
from tfmdl.sharing import METHODS

PREPROCESSING = Preprocessing(18, 18, 16, 16, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
CLASSES = {"base": 3, "added": 2, "other": 4}


def moved(model, owners, seed):
    """Moves all that `owners` own, as training would."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if slot_and_owner(variable)[1] in owners:
            variable.assign(np.asarray(variable) * random.uniform(0.7, 1.3, variable.shape) + 0.01)
    return model


def save_pack(path, model, domain, trunk_fingerprint, base=False):
    write_pack(
        path,
        model,
        domain,
        label_names=[f"{domain} {index}" for index in range(CLASSES[domain])],
        category_ids=[10 + index for index in range(CLASSES[domain])],
        preprocessing=PREPROCESSING,
        trunk_fingerprint=trunk_fingerprint,
        accuracy=0.5,
        base=base,
    )


BASES = {"resnet26_separable": "base", "resnet26": "plain"}  # runs of trunks by their backbone


def base_of(method):
    return BASES[METHODS[method].default_backbone]


@dataclasses.dataclass
class Fleet:
    """Runs of two trunks and runs that added domains by each method, as folders, and the models that wrote them."""

    folder: object
    models: dict

    def trunk(self, run="base"):
        return read_trunk(self.folder / run)

    def pack(self, run, domain):
        return read_pack(self.folder / run / "packs" / f"{domain}.safetensors")


def save_trunk(folder, architecture):
    """Writes what a trunk's run leaves, and returns its model."""
    model = MultiDomainClassifier({"base": 3}, architecture)
    model.train_only(["base"], shared=True)
    random = np.random.default_rng(0)
    for variable in model.variables:
        if variable.trainable or "moving_" in variable.path:
            variable.assign(np.asarray(variable) * random.uniform(0.7, 1.3, variable.shape) + 0.01)
    trunk_fingerprint = write_trunk(folder / "trunk.safetensors", model, "base")
    save_pack(folder / "packs" / "base.safetensors", model, "base", trunk_fingerprint, base=True)
    write_json(folder / "config.json", {"run": RunConfig(("base",), "data", "run").to_json()})
    return model


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    models = {}
    for run, method, backbone in (
        ("base", "pointwise_sharing", "resnet26_separable"),
        ("plain", "individual", "resnet26"),
    ):
        architecture = small(method, backbone)
        models[run] = save_trunk(folder / run, architecture)
    for seed, (method, domain) in enumerate(itertools.product(METHODS, ("added", "other"))):
        run = f"{method}-{domain}"
        model = MultiDomainClassifier({domain: CLASSES[domain]}, small(method))
        trunk = read_trunk(folder / base_of(method))
        initialize(model, trunk)
        models[run] = moved(model, (domain,), seed)
        save_pack(folder / run / "packs" / f"{domain}.safetensors", model, domain, trunk.fingerprint)
        config = RunConfig((domain,), "data", "run", init_from=str(folder / base_of(method)))
        write_json(folder / run / "config.json", {"run": config.to_json()})
    return Fleet(folder, models)


@pytest.fixture
def copied(fleet, tmp_path):
    """The fleet, to be spoiled."""
    shutil.copytree(fleet.folder, tmp_path / "fleet")
    return Fleet(tmp_path / "fleet", fleet.models)


def logits(model, domain, images):
    return np.asarray(model.head(model.features(images, domain), domain=domain))


@pytest.fixture
def images(rng):
    return rng.normal(size=(3, 8, 8, 3)).astype("float32")


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
            if owner == pack.domain
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
    other = MultiDomainClassifier({"added": 2}, small("individual", "resnet26"))
    if METHODS[method].base_has_additions:
        with pytest.raises(ValueError, match="trunk.safetensors has .*, which method individual has no use for"):
            initialize(other, trunk)
    else:
        assert trunk.tensors.keys() == fleet.trunk("plain").tensors.keys()
        initialize(other, trunk)


@pytest.mark.parametrize("method", ADDING)
def test_the_base_domain_is_counted_without_what_it_lacks(method, fleet):
    packs = [fleet.pack(f"{method}-added", "added"), fleet.pack("plain", "base")]
    model = compose(fleet.trunk("plain"), packs)
    assert domain_without_additions(model, packs) == "base"
    assert domain_without_additions(model, packs[:1]) is None
    counted = count(model, "base")
    if not METHODS[method].base_has_additions:
        assert counted.own["base"] < counted.own["added"] == count(model).own["base"]


@pytest.mark.parametrize("method", ADDING)
def test_only_the_base_domain_may_lack_what_a_method_adds(method, fleet):
    pack = fleet.pack(f"{method}-added", "added")
    model = fleet.models[f"{method}-added"]
    slot = next(slot for slot in pack.tensors if model.is_addition(slot))
    lacking = {name: value for name, value in pack.tensors.items() if name != slot}
    with pytest.raises(ValueError, match=f"{pack.path}: lacks {slot}"):
        compose(fleet.trunk("plain"), [dataclasses.replace(pack, tensors=lacking)])


def test_masks_are_packed_as_bits(fleet):
    pack = fleet.pack("piggyback-added", "added")
    masks = {slot: value for slot, value in pack.tensors.items() if slot.endswith("/mask")}
    assert len(masks) == 7  # convolutions of the small network
    for slot, value in masks.items():
        weights = fleet.trunk("plain").tensors[slot.removesuffix("mask") + "kernel"].size
        assert (value.dtype, value.shape) == (np.uint8, (-(-weights // 8),))
    wrong = {**pack.tensors, "backbone/stem_conv/mask": np.zeros(3, "uint8")}
    with pytest.raises(ValueError, match=r"stem_conv/mask has shape \(3,\), the model needs \(7,\)"):
        compose(fleet.trunk("plain"), [dataclasses.replace(pack, tensors=wrong)])


def test_the_header_says_what_a_pack_is(fleet):
    pack = fleet.pack("individual-added", "added")
    assert (pack.domain, pack.label_names, pack.category_ids) == ("added", ["added 0", "added 1"], [10, 11])
    assert (pack.preprocessing, pack.accuracy) == (PREPROCESSING, 0.5)
    assert pack.architecture == small("individual")
    assert pack.trunk_fingerprint == fleet.trunk().fingerprint


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


def test_the_fingerprint_is_of_names_types_shapes_and_values():
    tensors = {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros(2)}
    changed = (
        {"a": tensors["a"], "c": tensors["b"]},
        {**tensors, "a": tensors["a"].astype("float32")},
        {**tensors, "a": tensors["a"].reshape(3, 2)},
        {**tensors, "b": np.array([0.0, 1e-9])},
    )
    assert fingerprint(dict(reversed(tensors.items()))) == fingerprint(tensors)
    assert len({fingerprint(tensors), *map(fingerprint, changed)}) == 5
    strided = np.arange(12.0).reshape(2, 6)[:, ::2]
    assert fingerprint({"a": strided}) == fingerprint({"a": strided.copy()})


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


# Refusals of files


@pytest.mark.parametrize("spoil", ["truncated", "flipped", "empty", "text", "foreign", "header"])
@pytest.mark.parametrize("file", ["base/trunk.safetensors", "individual-added/packs/added.safetensors"])
def test_a_damaged_file_is_refused_by_name(file, spoil, copied):
    path = copied.folder / file
    contents = bytearray(path.read_bytes())
    if spoil == "foreign":
        save_file(load_file(path), path)
    elif spoil == "header":
        tensors, header = read_tensors(path)
        del header["architecture"]
        write_tensors(path, tensors, header)
    else:
        contents[-100] ^= 4
        spoiled = {"truncated": contents[:-1], "flipped": contents, "empty": b"", "text": b"hello" * 99}
        path.write_bytes(spoiled[spoil])
    with pytest.raises(ValueError, match=str(path)) as caught:
        compose(copied.trunk(), [copied.pack("individual-added", "added")])
    assert "\n" not in str(caught.value)


def test_a_pack_is_no_trunk_and_a_trunk_no_pack(fleet):
    trunk, pack = fleet.folder / "base" / "trunk.safetensors", fleet.folder / "base" / "packs" / "base.safetensors"
    with pytest.raises(ValueError, match=f"{pack}: is a pack, not a trunk"):
        read_trunk(pack)
    with pytest.raises(ValueError, match=f"{trunk}: is a trunk, not a pack"):
        read_packs(trunk)


def test_what_is_not_there_is_named(fleet, tmp_path):
    added = fleet.folder / "individual-added"
    with pytest.raises(FileNotFoundError, match=f"{added}: has no trunk.safetensors"):
        read_trunk(added)
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}: has no packs"):
        read_packs(tmp_path)
    for read in (read_trunk, read_packs):
        with pytest.raises(FileNotFoundError, match=str(tmp_path / "nowhere")):
            read(tmp_path / "nowhere")


def test_either_runs_or_trunk_and_packs():
    with pytest.raises(ValueError, match="either --workdir, or --trunk and --packs"):
        load_model()
    with pytest.raises(ValueError, match="--trunk wants the domains' --packs"):
        load_model(trunk="somewhere")


def test_a_write_that_was_cut_short_leaves_the_file_before_it(copied):
    path = copied.folder / "base" / "trunk.safetensors"
    path.with_name(path.name + ".partial").write_bytes(path.read_bytes()[:1000])
    before = copied.trunk().fingerprint
    assert read_trunk(copied.folder / "base").fingerprint == before
    assert [pack.domain for pack in read_packs(copied.folder / "base")] == ["base"]
    assert json.loads((copied.folder / "base" / "config.json").read_text())

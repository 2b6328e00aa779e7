"""Trunk and packs give back the model that wrote them, and what does not belong together is refused by name."""

import dataclasses
import itertools
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_network import small

from tfmdl.config import RunConfig
from tfmdl.data.preprocessing import Preprocessing
from tfmdl.files import fingerprint, read_tensors, write_json, write_tensors
from tfmdl.model import MultiDomainClassifier, slot_and_owner
from tfmdl.packs import (
    Expert,
    compose,
    domains_without_additions,
    initialize,
    load_model,
    read_expert_packs,
    read_pack,
    read_packs,
    read_trunk,
    write_pack,
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
        slot, owner = slot_and_owner(variable)
        if owner in owners and not model.is_fixed(slot):
            variable.assign(np.asarray(variable) * random.uniform(0.7, 1.3, variable.shape) + 0.01)
    return model


def save_pack(path, model, domain, trunk_fingerprint, base=False, experts=()):
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
        experts=[Expert(pack.domain, pack.fingerprint, pack.path) for pack in experts],
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


def read_packs_of(folder, run):
    """The packs of a run, none where there is no such run."""
    return read_packs(folder / run) if (folder / run).is_dir() else []


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
        architecture = small(method, backbone=backbone)
        models[run] = save_trunk(folder / run, architecture)
    for seed, (method, domain) in enumerate(itertools.product(METHODS, ("added", "other"))):
        run = f"{method}-{domain}"
        trunk = read_trunk(folder / base_of(method))
        trained_by = METHODS[method].experts_by
        experts = [pack for name in CLASSES if trained_by for pack in read_packs_of(folder, f"{trained_by}-{name}")]
        names = ("base", *(pack.domain for pack in experts)) if experts else ()
        model = MultiDomainClassifier({domain: CLASSES[domain]}, small(method), experts=names)
        initialize(model, trunk, experts)
        models[run] = moved(model, (domain,), seed)
        path = folder / run / "packs" / f"{domain}.safetensors"
        save_pack(path, model, domain, trunk.fingerprint, experts=experts)
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


# Packs that mix the kernels of others


def test_soft_packs_stand_beside_those_of_pointwise_sharing(fleet, images):
    """Base domain, a domain with gates and one without, which is no less itself in a mixed batch."""
    packs = [
        fleet.pack("pointwise_sharing-other", "other"),
        fleet.pack("base", "base"),
        fleet.pack("soft_sharing-added", "added"),
    ]
    runs = ("pointwise_sharing-other", "base", "soft_sharing-added")
    model = compose(fleet.trunk(), packs)
    assert model.method.experts == ("base", "added", "other")
    assert domains_without_additions(model, packs) == ["other", "base"]
    mixed = model({"image": images, "domain": np.array([0, 1, 2], "int32")})
    for index, (pack, run) in enumerate(zip(packs, runs, strict=True)):
        wanted = logits(fleet.models[run], pack.domain, images)
        np.testing.assert_allclose(logits(model, pack.domain, images), wanted, rtol=1e-6, atol=1e-6)
        first = model.head.offsets[pack.domain]
        own = np.asarray(mixed)[index, first : first + len(pack.label_names)]
        np.testing.assert_allclose(own, wanted[index], rtol=1e-5, atol=1e-5)
    for index, domain in enumerate(("base", "other")):
        (_, gates) = model.tower(domain, gates=True)(images)
        assert (np.asarray(gates) == np.eye(3)[2 * index]).all()  # exactly: its own kernels and no others


def soft_pack_of(fleet, folder, experts, seed=5, **options):
    """Writes the pack of a run that mixed the packs `experts` for "added", and returns it and the model."""
    architecture = small("soft_sharing", **options)
    model = MultiDomainClassifier({"added": 2}, architecture, experts=("base", *(pack.domain for pack in experts)))
    initialize(model, fleet.trunk(), experts)
    moved(model, ("added",), seed)
    path = folder / "soft.safetensors"
    save_pack(path, model, "added", fleet.trunk().fingerprint, experts=experts)
    return read_pack(path), model


def test_a_domain_that_soft_packs_do_not_know_joins_them(fleet, images, tmp_path):
    """Its kernels are in the bank then, and the gates of the others stay shut for them."""
    added, other = (fleet.pack(f"pointwise_sharing-{name}", name) for name in ("added", "other"))
    soft, wrote = soft_pack_of(fleet, tmp_path, [added])
    model = compose(fleet.trunk(), [soft, other])
    assert model.method.experts == ("base", "added", "other")
    (_, gates) = model.tower("added", gates=True)(images)
    assert (np.asarray(gates)[..., 2] == 0).all() and (np.asarray(gates)[..., :2] > 0).all()
    for domain, run in (("added", wrote), ("other", fleet.models["pointwise_sharing-other"])):
        np.testing.assert_allclose(
            logits(model, domain, images), logits(run, domain, images), rtol=1e-6, atol=1e-6
        )


def test_a_pack_holds_no_kernels_of_others(fleet, images, tmp_path):
    soft = fleet.pack("soft_sharing-added", "added")
    assert not [slot for slot in soft.tensors if slot.endswith("depthwise/kernel")]
    packs = [fleet.pack(f"pointwise_sharing-{name}", name) for name in ("added", "other")]
    assert soft.experts == tuple(Expert(pack.domain, pack.fingerprint, pack.path) for pack in packs)
    partly, wrote = soft_pack_of(fleet, tmp_path, packs, soft_layers="last:5")
    own = [slot for slot in partly.tensors if slot.endswith("depthwise/kernel")]
    assert own == ["backbone/stage1_block1/conv1/depthwise/kernel", "backbone/stem_conv/depthwise/kernel"]
    for slot in own:
        np.testing.assert_array_equal(partly.tensors[slot], packs[0].tensors[slot])
    np.testing.assert_array_equal(
        logits(compose(fleet.trunk(), [partly]), "added", images), logits(wrote, "added", images)
    )


def test_soft_packs_of_other_experts_or_layers_are_refused(fleet, tmp_path):
    other = fleet.pack("soft_sharing-other", "other")
    packs = [fleet.pack(f"pointwise_sharing-{name}", name) for name in ("added", "other")]
    fewer, _ = soft_pack_of(fleet, tmp_path, packs[:1])
    message = f"same experts; of 'other', {other.path} has {packs[1].fingerprint[:12]}, {fewer.path} has none"
    with pytest.raises(ValueError, match=message):
        compose(fleet.trunk(), [other, fewer])
    partly, _ = soft_pack_of(fleet, tmp_path, packs, soft_layers="first:2")
    with pytest.raises(ValueError, match=f"{other.path} has .*soft_layers='all'.*{partly.path} has .*'first:2'"):
        compose(fleet.trunk(), [other, partly])


def test_packs_of_experts_that_moved_are_found_and_others_refused(copied, fleet, images):
    """The copied packs name the experts of the fleet by path: these are taken away, and others put in their place."""
    run = copied.folder / "pointwise_sharing-other"
    path = run / "packs" / "other.safetensors"
    soft = copied.pack("soft_sharing-added", "added")
    soft = dataclasses.replace(
        soft, experts=tuple(dataclasses.replace(expert, path=str(path)) for expert in soft.experts[1:])
    )
    fingerprint = soft.experts[0].fingerprint
    path.rename(copied.folder / "moved.safetensors")
    own = fleet.pack("pointwise_sharing-added", "added")
    soft = dataclasses.replace(soft, experts=(Expert("added", own.fingerprint, own.path), *soft.experts))
    missing = f"{soft.path} mixes .*'other' with fingerprint {fingerprint[:12]}, which is not at {path}.*--expert_packs"
    with pytest.raises(FileNotFoundError, match=missing):
        compose(copied.trunk(), [soft])
    there = read_pack(copied.folder / "moved.safetensors")
    wanted = logits(fleet.models["soft_sharing-added"], "added", images)
    np.testing.assert_array_equal(
        logits(compose(copied.trunk(), [soft], expert_packs=[there]), "added", images), wanted
    )

    tensors, header = read_tensors(there.path)
    tensors["head/bias"] += 1
    write_tensors(path, tensors, header)
    wrong = read_pack(path)
    other = f"{soft.path} mixes .*{fingerprint[:12]}; {path} has {wrong.fingerprint[:12]}; --expert_packs"
    for given in ([], [wrong]):
        with pytest.raises(ValueError, match=other):
            compose(copied.trunk(), [soft], expert_packs=given)
    with pytest.raises(ValueError, match=f"{path} of 'other' has fingerprint {wrong.fingerprint[:12]}; {soft.path}"):
        compose(copied.trunk(), [soft, wrong], expert_packs=[there])


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (["pointwise_sharing-other"], "must have a pack of --domain=added itself.*received packs of other"),
        ([], "must have a pack of --domain=added itself.*received packs of no domain"),
        (["pointwise_sharing-added"] * 2, "two packs of 'added'"),
        (["pointwise_sharing-added", "base"], "base.safetensors is of the base domain, whose kernels come with"),
        (["individual-added"], "added.safetensors has .*'individual'.*; wanted is .*'pointwise_sharing'"),
        (["dan-added"], "added.safetensors has .*'resnet26'.*; wanted is .*'resnet26_separable'"),
    ],
)
def test_packs_that_cannot_be_experts_are_refused(runs, message, fleet):
    paths = [str(fleet.folder / run) for run in runs]
    with pytest.raises(ValueError, match=message):
        read_expert_packs(paths, fleet.trunk(), small("soft_sharing"), "added")


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

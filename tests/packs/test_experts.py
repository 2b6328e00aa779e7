"""Packs that mix the kernels of others find them, stand beside packs that do not, and are refused the wrong ones."""

import dataclasses

import numpy as np
import pytest
from fleets import logits, moved, save_pack
from small_network import small

from tfmdl.files import read_tensors, write_tensors
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import Expert, compose, domains_without_additions, initialize, read_expert_packs, read_pack


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

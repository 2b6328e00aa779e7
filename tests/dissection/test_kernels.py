"""Distances between kernels of domains, and the similarity of outputs."""

import numpy as np
import pytest
from small_network import small

from tfmdl.dissection.kernels import depthwise_distances, linear_cka, similarities
from tfmdl.dissection.units import Units
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import initialize, read_trunk, write_trunk


@pytest.fixture
def trunk(tmp_path):
    path = tmp_path / "trunk.safetensors"
    write_trunk(path, MultiDomainClassifier({"base": 2}, small()), "base")
    return read_trunk(path)


def test_distances_are_those_of_the_kernels_by_the_norm_of_the_trunks(trunk):
    model = MultiDomainClassifier({"near": 2, "far": 2, "still": 2}, small())
    initialize(model, trunk)
    for domain, by in (("near", 0.1), ("far", 0.5)):
        for conv, _ in model.backbone.normalized_convolutions():
            variable = conv.depthwise.kernel.variable(domain)
            variable.assign(variable.value * (1 + by))
    found = depthwise_distances(model, trunk)
    assert found.layers[:2] == ("stem_conv", "stage1_block1/conv1") and len(found.layers) == 7
    assert found.moved == pytest.approx(np.array([[0.1] * 7, [0.5] * 7, [0] * 7]), abs=1e-6)
    assert found.apart == pytest.approx(np.array([[0, 0.4, 0.1], [0.4, 0, 0.5], [0.1, 0.5, 0]]), abs=1e-6)


def test_a_network_without_depthwise_kernels_has_no_distances(tmp_path):
    model = MultiDomainClassifier({"base": 2}, small("individual", "resnet26"))
    write_trunk(tmp_path / "trunk.safetensors", model, "base")
    assert depthwise_distances(model, read_trunk(tmp_path / "trunk.safetensors")) is None


def test_cka_is_one_but_for_rotation_scale_and_offset(rng):
    one = rng.normal(size=(200, 5)) * [1, 2, 3, 4, 5]
    rotation, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    assert linear_cka(one, 3 * one @ rotation + 7) == pytest.approx(1)
    assert linear_cka(one, rng.normal(size=(200, 4))) < 0.1
    assert linear_cka(one, np.ones((200, 2))) == 0
    gram = [x @ x.T for x in (one - one.mean(axis=0), np.exp(one[:, :2] / 9) - np.exp(one[:, :2] / 9).mean(axis=0))]
    by_grams = (gram[0] * gram[1]).sum() / np.sqrt((gram[0] ** 2).sum() * (gram[1] ** 2).sum())
    assert linear_cka(one, np.exp(one[:, :2] / 9)) == pytest.approx(by_grams)
    with pytest.raises(ValueError, match="received 200 and 199"):
        linear_cka(one, one[1:])


def test_networks_that_are_equal_are_alike_at_every_layer(trunk, rng):
    model = MultiDomainClassifier({"a": 2, "b": 2, "c": 2}, small())
    initialize(model, trunk)
    kernel = model.backbone.stem_conv.depthwise.kernel.variable("c")
    kernel.assign(rng.normal(size=kernel.shape))
    images = rng.normal(size=(6, 16, 16, 3)).astype("float32")
    networks = {domain: (Units(model, domain, (16, 16)), images) for domain in model.domains}
    found = similarities(networks, batch_size=4, rng=rng)
    assert found["stem_conv/depthwise"]["kind"] == "depthwise" and len(found) == 14
    for layer in found.values():
        assert set(layer["cka"]) == {("a", "b"), ("a", "c"), ("b", "c")}
        assert layer["cka"]["a", "b"] == pytest.approx(1)
        assert layer["cka"]["a", "c"] < 0.9999

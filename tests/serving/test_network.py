"""A folded network computes what the model does, whatever the sharing method."""

import numpy as np
import pytest
from made import moved

from tfmdl.layers import DomainBatchNormalization
from tfmdl.model import Architecture, MultiDomainClassifier
from tfmdl.packs import values_of
from tfmdl.serving.network import FoldedClassifier, of_dtype
from tfmdl.sharing import METHODS

NUM_CLASSES = {"a": 3, "b": 4, "c": 2}


def model_of(method, domains, backbone=None):
    model = moved(
        MultiDomainClassifier(
            {name: NUM_CLASSES[name] for name in domains},
            Architecture(method=method, backbone=backbone, width=4, blocks_per_stage=1),
        )
    )
    for bank in model.banks():
        if bank.bits == 1:  # masks that let half of the weights through
            rng = np.random.default_rng(1)
            for owner in bank.variable_of:
                bank.restore(owner, rng.integers(0, 256, bank.stored_shape(owner), "uint8"))
    return model


CASES = [(method, None) for method in METHODS] + [("piggyback", "resnet26_separable"), ("individual", "resnet26")]


@pytest.mark.parametrize("alone", [True, False], ids=["one domain", "several"])
@pytest.mark.parametrize(("method", "backbone"), CASES)
def test_folding_changes_no_answer(method, backbone, alone, rng):
    domains = ("b",) if alone else ("a", "b", "c")
    model = model_of(method, domains, backbone)
    folded = FoldedClassifier(model)
    images = rng.normal(size=(5, 11, 12, 3)).astype("float32")
    which = "b" if alone else np.array([0, 2, 1, 1, 0], "int32")
    wanted, found = (np.asarray(each.features(images, which)) for each in (model, folded))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    for domain in domains:
        by_name = [np.asarray(each.head(each.features(images, domain), domain=domain)) for each in (model, folded)]
        np.testing.assert_allclose(by_name[1], by_name[0], rtol=1e-4, atol=1e-4)
    kept = [layer for layer in folded.backbone._flatten_layers() if isinstance(layer, DomainBatchNormalization)]
    assert bool(kept) == (method == "serial_adapters" and not alone)


def test_of_one_domain_no_scale_is_left_but_the_last():
    folded = FoldedClassifier(model_of("pointwise_sharing", ("a",)))
    scales = [variable.path for variable in folded.variables if "/scale/" in variable.path]
    assert scales == ["backbone/final_norm/scale/a"]


def test_bfloat16_is_half_as_large_and_close(rng):
    model = model_of("pointwise_sharing", ("a", "b"))
    half = of_dtype(model, "bfloat16")
    kernels = [variable for variable in half.variables if "kernel" in variable.path and "head" not in variable.path]
    assert kernels and {variable.dtype for variable in kernels} == {"bfloat16"}
    assert {v.dtype for v in half.variables if "norm" in v.path or "head" in v.path} == {"float32"}
    images = rng.normal(size=(4, 11, 12, 3)).astype("float32")
    wanted, found = (np.asarray(each.features(images, "a"), "float32") for each in (model, half))
    assert 0 < np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()


def test_values_of_a_domain_are_what_its_pack_holds():
    model = model_of("pointwise_sharing", ("a", "b"))
    own = values_of(model, "a")
    assert "head/kernel" in own and "backbone/stem_conv/depthwise/kernel" in own
    assert not set(own) & set(values_of(model, "shared"))

"""What each method shares, and the paths of its variables: packs and checkpoints are read by them."""

import collections
import re

import pytest

from tfmdl import sharing
from tfmdl.model import Architecture, MultiDomainClassifier, slot_and_owner
from tfmdl.sharing import METHODS

# Who owns the parts of a network. A change here changes the format of packs and checkpoints: what was written
# before can no longer be read.
NORM = "gamma beta moving_mean moving_variance"
BOTH, ALL = "a b", "shared"
PATHS = {
    "pointwise_sharing": {"depthwise": BOTH, "pointwise": ALL, "last pointwise": BOTH, "norm": BOTH},
    "classifier_only": {"depthwise": ALL, "pointwise": ALL, "last pointwise": ALL, "norm": ALL},
    "depthwise_sharing": {"depthwise": ALL, "pointwise": BOTH, "last pointwise": BOTH, "norm": BOTH},
    "individual": {"depthwise": BOTH, "pointwise": BOTH, "last pointwise": BOTH, "norm": BOTH},
}


def separable_paths(owners):
    """The whole list of paths of a separable ResNet-26, written out from the owners of its kinds of parts."""
    units = [("stem_conv", "stem_norm")]
    for stage in (1, 2, 3):
        for block in (1, 2, 3, 4):
            units += [
                (f"stage{stage}_block{block}/conv{i}", f"stage{stage}_block{block}/norm{i}") for i in (1, 2)
            ]
    paths = []
    for conv, norm in units:
        last = "last " if conv == "stage3_block4/conv2" else ""
        paths += [f"backbone/{conv}/depthwise/kernel/{owner}" for owner in owners["depthwise"].split()]
        paths += [f"backbone/{conv}/pointwise/kernel/{owner}" for owner in owners[last + "pointwise"].split()]
        paths += [f"backbone/{norm}/{s}/{owner}" for s in NORM.split() for owner in owners["norm"].split()]
    paths += [f"backbone/final_norm/{s}/{owner}" for s in NORM.split() for owner in owners["norm"].split()]
    return paths + [f"head/{s}/{owner}" for owner in BOTH.split() for s in ("kernel", "bias")]


def build(method, **kwargs):
    return MultiDomainClassifier({"a": 3, "b": 4}, Architecture(method, width=2, **kwargs))


@pytest.mark.parametrize("method", METHODS)
def test_variable_paths(method):
    assert method in PATHS, f"say in PATHS who owns the parts of {method}"
    model = build(method)
    paths = [v.path for v in model.variables]
    assert sorted(paths) == sorted(separable_paths(PATHS[method]))
    assert len(set(paths)) == len(paths)
    assert all(re.fullmatch(r"(backbone|head)(/[a-z0-9_]+)+", path) for path in paths)


def test_sharing_the_last_pointwise_kernel():
    paths = [v.path for v in build("pointwise_sharing", share_last_pointwise=True).variables]
    assert sorted(paths) == sorted(separable_paths({**PATHS["pointwise_sharing"], "last pointwise": ALL}))


def test_paths_of_the_plain_network():
    paths = [v.path for v in build("individual", backbone="resnet26").variables]
    kernels = [
        path for path in paths if path.endswith("/a") and "/kernel/" in path and path.startswith("backbone")
    ]
    assert kernels[:3] == [
        "backbone/stem_conv/kernel/a",
        "backbone/stage1_block1/conv1/kernel/a",
        "backbone/stage1_block1/conv2/kernel/a",
    ]
    assert len(kernels) == 25
    assert collections.Counter(path.rpartition("/")[2] for path in paths) == {"a": 131, "b": 131}


@pytest.mark.parametrize("method", METHODS)
def test_every_domain_has_the_same_slots_and_shapes(method):
    """So that a new domain can start from the base domain's."""
    shapes = collections.defaultdict(dict)
    for variable in build(method).variables:
        slot, owner = slot_and_owner(variable)
        if not slot.startswith("head/"):
            shapes[owner][slot] = tuple(variable.shape)
    assert shapes["a"] == shapes["b"]


@pytest.mark.parametrize("method", [name for name in METHODS if name != "pointwise_sharing"])
def test_an_option_that_would_change_nothing_is_refused(method):
    with pytest.raises(ValueError, match=f"{method} treats .*: --share_last_pointwise does not apply"):
        build(method, share_last_pointwise=True)


def test_the_table_names_methods_by_their_own_names():
    for name, method in METHODS.items():
        assert method.name == name
        assert issubclass(method, sharing.SharingMethod)
        assert method.__doc__

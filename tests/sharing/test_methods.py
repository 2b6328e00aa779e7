"""What each method shares, and the paths of its variables: packs and checkpoints are read by them."""

import collections
import re

import pytest
from small_network import small

from tfmdl import sharing
from tfmdl.architecture import Architecture
from tfmdl.model import MultiDomainClassifier, slot_and_owner
from tfmdl.sharing import METHODS, OPTIONS, methods_with

# Who owns the parts of a network. A change here changes the format of packs and checkpoints: what was written
# before can no longer be read.
NORM = "gamma beta moving_mean moving_variance"
PLAIN = "resnet26"
BOTH, ALL = "a b", "shared"
PATHS = {
    "pointwise_sharing": {"depthwise": BOTH, "pointwise": ALL, "last pointwise": BOTH, "norm": BOTH},
    "classifier_only": {"depthwise": ALL, "pointwise": ALL, "last pointwise": ALL, "norm": ALL},
    "depthwise_sharing": {"depthwise": ALL, "pointwise": BOTH, "last pointwise": BOTH, "norm": BOTH},
    "soft_sharing": {"depthwise": BOTH, "pointwise": ALL, "last pointwise": BOTH, "norm": BOTH},
    "individual": {"depthwise": BOTH, "pointwise": BOTH, "last pointwise": BOTH, "norm": BOTH},
    "piggyback": {"depthwise": ALL, "pointwise": ALL, "last pointwise": ALL, "norm": BOTH},
    "low_rank": {"depthwise": ALL, "pointwise": ALL, "last pointwise": ALL, "norm": BOTH},
}
# On the plain network: who owns the convolutions, and the norm.
PLAIN_PATHS = {
    "classifier_only": (ALL, ALL),
    "individual": (BOTH, BOTH),
    "serial_adapters": (ALL, BOTH),
    "parallel_adapters": (ALL, BOTH),
    "piggyback": (ALL, BOTH),
    "dan": (ALL, BOTH),
    "low_rank": (ALL, BOTH),
}
# What a method adds to each convolution, for each domain.
ADDED = {
    ("soft_sharing", "resnet26_separable"): [
        f"depthwise/gate/{part}" for part in ("hidden_kernel", "hidden_bias", "kernel", "bias")
    ],
    ("piggyback", "resnet26_separable"): ["depthwise_mask", "pointwise_mask"],
    ("piggyback", PLAIN): ["mask"],
    ("serial_adapters", PLAIN): ["adapter/kernel", *(f"adapter_norm/{s}" for s in NORM.split())],
    ("parallel_adapters", PLAIN): ["adapter/kernel"],
    ("dan", PLAIN): ["controller"],
    ("low_rank", "resnet26_separable"): [
        f"{half}_update/{side}" for half in ("depthwise", "pointwise") for side in ("left", "right")
    ],
    ("low_rank", PLAIN): ["update/left", "update/right"],
}


def layers():
    """The convolutions of a ResNet-26 and the norms behind them."""
    pairs = [("stem_conv", "stem_norm")]
    for stage in (1, 2, 3):
        for block in (1, 2, 3, 4):
            pairs += [
                (f"stage{stage}_block{block}/conv{i}", f"stage{stage}_block{block}/norm{i}") for i in (1, 2)
            ]
    return pairs


def norms_and_heads(owners):
    norms = [norm for _, norm in layers()] + ["final_norm"]
    paths = [f"backbone/{norm}/{s}/{owner}" for norm in norms for s in NORM.split() for owner in owners.split()]
    return paths + [f"head/{s}/{owner}" for owner in BOTH.split() for s in ("kernel", "bias")]


def added_paths(method, backbone):
    return [
        f"backbone/{conv}/{slot}/{owner}"
        for conv, _ in layers()
        for slot in ADDED.get((method, backbone), ())
        for owner in BOTH.split()
    ]


def separable_paths(owners):
    """The whole list of paths of a separable ResNet-26, written out from the owners of its kinds of parts."""
    paths = norms_and_heads(owners["norm"])
    for conv, _ in layers():
        last = "last " if conv == "stage3_block4/conv2" else ""
        paths += [f"backbone/{conv}/depthwise/kernel/{owner}" for owner in owners["depthwise"].split()]
        paths += [f"backbone/{conv}/pointwise/kernel/{owner}" for owner in owners[last + "pointwise"].split()]
    return paths


def plain_paths(owner_of_convolutions, owner_of_norm):
    kernels = [f"backbone/{conv}/kernel/{owner}" for conv, _ in layers() for owner in owner_of_convolutions.split()]
    return norms_and_heads(owner_of_norm) + kernels


def build(method, **kwargs):
    return MultiDomainClassifier({"a": 3, "b": 4}, Architecture.from_json({"method": method, "width": 2, **kwargs}))


@pytest.mark.parametrize("backbone", ["resnet26_separable", PLAIN])
@pytest.mark.parametrize("method", METHODS)
def test_variable_paths(method, backbone):
    assert method in PATHS or method in PLAIN_PATHS, f"say in PATHS or PLAIN_PATHS who owns the parts of {method}"
    if method not in (PLAIN_PATHS if backbone == PLAIN else PATHS):
        with pytest.raises(ValueError, match=f"method {method} .*: use --backbone=(?!{backbone}$)"):
            build(method, backbone=backbone)
        return
    model = build(method, backbone=backbone)
    paths = [v.path for v in model.variables]
    wanted = plain_paths(*PLAIN_PATHS[method]) if backbone == PLAIN else separable_paths(PATHS[method])
    assert sorted(paths) == sorted(wanted + added_paths(method, backbone))
    added = {v.path for v in model.variables if model.is_addition(slot_and_owner(v)[0])}
    assert added == set(added_paths(method, backbone))
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
    for variable in MultiDomainClassifier({"a": 3, "b": 4}, small(method)).variables:
        slot, owner = slot_and_owner(variable)
        if not slot.startswith("head/"):
            shapes[owner][slot] = tuple(variable.shape)
    assert shapes["a"] == shapes["b"]


@pytest.mark.parametrize("method", METHODS)
def test_an_option_that_would_change_nothing_is_refused(method):
    defaults = {name: option.default for name, option in OPTIONS.items()}
    assert sharing.options_of(method, defaults) == METHODS[method].Options()
    for name, default in defaults.items():
        other = "first:1" if name == "soft_layers" else default + 1 if type(default) is int else not default
        if method in methods_with(name):
            assert getattr(sharing.options_of(method, {name: other}), name) == other
        else:
            with pytest.raises(ValueError, match=f"{method} has no option --{name}, .*; received {other!r}"):
                sharing.options_of(method, {name: other})
    with pytest.raises(ValueError, match="`thickness` is an option of no method"):
        sharing.options_of(method, {"thickness": 3})
    if not METHODS[method].experts_by:
        with pytest.raises(ValueError, match=f"{method} has no experts to mix"):
            METHODS[method](("a",), experts=("a",))


@pytest.mark.parametrize(("name", "wrong"), [("share_last_pointwise", 1), ("soft_layers", None)])
def test_an_option_is_of_its_type(name, wrong):
    with pytest.raises(ValueError, match=f"`{name}` must be .*; received {wrong}"):
        build(methods_with(name)[0], **{name: wrong})


@pytest.mark.parametrize(
    ("soft_layers", "mixing"),
    [("all", range(7)), ("first:1", [0]), ("first:3", [0, 1, 2]), ("last:2", [5, 6]), ("last:7", range(7))],
)
def test_soft_layers_are_counted_in_the_order_of_the_network(soft_layers, mixing):
    order = ["stem_conv", *(f"stage{stage}_block1/conv{i}" for stage in (1, 2, 3) for i in (1, 2))]
    model = build("soft_sharing", soft_layers=soft_layers, blocks_per_stage=1)
    assert list(model.gated_layers()) == [order[index] for index in mixing]
    paths = {v.path for v in model.variables}
    assert {f"backbone/{conv}/depthwise/kernel/a" for conv in order} <= paths  # the others keep their own


@pytest.mark.parametrize(
    ("soft_layers", "message"),
    [
        ("first:8", "`soft_layers` .*more than the 7 .*received 'first:8'"),
        ("last:8", "`soft_layers` .*more than the 7 .*received 'last:8'"),
        ("first:0", "`soft_layers` must be all, first:N or last:N, N positive; received 'first:0'"),
        ("middle:3", "`soft_layers` must be all, .*received 'middle:3'"),
        ("", "`soft_layers` must be all, .*received ''"),
    ],
)
def test_soft_layers_that_are_none_are_refused(soft_layers, message):
    with pytest.raises(ValueError, match=message):
        build("soft_sharing", soft_layers=soft_layers, blocks_per_stage=1)


def test_a_domain_without_kernels_of_its_own_is_refused():
    architecture = Architecture("soft_sharing", width=2, blocks_per_stage=1)
    with pytest.raises(ValueError, match="`experts` must name every domain; .* for b"):
        MultiDomainClassifier({"a": 3, "b": 4}, architecture, experts=("base", "a"))


def test_the_table_names_methods_by_their_own_names():
    for name, method in METHODS.items():
        assert method.name == name
        assert issubclass(method, sharing.SharingMethod)
        assert method.__doc__

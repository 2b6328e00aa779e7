"""The parameter table: published numbers from built models, and flags that say what is wrong with them."""

import dataclasses
import functools
import math

import pytest
from small_budgets import make_budgets
from small_network import small

from faults.commands import run_command
from tfmdl.architecture import Architecture
from tfmdl.counts import count, count_plain_resnet26
from tfmdl.domains import DECATHLON
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import pack_path
from tfmdl.params import classes_of

CLASSES = {name: facts.num_classes for name, facts in DECATHLON.items()}


@pytest.fixture(scope="module")
def plain():
    return count_plain_resnet26()


@functools.cache
def of_two_domains(architecture):
    return count(MultiDomainClassifier({"base": 2, "a": 3}, architecture), ("base",))


@pytest.mark.parametrize(
    ("architecture", "multiple"),
    [
        (Architecture("pointwise_sharing"), 0.98),
        (small("pointwise_sharing", share_last_pointwise=True, width=64, blocks_per_stage=4), 0.57),
        (Architecture("individual"), 4.57),
        (Architecture("depthwise_sharing"), 4.48),
        (Architecture("classifier_only"), 0.46),
        (Architecture("serial_adapters"), 2.21),
        (Architecture("parallel_adapters"), 2.01),
        (Architecture("piggyback"), 1.29),
        (Architecture("dan"), 2.08),
    ],
    ids=lambda value: f"{value.method}-{value.options}" if dataclasses.is_dataclass(value) else "",
)
def test_ten_domains_are_the_published_multiples(architecture, multiple, plain):
    # Two domains are enough to know ten, since all but the base own as much: the ten take a while to build.
    counted = of_two_domains(architecture)
    ten = counted.shared + counted.own["base"] + 9 * counted.own["a"]
    assert plain == 5_814_688
    assert round(ten / plain, 2) == multiple


# By channels in and out: of the convolutions of the plain network, and of the norms with the last one.
CONVOLUTIONS = [(3, 32), (32, 64), *[(64, 64)] * 7, (64, 128), *[(128, 128)] * 7, (128, 256), *[(256, 256)] * 7]
NORMS = 2 * (sum(filters for _, filters in CONVOLUTIONS) + 256)
KERNELS = sum(9 * channels * filters for channels, filters in CONVOLUTIONS)


@pytest.mark.parametrize(
    ("method", "base_own", "own"),
    [
        ("serial_adapters", *[NORMS + sum(filters**2 + 2 * filters for _, filters in CONVOLUTIONS)] * 2),
        ("parallel_adapters", NORMS, NORMS + KERNELS // 9),
        ("piggyback", NORMS, NORMS + KERNELS // 32),
        ("dan", NORMS, NORMS + sum(filters**2 for _, filters in CONVOLUTIONS)),
    ],
)
def test_what_a_domain_owns_on_the_plain_network(method, base_own, own):
    counted = of_two_domains(Architecture(method))
    assert (counted.shared, counted.own) == (KERNELS, {"base": base_own, "a": own})
    assert KERNELS % 32 == 0  # so that the masks are whole parameters


def test_what_a_domain_owns_under_soft_sharing():
    width, domains = 4, ("base", "a", "b")
    soft, hard = (
        count(
            MultiDomainClassifier(dict.fromkeys(domains, 2), Architecture(method, width=width, blocks_per_stage=1)),
            ("base",),
        )
        for method in ("soft_sharing", "pointwise_sharing")
    )
    channels = [3, width, 2 * width, 2 * width, 4 * width, 4 * width, 8 * width]
    depthwise = sum(9 * c for c in channels)
    gates = sum((c + 1) * (c // 4 + 1) + (c // 4 + 2) * len(domains) for c in channels)
    assert soft.shared == hard.shared + len(domains) * depthwise
    assert soft.own["base"] == hard.own["base"] - depthwise
    assert soft.own["a"] == soft.own["b"] == hard.own["a"] - depthwise + gates


def test_counts_add_up_to_what_the_model_learns():
    model = MultiDomainClassifier({"a": 3, "b": 5}, small(width=2))
    counted = count(model)
    assert counted.total == sum(math.prod(v.shape) for v in model.trainable_variables)
    assert counted.classifier == {"a": 16 * 3 + 3, "b": 16 * 5 + 5}
    model.train_only(["b"])
    assert count(model) == counted  # frozen or not
    assert counted.as_dict(plain=counted.convolutions_and_norm) == {
        "shared": counted.shared,
        "domains": {name: {"own": counted.own[name], "classifier": counted.classifier[name]} for name in "ab"},
        "convolutions_and_norm": counted.convolutions_and_norm,
        "total": counted.total,
        "multiple_of_resnet26": 1.0,
    }


def test_classes_of_domains():
    assert classes_of([], []) == CLASSES
    assert classes_of(["svhn", "mine"], ["mine:7"]) == {"svhn": 10, "mine": 7}
    assert classes_of([], ["mine:7", "svhn:11"]) == {"mine": 7, "svhn": 11}


@pytest.mark.parametrize(
    ("domains", "classes", "message"),
    [
        (["zebra"], [], "'zebra'.*--classes=zebra:NUMBER.*aircraft, cifar100"),
        (["svhn", "svhn"], [], "'svhn' twice"),
        (["a/b"], ["a/b:3"], "domain's name must.*'a/b'"),
        ([], ["mine"], "NAME:NUMBER.*received 'mine'"),
        ([], ["mine:0"], "positive; received 'mine:0'"),
        ([], ["mine:-3"], "positive; received 'mine:-3'"),
        ([], ["mine:two"], "positive; received 'mine:two'"),
        ([], ["mine:2", "mine:3"], "'mine' twice"),
        (["svhn"], ["mine:2"], "--classes names 'mine', which --domains does not"),
    ],
)
def test_bad_domains_are_named(domains, classes, message):
    with pytest.raises(ValueError, match=message):
        classes_of(domains, classes)


def run(*flags):
    return run_command("-m", "tfmdl.params", *flags)


@pytest.mark.slow
def test_command_prints_a_table():
    result = run("--method=pointwise_sharing", "--classes=mine:3,svhn:10", "--width=4")
    assert result.returncode == 0, result.stderr
    rows = {line.split("  ")[0]: line.split() for line in result.stdout.splitlines() if line.strip()}
    counted = count(MultiDomainClassifier({"mine": 3, "svhn": 10}, Architecture(width=4)))
    assert rows["mine"][1:3] == [f"{counted.own['mine']:,}", f"{counted.classifier['mine']:,}"]
    assert f"{counted.total:,}" in rows["total"]
    assert f"{counted.shared:,}" in rows["shared by all"]


def test_a_bad_flag_ends_the_command_with_one_line():
    result = run("--domains=zebra")
    assert result.returncode == 1
    assert "--classes=zebra:NUMBER" in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stdout == ""


def test_an_option_is_not_passed_over():
    """Of one method it is an error; of all, those that have no such option are left out, with the reason."""
    refused = run("--method=individual", "--rank=4")
    assert refused.returncode == 1
    assert refused.stderr == "error: method individual has no option --rank, which is for low_rank; received 4\n"
    listed = run("--rank=4", "--domains=svhn", "--width=4")
    assert listed.returncode == 0, listed.stderr
    told = [line for line in listed.stdout.splitlines() if line.startswith(("low_rank", "Left out: "))]
    assert len(told) == 10 and sum("has no option --rank" in line for line in told) == 9


def test_packs_are_counted_as_they_are(tmp_path):
    trunk, packs = make_budgets(tmp_path, "keras")
    domains = ("near", "usual", "far")
    files = ",".join(str(pack_path(tmp_path, domain)) for domain in domains)
    result = run(f"--trunk={tmp_path}", f"--packs={files}")
    assert result.returncode == 0, result.stderr
    rows = {line.split("  ")[0]: line.split() for line in result.stdout.splitlines() if line.strip()}
    for domain in domains:
        learned = {slot: value.size for slot, value in packs[domain].tensors.items() if "moving_" not in slot}
        head = sum(size for slot, size in learned.items() if slot.startswith("head/"))
        assert rows[domain][1:4] == [f"{sum(learned.values()) - head:,}", f"{head:,}", f"{sum(learned.values()):,}"]
    shared = sum(value.size for slot, value in trunk.tensors.items() if "moving_" not in slot)
    assert f"{shared:,}" in rows["shared by all"]
    assert "far: low_rank (rank=3)" in result.stdout and "one small, " in result.stdout
    refused = run(f"--trunk={tmp_path}", f"--packs={files}", "--method=low_rank")
    assert refused.returncode == 1 and "leave out --method" in refused.stderr

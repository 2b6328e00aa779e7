"""The recipes say what FACTS of the paper and its code say, and their schedules mean what they say, step by step."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_network import small

from tfmdl.domains import DECATHLON
from tfmdl.model import MultiDomainClassifier, slot_and_owner
from tfmdl.recipes import (
    CROPS,
    FINETUNE,
    FINETUNE_RATES,
    HEAD,
    NO_FLIPS,
    PRESETS,
    Additions,
    Preset,
    Recipe,
    Schedule,
    Sizes,
    pixel_statistics,
    recipe_for,
)
from tfmdl.sharing import METHODS
from tfmdl.training.optimization import SmoothedCrossentropy, learning_rate_schedule, optimizer, weight_decay_of

# Of the paper's section on implementation, and of the authors' code.
WEIGHT_DECAY = {
    "aircraft": 5e-4,
    "cifar100": 5e-4,
    "daimlerpedcls": 5e-4,
    "dtd": 2e-3,
    "gtsrb": 3e-4,
    "imagenet12": 5e-4,
    "omniglot": 5e-4,
    "svhn": 2e-4,
    "ucf101": 5e-4,
    "vgg-flowers": 1e-4,
}
NO_RANDOM_CROP = {"gtsrb": "square", "omniglot": "square", "svhn": "square", "daimlerpedcls": "tall"}
DROPOUT = ("gtsrb", "ucf101", "daimlerpedcls")


@pytest.mark.parametrize("base", [True, False])
@pytest.mark.parametrize("domain", DECATHLON)
def test_the_paper_recipe_of_each_domain(domain, base):
    facts = DECATHLON[domain]
    recipe = recipe_for("paper", domain, facts.num_classes, facts.num_train, base)
    assert recipe == Recipe(
        schedule=Schedule(120, (80, 100)) if base else Schedule(100, (40,)),
        batch_size=128,
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=WEIGHT_DECAY[domain],
        dropout=0.5 if domain in DROPOUT else 0.0,
        crop=NO_RANDOM_CROP.get(domain, "random"),
    )


@pytest.mark.parametrize("name", PRESETS)
def test_epochs_scale_the_schedule(name):
    base, added = (recipe_for(name, "dtd", 47, 1880, base).schedule for base in (True, False))
    assert base.scaled(20) == Schedule(20, (13, 16))
    assert added.scaled(15) == Schedule(15, (6,))
    for schedule in (base, added):
        assert schedule.scaled(schedule.epochs) == schedule


@pytest.mark.parametrize(
    ("num_train", "batch_size"), [(5, 32), (1279, 32), (1280, 64), (2559, 64), (2560, 128), (10**6, 128)]
)
def test_a_domain_of_ones_own_gets_batches_that_fit_its_size(num_train, batch_size):
    assert recipe_for("quick", "mine", 10, num_train, base=False).batch_size == batch_size


@pytest.mark.parametrize("domain", DECATHLON)
def test_a_domain_that_only_has_the_name_of_a_published_one_is_like_any_other(domain):
    num_classes = DECATHLON[domain].num_classes + 1
    for num_train in (400, DECATHLON[domain].num_train):
        of_name, of_other = (recipe_for("paper", name, num_classes, num_train, False) for name in (domain, "mine"))
        assert of_name == of_other


def test_a_part_of_a_published_domain_gets_batches_that_fit_its_size():
    assert recipe_for("paper", "dtd", 47, 1880, False).batch_size == 128
    assert recipe_for("paper", "dtd", 47, 1879, False).batch_size == 64
    assert recipe_for("paper", "dtd", 47, 1879, False).weight_decay == WEIGHT_DECAY["dtd"]


# Sizes of images


def test_evaluation_sees_more_than_training_only_where_both_divide_evenly_through_the_network():
    def sizes(crop, image_size):
        return Recipe(Schedule(1, ()), crop=crop).sizes(image_size, total_stride=8)

    assert sizes("random", 64) == Sizes(cover=(72, 72), train=(64, 64), evaluation=(72, 72))  # the authors'
    assert sizes("square", 64) == Sizes((72, 72), (72, 72), (72, 72))
    assert sizes("tall", 64) == Sizes((144, 72), (144, 72), (144, 72))
    assert sizes("random", 32) == Sizes(cover=(36, 36), train=(32, 32), evaluation=(32, 32))
    assert sizes("square", 32) == Sizes((32, 32), (32, 32), (32, 32))
    assert sizes("tall", 32) == Sizes((64, 32), (64, 32), (64, 32))
    for image_size in (32, 64):  # whatever divides
        size = (image_size, image_size)
        assert sizes("same_size", image_size) == Sizes((image_size * 9 // 8,) * 2, size, size)
    for crop in CROPS:
        for image_size in range(8, 300):
            found = sizes(crop, image_size)
            assert all(a >= b for a, b in zip(found.cover, found.evaluation, strict=True))
            if found.evaluation != found.train:
                assert not any(side % 8 for side in (*found.evaluation, *found.train))
            elif crop not in ("random", "same_size"):
                assert found.cover == found.train


def test_images_of_a_run_of_several_domains_have_one_size():
    for domain, facts in DECATHLON.items():
        what = ("paper", domain, facts.num_classes, 99, True)
        assert recipe_for(*what, joint=True) == dataclasses.replace(recipe_for(*what), crop="random")


def test_a_published_domain_has_its_published_statistics():
    own = ([0.5, 0.4, 0.3], [0.3, 0.2, 0.1])
    dtd = DECATHLON["dtd"]
    assert pixel_statistics("dtd", dtd.num_classes, *own) == (dtd.mean, dtd.std)
    assert pixel_statistics("dtd", dtd.num_classes + 1, *own) == tuple(map(tuple, own))
    assert pixel_statistics("mine", dtd.num_classes, *own) == tuple(map(tuple, own))


def test_an_unknown_preset_is_refused_with_the_known():
    with pytest.raises(ValueError, match="paper, quick, finetune; received 'slow'"):
        recipe_for("slow", "dtd", 47, 1880, base=True)


def test_an_unknown_crop_is_refused_with_the_known():
    with pytest.raises(ValueError, match="random, square, tall, same_size; received 'round'"):
        Recipe(Schedule(1, ()), crop="round")


@pytest.mark.parametrize("method", METHODS)
def test_a_new_preset_serves_all_methods(method, monkeypatch):
    new = Preset(base=Schedule(9, (6,)), added=Schedule(8, (4,)))
    monkeypatch.setitem(PRESETS, "new", new)
    for base in (True, False):
        schedule = recipe_for("new", "dtd", 47, 1880, base, method).schedule
        assert schedule == (new.base if base else new.added)


# The schedule in steps


@pytest.mark.parametrize("steps_per_epoch", [1, 3])
@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        (Schedule(5, (2, 4)), [1.0, 1.0, 0.1, 0.1, 0.01]),
        (Schedule(3, ()), [1.0] * 3),
        (Schedule(3, (2, 2)), [1.0, 1.0, 0.1]),  # two drops that scaling has moved together
        (Schedule(2, (0, 1)), [1.0, 0.1]),  # and one that it moved to the beginning
    ],
)
def test_the_first_step_of_an_epoch_has_the_rate_of_that_epoch(schedule, rates, steps_per_epoch):
    recipe = Recipe(schedule, learning_rate=1.0, momentum=0.0)
    optimizer = keras.optimizers.SGD(learning_rate_schedule(recipe, steps_per_epoch))
    variable = keras.Variable(0.0)
    optimizer.build([variable])
    for epoch, rate in enumerate(rates):
        assert recipe.learning_rate_in(epoch) == pytest.approx(rate)
        for _ in range(steps_per_epoch):
            before = float(variable.numpy())
            optimizer.apply([keras.ops.convert_to_tensor(-1.0)])
            assert float(variable.numpy()) - before == pytest.approx(rate, abs=1e-5)


# Weight decay


def test_weight_decay_is_an_l2_term_in_the_loss():
    model = MultiDomainClassifier({"a": 2, "b": 2}, small(width=2))
    model.train_only(("a", "b"), shared=True)
    rates = {"a": 0.25, "b": 0.5}
    recipe = Recipe(Schedule(3, ()), learning_rate=0.5, momentum=0.9)
    decaying = optimizer(recipe, 2, model, weight_decay_of(model, rates))
    plain = keras.optimizers.SGD(0.5, momentum=0.9)
    kinds = {(slot.rpartition("/")[2], owner) for slot, owner in map(slot_and_owner, model.trainable_variables)}
    assert kinds >= {(kind, owner) for kind in ("kernel", "gamma", "beta", "bias") for owner in rates}
    assert ("kernel", "shared") in kinds
    copies = [keras.Variable(variable.numpy()) for variable in model.trainable_variables]
    decaying.build(model.trainable_variables)
    plain.build(copies)
    rng = np.random.default_rng(0)
    for _ in range(3):
        gradients = [tf.constant(rng.normal(size=copy.shape).astype("float32")) for copy in copies]
        with tf.GradientTape() as tape:
            penalty = 0.0
            for variable, copy in zip(model.trainable_variables, copies, strict=True):
                rate = rates.get(slot_and_owner(variable)[1], rates["a"])
                penalty += rate / 2 * tf.reduce_sum(tf.square(copy.value))
        decays = tape.gradient(penalty, [copy.value for copy in copies])
        decaying.apply(gradients)
        plain.apply([gradient + decay for gradient, decay in zip(gradients, decays, strict=True)])
    for variable, copy in zip(model.trainable_variables, copies, strict=True):
        np.testing.assert_allclose(variable.numpy(), copy.numpy(), rtol=1e-5, atol=1e-6, err_msg=variable.path)


# What a method adds


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_adds_is_trained_as_its_authors_do(method):
    recipe = recipe_for("paper", "cifar100", 100, 40000, False, method)
    wanted = {
        "serial_adapters": Additions(1e-4),
        "parallel_adapters": Additions(1e-4),
        "piggyback": Additions(0.0, 1e-4),
    }.get(method, Additions())
    schedule = Schedule(10, (5,)) if method == "soft_sharing" else Schedule(100, (40,))
    assert recipe == Recipe(schedule, additions=wanted)
    assert bool(METHODS[method].additions) or recipe.additions == Additions()


@pytest.mark.parametrize("name", PRESETS)
def test_soft_sharing_drops_its_learning_rate_half_way(name):
    recipe = recipe_for(name, "cifar100", 100, 40000, False, "soft_sharing")
    assert [recipe.learning_rate_in(epoch) for epoch in (0, recipe.schedule.epochs // 2)] == [0.1, pytest.approx(0.01)]
    assert recipe.schedule.scaled(4) == Schedule(4, (2,))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("domain", DECATHLON)
def test_all_methods_drop_alike(domain, method):
    facts = DECATHLON[domain]
    dropout = recipe_for("paper", domain, facts.num_classes, facts.num_train, False, method).dropout
    assert dropout == (0.5 if domain in DROPOUT else 0.0)


def test_what_a_method_adds_decays_by_itself():
    model = MultiDomainClassifier({"a": 2}, small("parallel_adapters", width=2))
    model.train_only(("a",))
    decay_of = weight_decay_of(model, {"a": 0.25}, 0.5)
    assert {("/adapter/" in v.path, decay_of(v)) for v in model.trainable_variables} == {(True, 0.5), (False, 0.25)}


def test_masks_follow_adam_and_the_rest_sgd():
    model = MultiDomainClassifier({"a": 2}, small("piggyback", width=2))
    model.train_only(("a",))
    recipe = Recipe(Schedule(3, (1,)), learning_rate=0.5, momentum=0.9, additions=Additions(0.0, 1e-2))
    mixed, adam = optimizer(recipe, 2, model, lambda variable: 0.0), keras.optimizers.Adam(1e-2, epsilon=1e-8)
    mask, norm = (next(v for v in model.trainable_variables if name in v.path) for name in ("/mask/", "/gamma/"))
    alone, plain = keras.Variable(mask.numpy()), keras.Variable(norm.numpy())
    momentum = keras.optimizers.SGD(learning_rate_schedule(recipe, 2), momentum=0.9)
    mixed.build([mask, norm])
    adam.build([alone])
    momentum.build([plain])
    assert len({variable.path for variable in mixed.variables}) == len(mixed.variables)  # checkpoints go by path
    rng = np.random.default_rng(0)
    for step in range(4):
        gradients = [tf.constant(rng.normal(size=v.shape).astype("float32")) for v in (mask, norm)]
        adam.learning_rate = 1e-2 if step < 2 else 1e-3  # the schedule's drop
        mixed.apply(gradients)
        adam.apply(gradients[:1])
        momentum.apply(gradients[1:])
        np.testing.assert_allclose(mask.numpy(), alone.numpy(), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(norm.numpy(), plain.numpy(), rtol=1e-6)


def test_finetuning_begins_with_the_head_and_changes_nothing_that_the_trunk_measured():
    for method in METHODS.keys() - {"classifier_only"}:
        recipe = recipe_for("finetune", "mine", 5, 300, False, method)
        rate = FINETUNE_RATES.get(method, FINETUNE.learning_rate)
        assert recipe == dataclasses.replace(FINETUNE, learning_rate=rate, additions=recipe.additions)
        assert recipe.head == HEAD and recipe.keeps_statistics
        assert recipe.sizes(96, 32).evaluation == HEAD.sizes(96, 32).evaluation
    assert recipe_for("finetune", "mine", 5, 300, False, "classifier_only") == HEAD
    with pytest.raises(ValueError, match="--recipe=finetune adds a domain to a trunk: give --init_from"):
        recipe_for("finetune", "mine", 5, 300, base=True)


@pytest.mark.parametrize("method", METHODS)
def test_pointwise_kernels_that_a_domain_takes_as_its_own_move_slowly(method):
    owns = not METHODS[method](("mine",)).shares("pointwise")
    assert (method in FINETUNE_RATES) == owns
    assert all(rate < FINETUNE.learning_rate for rate in FINETUNE_RATES.values())


@pytest.mark.parametrize("domain", [*DECATHLON, *NO_FLIPS, "mine"])
def test_signs_and_characters_are_not_mirrored(domain):
    assert {"gtsrb", "omniglot", "svhn"} < set(NO_FLIPS)
    for num_classes in (2, 300):
        assert recipe_for("finetune", domain, num_classes, 300, False).flips == (domain not in NO_FLIPS)
        assert not recipe_for("quick", domain, num_classes, 300, False).flips


def test_a_rate_rises_then_falls_as_a_cosine():
    recipe = Recipe(Schedule(10, warmup=0.2), learning_rate=0.4)
    rates = [recipe.schedule.rate(0.4, epoch) for epoch in (0, 1, 2, 6, 10)]
    np.testing.assert_allclose(rates, [0, 0.2, 0.4, 0.2, 0], atol=1e-9)
    by_step = learning_rate_schedule(recipe, steps_per_epoch=5)
    for step in (0, 4, 10, 17, 30, 49):
        assert float(by_step(step)) == pytest.approx(recipe.schedule.rate(0.4, step / 5), abs=1e-6)
    assert recipe.schedule.scaled(5) == Schedule(5, warmup=0.2)
    falling = learning_rate_schedule(Recipe(Schedule(10, warmup=0.0), learning_rate=0.4), steps_per_epoch=5)
    assert float(falling(0)) == pytest.approx(0.4) and float(falling(50)) == pytest.approx(0, abs=1e-6)


def test_the_rate_goes_by_the_size_of_batches_and_rises_to_a_higher_one():
    recipe = Recipe(Schedule(20, (10,)), batch_size=32, learning_rate=0.1)
    larger = recipe.scaled_to(128)
    assert (larger.batch_size, larger.learning_rate) == (128, pytest.approx(0.4))
    rates = [larger.schedule.rate(0.4, epoch) for epoch in (0, 2.5, 5, 9.9, 10)]
    np.testing.assert_allclose(rates, [0.1, 0.25, 0.4, 0.4, 0.04])
    by_step = learning_rate_schedule(larger, steps_per_epoch=4)
    for step in (0, 3, 10, 20, 39, 40, 79):
        assert float(by_step(step)) == pytest.approx(larger.schedule.rate(0.4, step / 4), rel=1e-5)
    short = dataclasses.replace(recipe, schedule=Schedule(3)).scaled_to(64)
    assert float(learning_rate_schedule(short, 4)(12)) == pytest.approx(0.2)
    assert recipe.scaled_to(32) == recipe
    smaller = recipe.scaled_to(16)
    assert smaller.learning_rate == pytest.approx(0.05) and smaller.schedule == recipe.schedule
    with pytest.raises(ValueError, match="--scale_learning_rate is for SGD"):
        FINETUNE.scaled_to(128)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_are_smoothed_as_keras_smooths_one_hot_ones(smoothing):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 4)).astype("float32"), np.array([0, 1, 2, 3, 0, 1])
    of_keras = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    wanted = of_keras(np.eye(4)[labels], logits)
    assert float(SmoothedCrossentropy(smoothing)(labels, logits)) == pytest.approx(float(wanted), rel=1e-5)


def test_adam_moves_everything_where_the_recipe_says_so():
    model = MultiDomainClassifier({"a": 2}, small(width=2))
    model.train_only(("a",))
    ours = optimizer(Recipe(Schedule(3), learning_rate=1e-2, adam=True), 2, model, lambda variable: 0.0)
    norm = next(v for v in model.trainable_variables if "/gamma/" in v.path)
    alone = keras.Variable(norm.numpy())
    adam = keras.optimizers.Adam(1e-2, epsilon=1e-8)
    for each, variable in ((ours, norm), (adam, alone)):
        each.build([variable])
        for step in range(3):
            each.apply([tf.constant(np.arange(variable.shape[0], dtype="float32") - step)])
    np.testing.assert_allclose(norm.numpy(), alone.numpy(), rtol=1e-5)


def test_what_a_method_adds_has_a_rate_of_its_own_where_adam_moves_everything():
    """Scores of masks begin so near to the threshold that the rate of the rest would carry all across it."""
    model = MultiDomainClassifier({"a": 2}, small("piggyback", width=2))
    model.train_only(("a",))
    recipe = Recipe(Schedule(3), learning_rate=1e-2, adam=True, additions=Additions(0.0, 1e-3))
    ours = optimizer(recipe, 2, model, lambda variable: 0.0)
    mask, norm = (next(v for v in model.trainable_variables if name in v.path) for name in ("/mask/", "/gamma/"))
    before = mask.numpy(), norm.numpy()
    ours.build([mask, norm])
    ours.apply([tf.ones(mask.shape), tf.ones(norm.shape)])
    for variable, start, rate in zip((mask, norm), before, (1e-3, 1e-2), strict=True):
        np.testing.assert_allclose(start - variable.numpy(), rate, rtol=1e-3)

"""The recipes say what FACTS of the paper and its code say, and their schedules mean what they say, step by step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfmdl.domains import DECATHLON
from tfmdl.model import Architecture, MultiDomainClassifier, slot_and_owner
from tfmdl.recipes import CROPS, SCHEDULES, Recipe, Schedule, recipe_for
from tfmdl.training.optimization import decay_weights, sgd

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
    recipe = recipe_for("paper", domain, DECATHLON[domain].num_train, base)
    assert recipe == Recipe(
        schedule=Schedule(120, (80, 100)) if base else Schedule(100, (40,)),
        batch_size=128,
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=WEIGHT_DECAY[domain],
        dropout=0.5 if domain in DROPOUT else 0.0,
        crop=NO_RANDOM_CROP.get(domain, "random"),
    )
    assert recipe.crop in CROPS


@pytest.mark.parametrize("name", SCHEDULES)
def test_epochs_scale_the_schedule(name):
    base, added = (recipe_for(name, "dtd", 1880, base).schedule for base in (True, False))
    assert base.scaled(20) == Schedule(20, (13, 16))
    assert added.scaled(15) == Schedule(15, (6,))
    for schedule in (base, added):
        assert schedule.scaled(schedule.epochs) == schedule


@pytest.mark.parametrize(
    ("num_train", "batch_size"), [(5, 32), (1279, 32), (1280, 64), (2559, 64), (2560, 128), (10**6, 128)]
)
def test_a_domain_of_ones_own_gets_batches_that_fit_its_size(num_train, batch_size):
    assert recipe_for("quick", "mine", num_train, base=False).batch_size == batch_size


def test_an_unknown_recipe_is_refused_with_the_known():
    with pytest.raises(ValueError, match="paper, quick; received 'slow'"):
        recipe_for("slow", "dtd", 1880, base=True)


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
    optimizer = sgd(recipe, steps_per_epoch)
    variable = keras.Variable(0.0)
    optimizer.build([variable])
    for epoch, rate in enumerate(rates):
        assert recipe.learning_rate_in(epoch) == pytest.approx(rate)
        for _ in range(steps_per_epoch):
            before = float(variable.numpy())
            optimizer.apply([keras.ops.convert_to_tensor(-1.0)])
            assert float(variable.numpy()) - before == pytest.approx(rate, abs=1e-5)


# Weight decay


def test_weight_decay_puts_a_multiple_of_the_weight_into_the_gradient():
    model = MultiDomainClassifier({"a": 2, "b": 2}, Architecture(width=2))
    model.train_only(("a", "b"), shared=True)
    rates = {"a": 0.25, "b": 0.5}
    decay_weights(model, rates)
    with tf.GradientTape() as tape:
        decay = sum(model.losses)  # what Keras adds to the loss
    gradients = tape.gradient(decay, [variable.value for variable in model.trainable_variables])
    kinds = set()
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        slot, owner = slot_and_owner(variable)
        np.testing.assert_allclose(gradient, rates.get(owner, rates["a"]) * variable.numpy(), rtol=1e-5)
        kinds.add((slot.rpartition("/")[2], owner))
    assert kinds >= {(kind, owner) for kind in ("kernel", "gamma", "beta", "bias") for owner in rates}
    assert ("kernel", "shared") in kinds


def test_a_frozen_variable_is_not_decayed():
    model = MultiDomainClassifier({"a": 2, "b": 2}, Architecture(width=2))
    model.train_only(("a",))
    decay_weights(model, {"a": 0.25})
    for variable in model.variables:
        assert (variable.regularizer is None) == (not variable.trainable)

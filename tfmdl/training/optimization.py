"""Optimiser, learning rate schedule and weight decay."""

import keras

from tfmdl.domains import SHARED
from tfmdl.model import MultiDomainClassifier, slot_and_owner
from tfmdl.recipes import Recipe


def learning_rate_schedule(recipe: Recipe, steps_per_epoch: int):
    """Returns the recipe's learning rate by step: a number, or a Keras schedule where it drops."""
    drops = sorted({drop for drop in recipe.schedule.drops if drop > 0})
    if not drops:
        return recipe.learning_rate
    # Keras takes a boundary as the last step, counted from 0, of the value before it.
    boundaries = [drop * steps_per_epoch - 1 for drop in drops]
    values = [recipe.learning_rate_in(epoch) for epoch in (0, *drops)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)


def sgd(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Returns SGD with momentum on the recipe's schedule."""
    return keras.optimizers.SGD(learning_rate_schedule(recipe, steps_per_epoch), momentum=recipe.momentum, name="sgd")


def decay_weights(model: MultiDomainClassifier, weight_decay: dict[str, float]) -> None:
    """Gives each trainable variable its owner's L2 term.

    Args:
        model: The model, after `train_only`.
        weight_decay: By name of the domain; shared variables take the first one's. Keras's L2(x) is x * w**2, without
            the half: L2(weight_decay / 2) puts weight_decay * w into the gradient.
    """
    base = next(iter(weight_decay.values()))
    for variable in model.trainable_variables:
        _, owner = slot_and_owner(variable)
        variable.regularizer = keras.regularizers.L2((base if owner == SHARED else weight_decay[owner]) / 2)

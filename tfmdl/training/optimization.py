"""Optimiser, learning rate schedule and weight decay."""

import dataclasses

import keras
from keras import ops

from tfmdl.domains import SHARED
from tfmdl.model import MultiDomainClassifier, slot_and_owner
from tfmdl.recipes import Recipe


def compile_network(
    network: keras.Model,
    model: MultiDomainClassifier,
    recipes: dict[str, Recipe],
    steps_per_epoch: int,
    jit_compile: bool | str,
) -> None:
    """Compiles a network of `model` for training: weight decay, optimiser (built), loss and metrics.

    Args:
        network: A tower, or the mixed graph.
        model: What it is of; `train_only` has been called.
        recipes: By domain; all but the weight decay is the first one's.
        steps_per_epoch: Steps of an epoch.
        jit_compile: As Keras has it.
    """
    recipe = next(iter(recipes.values()))
    weight_decays = {domain: each.weight_decay for domain, each in recipes.items()}
    decay_weights(model, weight_decays, recipe.additions.weight_decay)
    network.compile(
        optimizer=optimizer(recipe, steps_per_epoch, model),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[
            keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="cross_entropy"),
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
        ],
        jit_compile=jit_compile,
    )
    network.optimizer.build(network.trainable_variables)


def learning_rate_schedule(recipe: Recipe, steps_per_epoch: int):
    """Returns the recipe's learning rate by step: a number, or a Keras schedule where it drops."""
    drops = sorted({drop for drop in recipe.schedule.drops if drop > 0})
    if not drops:
        return recipe.learning_rate
    # Keras takes a boundary as the last step, counted from 0, of the value before it.
    boundaries = [drop * steps_per_epoch - 1 for drop in drops]
    values = [recipe.learning_rate_in(epoch) for epoch in (0, *drops)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)


def optimizer(recipe: Recipe, steps_per_epoch: int, model: MultiDomainClassifier) -> keras.optimizers.Optimizer:
    """Returns SGD with momentum on the recipe's schedule, with Adam for what the method adds if the recipe says so."""
    rate = recipe.additions.adam_learning_rate
    if rate is None:
        return sgd(recipe, steps_per_epoch)
    return SGDWithAdam(
        learning_rate_schedule(recipe, steps_per_epoch),
        recipe.momentum,
        by_adam=lambda variable: model.is_addition(slot_and_owner(variable)[0]),
        adam_learning_rate=learning_rate_schedule(dataclasses.replace(recipe, learning_rate=rate), steps_per_epoch),
        name="sgd",
    )


def sgd(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Returns SGD with momentum on the recipe's schedule."""
    return keras.optimizers.SGD(learning_rate_schedule(recipe, steps_per_epoch), momentum=recipe.momentum, name="sgd")


class SGDWithAdam(keras.optimizers.SGD):
    """SGD with momentum, but Adam for some variables. Keras's MultiOptimizer is younger than the Keras asked for.

    Args:
        learning_rate, momentum: Of SGD.
        by_adam: Tells by a variable whether Adam moves it.
        adam_learning_rate: A number or a schedule.
        beta_1, beta_2, epsilon: Of Adam.

    Reference: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.
    """

    def __init__(
        self,
        learning_rate,
        momentum,
        by_adam,
        adam_learning_rate,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        **kwargs,
    ):
        super().__init__(learning_rate, momentum=momentum, **kwargs)
        self.by_adam = by_adam
        self.adam_learning_rate = adam_learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.moments = [
            [self.add_variable_from_reference(variable, name=name) for name in ("first", "second")]
            if self.by_adam(variable)
            else None
            for variable in variables
        ]

    def update_step(self, gradient, variable, learning_rate):
        moments = self.moments[self._get_variable_index(variable)]
        if moments is None:
            super().update_step(gradient, variable, learning_rate)
            return
        first, second = moments
        rate = self.adam_learning_rate
        rate = rate(self.iterations) if callable(rate) else rate
        steps = ops.cast(self.iterations + 1, "float32")
        self.assign(first, first + (gradient - first) * (1 - self.beta_1))
        self.assign(second, second + (ops.square(gradient) - second) * (1 - self.beta_2))
        mean = first / (1 - ops.power(self.beta_1, steps))
        square = second / (1 - ops.power(self.beta_2, steps))
        self.assign_sub(variable, rate * mean / (ops.sqrt(square) + self.epsilon))


def decay_weights(
    model: MultiDomainClassifier, weight_decay: dict[str, float], of_additions: float | None = None
) -> None:
    """Gives each trainable variable its owner's L2 term.

    Args:
        model: The model, after `train_only`.
        weight_decay: By name of the domain; shared variables take the first one's. Keras's L2(x) is x * w**2, without
            the half: L2(weight_decay / 2) puts weight_decay * w into the gradient.
        of_additions: Instead, for what the method adds to the network.
    """
    base = next(iter(weight_decay.values()))
    for variable in model.trainable_variables:
        slot, owner = slot_and_owner(variable)
        decay = base if owner == SHARED else weight_decay[owner]
        if of_additions is not None and model.is_addition(slot):
            decay = of_additions
        variable.regularizer = keras.regularizers.L2(decay / 2)

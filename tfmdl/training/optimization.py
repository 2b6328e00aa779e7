"""Optimiser, learning rate schedule and weight decay."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np

from tfmdl import backend
from tfmdl.domains import SHARED
from tfmdl.model import MultiDomainClassifier, slot_and_owner
from tfmdl.recipes import Recipe
from tfmdl.training.sgd import DecayingSGD, SGDWithAdam


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
        model: The model that it belongs to; `train_only` has been called.
        recipes: By domain; all but the weight decay is taken from the first.
        steps_per_epoch: Steps of an epoch.
        jit_compile: As Keras has it.
    """
    recipe = next(iter(recipes.values()))
    weight_decays = {domain: each.weight_decay for domain, each in recipes.items()}
    decay_of = weight_decay_of(model, weight_decays, recipe.additions.weight_decay)
    network.compile(
        optimizer=optimizer(recipe, steps_per_epoch, model, decay_of),
        loss=SmoothedCrossentropy(recipe.label_smoothing),
        metrics=[
            keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="cross_entropy"),
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
        ],
        jit_compile=jit_compile,
    )
    network.optimizer.build(network.trainable_variables)


class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy of logits with labels of which a share is taken from the true class and given to all alike.

    Args:
        smoothing: The share.

    Reference: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, section 7.
    """

    def __init__(self, smoothing: float = 0.0, **kwargs):
        super().__init__(**{"name": "cross_entropy", **kwargs})
        self.smoothing = smoothing

    def call(self, y_true, y_pred):
        loss = keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
        if self.smoothing:
            of_all = -keras.ops.mean(keras.ops.log_softmax(y_pred), axis=-1)
            loss = (1.0 - self.smoothing) * loss + self.smoothing * of_all
        return loss

    def get_config(self):
        return {**super().get_config(), "smoothing": self.smoothing}


def learning_rate_schedule(recipe: Recipe, steps_per_epoch: int):
    """Returns the recipe's learning rate by step: a number, or a Keras schedule where it changes."""
    schedule = recipe.schedule
    if schedule.rise:
        at_once = dataclasses.replace(recipe, schedule=dataclasses.replace(schedule, rise=0))
        return _Rising(learning_rate_schedule(at_once, steps_per_epoch), schedule.rise * steps_per_epoch, schedule)
    if schedule.warmup is not None:
        steps = schedule.epochs * steps_per_epoch
        rising = round(schedule.warmup * steps)
        rate = recipe.learning_rate
        cosine = keras.optimizers.schedules.CosineDecay
        if not rising:
            return cosine(rate, steps)
        return cosine(0.0, steps - rising, warmup_target=rate, warmup_steps=rising)
    drops = sorted({drop for drop in recipe.schedule.drops if drop > 0})
    if not drops:
        return recipe.learning_rate
    # Keras takes a boundary as the last step, counted from 0, of the value before it.
    boundaries = [drop * steps_per_epoch - 1 for drop in drops]
    values = [recipe.learning_rate_in(epoch) for epoch in (0, *drops)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)


def learning_rate_by_step(recipe: Recipe, steps_per_epoch: int) -> Callable[[int], float]:
    """Returns a function that gives the recipe's learning rate in a step, counted from 0."""
    schedule = learning_rate_schedule(recipe, steps_per_epoch)
    if not callable(schedule):
        return lambda step: schedule
    traced = backend.compiled(schedule)  # op by op it would take longer than all else around a step
    return lambda step: float(traced(np.asarray(step, "int32")))


class _Rising(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises at first: see `tfmdl.recipes.Schedule`."""

    def __init__(self, then, steps, schedule):
        super().__init__()
        self.then, self.steps, self.start = then, steps, 1 / schedule.rise_from

    def __call__(self, step):
        share = keras.ops.minimum(keras.ops.cast(step, "float32") / self.steps, 1.0)
        then = self.then(step) if callable(self.then) else self.then
        return then * (self.start + (1 - self.start) * share)

    def get_config(self):
        return {"then": self.then, "steps": self.steps, "start": self.start}


def optimizer(
    recipe: Recipe, steps_per_epoch: int, model: MultiDomainClassifier, decay_of: Callable[[keras.Variable], float]
) -> keras.optimizers.Optimizer:
    """Returns SGD with momentum on the recipe's schedule, or Adam, for all or for what the method adds.

    What the method adds may have a rate of its own, on the same schedule.
    """
    schedule = learning_rate_schedule(recipe, steps_per_epoch)
    how = (schedule, recipe.momentum, decay_of)
    rate = recipe.additions.adam_learning_rate
    if rate is None and not recipe.adam:
        return DecayingSGD(*how, name="sgd")
    of_additions = schedule
    if rate is not None:
        of_additions = learning_rate_schedule(dataclasses.replace(recipe, learning_rate=rate), steps_per_epoch)

    def adam_rate_of(variable):
        if model.is_addition(slot_and_owner(variable)[0]):
            return of_additions
        return schedule if recipe.adam else None

    return SGDWithAdam(*how, adam_rate_of, name="sgd")


def weight_decay_of(
    model: MultiDomainClassifier, weight_decay: dict[str, float], of_additions: float | None = None
) -> Callable[[keras.Variable], float]:
    """Returns a function from a variable of `model` to its weight decay, that of its owner.

    Args:
        model: The model.
        weight_decay: By name of the domain; shared variables take the first one's.
        of_additions: Instead, for what the method adds to the network.
    """
    base = next(iter(weight_decay.values()))

    def decay_of(variable):
        slot, owner = slot_and_owner(variable)
        if of_additions is not None and model.is_addition(slot):
            return of_additions
        return base if owner == SHARED else weight_decay[owner]

    return decay_of


def not_finite(variables: list[keras.Variable]) -> str | None:
    """Returns what is to be said of the first variable that is not finite, None where all are."""
    for variable in variables:
        if not np.isfinite(np.asarray(variable)).all():
            return f"{variable.path} is not finite"
    return None

"""The values of a model as an export holds them: those that a batch gathers from lie in one variable.

A model has a variable for each domain and slot, so that training one domain touches no other. What is served is not
trained. A graph of a hundred domains that reads a hundred variables in each slot would take minutes to write and to
load, and would stack them for each batch.
"""

import contextlib
import os
from collections.abc import Iterator

import tensorflow as tf

from tfmdl.model import slot_and_owner


@contextlib.contextmanager
def held(model) -> Iterator[tf.Module]:
    """Gives a module of a model's values: plain variables, for an export knows no Keras.

    As long as the context lasts, the model itself reads these.

    Args:
        model: A `MultiDomainClassifier`, or what is folded from one.
    """
    module = tf.Module()
    module.values = {}
    with contextlib.ExitStack() as reading:
        for name, bank in _stacked(model).items():
            stack, _ = bank.stack()
            module.values[name] = tf.Variable(stack, trainable=False)
            reading.enter_context(bank.reading(module.values[name]))
        module.values.update(_single(model))
        yield module


def restore(model, path: str | os.PathLike, stacked: bool) -> None:
    """Sets the variables of a model to those of an export.

    Args:
        model: A `MultiDomainClassifier` of the same domains.
        path: Of the export's variables.
        stacked: Whether `held` wrote it; what 0.1.0 wrote has a variable for each.

    Raises:
        AssertionError, LookupError, ValueError, tf.errors.OpError: if they do not fit, or are damaged.
    """
    module = tf.Module()
    if not stacked:
        module.values = {variable.path: variable.value for variable in model.variables}
    else:
        banks = _stacked(model)
        module.values = {
            **{name: tf.Variable(bank.stack()[0], trainable=False) for name, bank in banks.items()}, **_single(model)
        }
    tf.train.Checkpoint(module).read(path).assert_existing_objects_matched()
    if stacked:
        for name, bank in banks.items():
            bank.unstack(module.values[name])


def _stacked(model):
    """Returns the banks of several variables, by their slots."""
    return {slot_and_owner(bank.variables[0])[0]: bank for bank in model.banks() if len(bank.variables) > 1}


def _single(model):
    """Returns the variables of the other banks, by their paths."""
    return {
        variable.path: variable.value
        for bank in model.banks()
        if len(bank.variables) == 1
        for variable in bank.variables
    }

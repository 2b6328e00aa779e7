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
def held(model, gathers: bool = True) -> Iterator[tf.Module]:
    """Gives a module of a model's values: plain variables, for an export knows no Keras.

    As long as the context lasts, the model itself reads these.

    Args:
        model: A `MultiDomainClassifier`, or what is folded from one.
        gathers: Batches gather from them; otherwise all stay variables of their own.
    """
    module = tf.Module()
    module.values = {}
    banks = _stacked(model) if gathers else {}
    with contextlib.ExitStack() as reading:
        for name, bank in banks.items():
            module.values[name] = _variable(bank)
            reading.enter_context(bank.reading(module.values[name]))
        module.values.update(_others(model, banks))
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
    banks = _stacked(model) if stacked else {}
    module = tf.Module()
    module.values = {name: _variable(bank) for name, bank in banks.items()} | _others(model, banks)
    tf.train.Checkpoint(module).read(path).assert_existing_objects_matched()
    for name, bank in banks.items():
        bank.unstack(module.values[name])


def _variable(bank):
    stack, _ = bank.stack()
    return tf.Variable(stack, trainable=False)


def _stacked(model):
    """Returns the banks that batches gather from, by their slots: heads have a matrix product for each domain."""
    slots = {slot_and_owner(bank.variables[0])[0]: bank for bank in model.banks() if bank.variables}
    return {slot: bank for slot, bank in slots.items() if not bank.one_for_all and not slot.startswith("head/")}


def _others(model, banks):
    """Returns the variables that are not of these banks, by their paths."""
    taken = {id(variable) for bank in banks.values() for variable in bank.variables}
    return {variable.path: variable.value for variable in model.variables if id(variable) not in taken}

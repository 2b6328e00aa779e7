"""What differs between Keras's backends outside of the layers, and the processes that may share a run on JAX.

With TensorFlow one process trains, on one device or on several of its host. On JAX several processes, on one host or
on several, may train one network: each reads its rows of every batch and holds all variables.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator

import keras
import numpy as np

ON_JAX = keras.backend.backend() == "jax"

if ON_JAX:
    import jax
    import tensorflow as tf
    from jax.experimental import multihost_utils

    # TensorFlow reads the images; with the GPUs it would take their memory. Where it has begun, it has what it has.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")
    logging.getLogger("jax").setLevel(logging.WARNING)  # or it tells of each kind of device that is not there

# Keras's names for what `keras.distribution.initialize` can also be told.
_ADDRESSES = "KERAS_DISTRIBUTION_JOB_ADDRESSES"
_NUMBER = "KERAS_DISTRIBUTION_NUM_PROCESSES"
_INDEX = "KERAS_DISTRIBUTION_PROCESS_ID"
# Seconds until a process that is gone is noticed, and for which one that cannot go on waits for the others. All end
# then; the same commands go on from the last checkpoint.
_GONE, _LEAVING = 30, 10


def join_processes() -> None:
    """Makes this process one of several that train together; call it before anything else of Keras.

    They are named by the environment variables of `keras.distribution.initialize` (KERAS_DISTRIBUTION_JOB_ADDRESSES,
    _NUM_PROCESSES and _PROCESS_ID), or else by what JAX finds of Slurm, Open MPI, Kubernetes or a cloud.

    Raises:
        ValueError: if the backend is not JAX, or nothing names the processes, or a variable is no number.
    """
    if not ON_JAX:
        raise ValueError("several processes train together on Keras's JAX backend only: set KERAS_BACKEND=jax")
    addresses = os.environ.get(_ADDRESSES)
    number, index = _number(_NUMBER), _number(_INDEX)
    try:
        jax.distributed.initialize(
            coordinator_address=addresses and addresses.split(",")[0],
            num_processes=number,
            process_id=index,
            heartbeat_timeout_seconds=_GONE,
            shutdown_timeout_seconds=_LEAVING,
        )
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"the processes of this run are not known: set {_ADDRESSES}, {_NUMBER} and {_INDEX}, or start them by "
            f"Slurm, Open MPI or Kubernetes ({error})"
        ) from error


def _number(name):
    value = os.environ.get(name)
    if value is None:
        return None
    if not value.isdecimal():
        raise ValueError(f"{name} must be a number; received {value!r}")
    return int(value)


def num_processes() -> int:
    """Returns how many processes train together."""
    return jax.process_count() if ON_JAX else 1


def writes() -> bool:
    """Returns whether this process is the one of those that train together that writes files and is heard."""
    return _place() == 0


def _place():
    return jax.process_index() if ON_JAX else 0


def shared_out(batch_size: int) -> int:
    """Returns the least batch size, from this one on, of which all devices that train together get the same share.

    With TensorFlow any batch can be shared out.
    """
    distribution = keras.distribution.distribution()
    devices = distribution.num_model_replicas if distribution else 1
    return -(-batch_size // devices) * devices


def rows_of_process(batch_size: int) -> slice:
    """Returns which rows of a batch this process reads: consecutive ones, as many as each of the others."""
    share = batch_size // num_processes()
    return slice(_place() * share, (_place() + 1) * share)


def whole(value) -> np.ndarray:
    """Returns all rows of what a network gave for a batch, of which each process gave its own."""
    if num_processes() == 1:
        return np.asarray(value)
    return multihost_utils.process_allgather(value, tiled=True)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """At the end of the context the processes that train together wait for one another.

    Raises:
        ValueError: if the context of another process ended with an exception, which only that one raises.
    """
    ended = False
    try:
        yield
        ended = True
    finally:
        if num_processes() > 1:
            all_ended = multihost_utils.process_allgather(np.array(ended))
            if ended and not all_ended.all():
                raise ValueError(f"process {np.argmin(all_ended)} of this run cannot go on, and says why")


def check_writes_graphs() -> None:
    """Checks that the backend is TensorFlow, whose graphs exports are.

    Raises:
        ValueError: if it is not.
    """
    if ON_JAX:
        raise ValueError(
            "an export is a graph of TensorFlow: type the command with KERAS_BACKEND=tensorflow. Trunks and packs are "
            "the same for both backends"
        )


def synced(network: keras.Model) -> keras.Model:
    """Returns a network whose variables hold what they are: on JAX, Keras keeps them elsewhere while it fits one."""
    if ON_JAX:
        network.jax_state_sync()
    return network


def compiled(function: Callable) -> Callable:
    """Returns a function of tensors as the backend compiles it."""
    if ON_JAX:
        return jax.jit(function)
    import tensorflow as tf

    return tf.function(function, autograph=False)

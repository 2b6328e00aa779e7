"""Devices as JAX has them: those of all processes that train together, which share a batch by Keras's DataParallel.

A batch is one array there, of which each device holds some rows: batch normalisation sees all of it.
"""

import contextlib

import jax
import keras


def computes_in_bfloat16() -> bool | None:
    """Returns whether the first device does: a TPU, or a GPU of compute capability 8.0 and up. None for a CPU."""
    device = jax.local_devices()[0]
    if device.platform == "cpu":
        return None
    major = getattr(device, "compute_capability", "0.0").partition(".")[0]
    return device.platform == "tpu" or int(major) >= 8


def replicas() -> list[str]:
    """Returns the names of the devices that train together: all that JAX has."""
    return keras.distribution.list_devices()


def use_xla(jit_compile: str) -> bool:
    """Returns whether a step is compiled, by XLA: without it JAX takes it op by op, to look for mistakes."""
    return jit_compile != "off"


def scope():
    """Returns the scope to build and train a model in: of a distribution where several devices train together."""
    if len(replicas()) == 1:
        return contextlib.nullcontext()
    # Each process reads its own rows of a batch (`tfmdl.backend.rows_of_process`): nothing is left to share out.
    return keras.distribution.DataParallel(auto_shard_dataset=False).scope()

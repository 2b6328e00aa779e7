"""Devices as TensorFlow has them: those of one host, which share a batch by a mirrored strategy."""

import contextlib
import functools

import tensorflow as tf


def set_up() -> None:
    """Lets GPU memory grow, and makes the ops of a CPU repeatable."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if not gpus:
        tf.config.experimental.enable_op_determinism()


def computes_in_bfloat16() -> bool | None:
    """Returns whether the first GPU does (compute capability 8.0 and up), None where there is no GPU."""
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return None
    return tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0)) >= (8, 0)


def replicas() -> list[str]:
    """Returns the names of the devices that train together: all GPUs, or else the CPU.

    A device that this process has divided (`tf.config.set_logical_device_configuration`) counts as its parts.
    """
    # The list of logical devices itself would start TensorFlow's runtime, and memory growth can only be set before.
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    parts = [tf.config.get_logical_device_configuration(device) for device in tf.config.list_physical_devices(kind)]
    return [f"{kind}:{index}" for index in range(sum(len(each or [None]) for each in parts))]


def use_xla(jit_compile: str) -> bool:
    """Returns whether to compile the step with XLA; "auto" means on one GPU only: on a CPU it is many times slower.

    Raises:
        ValueError: if it is "on" and several devices train together: XLA compiles for one.
    """
    names = replicas()
    if jit_compile == "on" and len(names) > 1:
        raise ValueError(f"--jit_compile=on compiles for one device; {', '.join(names)} train together here")
    return {"on": True, "off": False, "auto": names == ["GPU:0"]}[jit_compile]


def scope():
    """Returns the scope to build and train a model in: mirrored where several devices train together."""
    return _mirrored().scope() if len(replicas()) > 1 else contextlib.nullcontext()


@functools.cache
def _mirrored():
    """Returns the strategy of this process: a second one would use its keys of TensorFlow's collectives again."""
    return tf.distribute.MirroredStrategy(replicas())

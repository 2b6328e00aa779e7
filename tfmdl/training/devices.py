"""The machine's side of a run: seeds, determinism, memory, precision, several GPUs."""

import contextlib

import keras
import tensorflow as tf


def set_up(seed: int) -> None:
    """Seeds everything, makes ops repeatable, and lets GPU memory grow. Call it before anything of a run is built."""
    # Checkpoints go by names: the automatic ones are those of a fresh process, whatever this one did before.
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if not gpus:
        tf.config.experimental.enable_op_determinism()


def precision_policy(precision: str) -> str:
    """Returns the Keras dtype policy that `precision` (a policy, or "auto") means on this machine.

    auto is float32 on a CPU; on a GPU mixed_bfloat16 where it computes in bfloat16 (compute capability 8.0 and up),
    mixed_float16 otherwise.
    """
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "float32"
    capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
    return "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16"


def use_xla(jit_compile: str) -> bool:
    """Returns whether to compile the step with XLA; "auto" means on a GPU only: on a CPU it is many times slower."""
    return {"on": True, "off": False, "auto": bool(tf.config.list_physical_devices("GPU"))}[jit_compile]


def strategy_scope():
    """Returns the scope to build and train a model in: mirrored over all GPUs where there are several."""
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy().scope()
    return contextlib.nullcontext()

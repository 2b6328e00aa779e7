"""The machine's side of a run: seeds, determinism, memory, precision, several GPUs."""

import contextlib
import functools

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
    """Returns whether to compile the step with XLA; "auto" means on one GPU only: on a CPU it is many times slower.

    Raises:
        ValueError: if it is "on" and several devices train together: XLA compiles for one.
    """
    names = replicas()
    if jit_compile == "on" and len(names) > 1:
        raise ValueError(f"--jit_compile=on compiles for one device; {', '.join(names)} train together here")
    return {"on": True, "off": False, "auto": names == ["GPU:0"]}[jit_compile]


def replicas() -> list[str]:
    """Returns the names of the devices that train together: all GPUs, or else the CPU.

    A device that this process has divided (`tf.config.set_logical_device_configuration`) counts as its parts.
    """
    # The list of logical devices itself would start TensorFlow's runtime, and memory growth can only be set before.
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    parts = [tf.config.get_logical_device_configuration(device) for device in tf.config.list_physical_devices(kind)]
    return [f"{kind}:{index}" for index in range(sum(len(each or [None]) for each in parts))]


def check_batch_size(batch_size: int) -> None:
    """Checks that the devices that train together get the same share of a batch.

    Raises:
        ValueError: if they do not: images of the smaller share would weigh more.
    """
    count = len(replicas())
    if batch_size % count:
        raise ValueError(f"--batch_size must be a multiple of the {count} devices that share it; received {batch_size}")


def strategy_scope():
    """Returns the scope to build and train a model in: mirrored where several devices train together."""
    return _mirrored().scope() if len(replicas()) > 1 else contextlib.nullcontext()


@functools.cache
def _mirrored():
    """Returns the strategy of this process: a second one would use its keys of TensorFlow's collectives again."""
    return tf.distribute.MirroredStrategy(replicas())

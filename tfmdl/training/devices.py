"""The machine's side of a run: seeds, determinism, memory, precision, several devices."""

import keras

from tfmdl import backend

if backend.ON_JAX:
    from tfmdl.training import jax_devices as of_backend
else:
    from tfmdl.training import tensorflow_devices as of_backend

replicas = of_backend.replicas
use_xla = of_backend.use_xla
strategy_scope = of_backend.scope


def set_up(seed: int) -> None:
    """Seeds everything, makes ops repeatable, and lets GPU memory grow. Call it before anything of a run is built."""
    # Checkpoints go by names: the automatic ones are those of a fresh process, whatever this one did before.
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    if not backend.ON_JAX:
        of_backend.set_up()


def precision_policy(precision: str) -> str:
    """Returns the Keras dtype policy that `precision` (a policy, or "auto") means on this machine.

    auto is float32 on a CPU; elsewhere mixed_bfloat16 where the device computes in bfloat16, mixed_float16 otherwise.
    """
    if precision != "auto":
        return precision
    return {None: "float32", True: "mixed_bfloat16", False: "mixed_float16"}[of_backend.computes_in_bfloat16()]


def check_batch_size(batch_size: int) -> None:
    """Checks that the devices that train together get the same share of a batch.

    Raises:
        ValueError: if they do not: images of the smaller share would weigh more.
    """
    count = len(replicas())
    if batch_size % count:
        raise ValueError(f"--batch_size must be a multiple of the {count} devices that share it; received {batch_size}")

"""The head alone, on features of the trunk: what the rest of a run begins with."""

from tfmdl import backend
from tfmdl.data.records import INFO_FILE
from tfmdl.training.batches import feature_batches, of_this_process
from tfmdl.training.optimization import compile_network, not_finite
from tfmdl.training.setup import Job


def fit_head(job: Job) -> None:
    """Trains the head of the only domain of a job by the recipe's `head`, everything else as it is in the trunk.

    A random head would first of all change what is before it. It takes seconds, always ends with the same weights, and
    leaves no checkpoint: a run that is stopped on the way does it again.

    Raises:
        FloatingPointError: if it is not finite at the end.
    """
    (source,) = job.train_sources
    recipe = job.recipe.head
    batch_size = backend.shared_out(recipe.batch_size)
    pipeline = of_this_process(job.first_features.of(source), batch_size, job.config.seed)
    network = job.model.classifier(job.base, recipe.dropout)
    compile_network(network, job.model, {job.base: recipe}, pipeline.steps_per_epoch, job.config.jit_compile)
    network.fit(feature_batches(pipeline.epochs(recipe.schedule.epochs)), verbose=0, shuffle=False)
    if lost := not_finite(network.trainable_variables):
        raise FloatingPointError(
            f"{lost} after the head was trained alone: the features of the trunk are too large for float32: look at "
            f"{job.trunk.path} and pixel_std in {INFO_FILE}"
        )

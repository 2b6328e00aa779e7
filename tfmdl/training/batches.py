"""What Keras fits: the batches of a pipeline as inputs and labels of the network."""

import numpy as np
import tensorflow as tf

from tfmdl import backend
from tfmdl.data.features import FeaturePipeline, Features
from tfmdl.data.pipeline import TrainPipeline, map_in_order
from tfmdl.training.setup import Job


def feature_pipeline(job: Job) -> FeaturePipeline:
    """Computes the features of all images that a run of one domain sees, and returns the batches to train on."""
    for source in job.val_sources:
        job.features.of(source)
    (source,) = job.train_sources
    return of_this_process(job.features.of(source), job.recipe.batch_size, job.config.seed)


def of_this_process(features: Features, batch_size: int, seed: int) -> FeaturePipeline:
    """Returns batches of features, of which this process has its rows; arguments as of `FeaturePipeline`."""
    return FeaturePipeline(features, batch_size, seed, backend.rows_of_process(batch_size))


def feature_batches(dataset):
    """Returns the batches of a `FeaturePipeline`'s dataset as (features, label)."""
    return map_in_order(dataset, lambda batch: (batch["features"], batch["label"]))


def batches(job: Job, pipeline: TrainPipeline | FeaturePipeline, epoch: int, first_step: int):
    """Returns the batches of an epoch from `first_step` on.

    Of one domain, (image or features, label); of several, ({"image", "domain"}, label in the joint label space).
    """
    of_epoch = pipeline.epoch(epoch, first_step)
    if job.features:
        return feature_batches(of_epoch)
    if len(job.config.domains) == 1:
        return map_in_order(of_epoch, lambda batch: (batch["image"], batch["label"]))
    offsets = np.array(list(job.model.head.offsets.values()), "int32")

    def to_joint(batch):
        inputs = {"image": batch["image"], "domain": batch["domain"]}
        return inputs, batch["label"] + tf.gather(offsets, batch["domain"])

    return map_in_order(of_epoch, to_joint)

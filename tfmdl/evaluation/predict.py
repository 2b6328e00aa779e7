"""Predictions of a multi-domain classifier, domain by domain or for batches that mix domains."""

import dataclasses
from collections.abc import Iterator

import keras
import numpy as np

from tfmdl import backend
from tfmdl.data.features import Features
from tfmdl.data.pipeline import evaluation_batches, naming_bad_records
from tfmdl.model import MultiDomainClassifier

BATCH_SIZE = 128


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a classifier said of some images of one domain.

    Attributes:
        domain: Name of the domain.
        image_ids: int64 (images,).
        labels: int32 (images,); -1 where unknown.
        logits: float32 (images, classes of the domain).
        gates: float32 (images, layers, experts), or None where no layer mixes any.

    Raises:
        FloatingPointError: if a logit is not finite, naming domain and image.
    """

    domain: str
    image_ids: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    gates: np.ndarray | None = None

    def __post_init__(self):
        bad = self.image_ids[~np.isfinite(self.logits).all(axis=1)]
        if len(bad):
            raise FloatingPointError(
                f"domain {self.domain!r}: the network's answer to image {bad[0]} is not finite (and that to "
                f"{len(bad) - 1} more of a batch)"
            )


def predict_alone(tower, source) -> Iterator[Predictions]:
    """Yields the predictions of one domain's tower for all images of its `Source`, in batches."""
    for batch in _batches([source]):
        logits, gates = _outputs(tower, batch["image"].numpy())
        yield Predictions(source.domain, batch["image_id"].numpy(), batch["label"].numpy(), logits, gates)


def extract_features(extractor, source) -> Iterator[Features]:
    """Yields the pooled features of all images of a `Source`, in batches, by its domain's `extractor`."""
    for batch in _batches([source]):
        values, _ = _outputs(extractor, batch["image"].numpy())
        yield Features(source.domain, batch["image_id"].numpy(), batch["label"].numpy(), values)


def predict_from_features(classifier, features: Features) -> Iterator[Predictions]:
    """Yields what `predict_alone` does, by the domain's `classifier`, of features in place of images."""
    for batch in features.batches(BATCH_SIZE):
        logits, _ = _outputs(classifier, batch.values)
        yield Predictions(batch.domain, batch.image_ids, batch.labels, logits)


def predict_mixed(model: MultiDomainClassifier, sources) -> Iterator[Predictions]:
    """Yields the predictions of the mixed graph; every batch holds images of several domains.

    Raises:
        ValueError: if a domain is evaluated at another size than the first one.
    """
    size_of = {source.domain: source.preprocessing.size for source in sources}
    size = next(iter(size_of.values()))
    other = {domain: own for domain, own in size_of.items() if own != size}
    if other:
        raise ValueError(
            f"a mixed batch has images of one size, {size} for {sources[0].domain!r}; these domains have another and "
            f"are evaluated by --workdir: {other}"
        )
    network = model.mixed(gates=True)
    # A batch counts the domains in the order of the sources, the model in its own.
    ids = np.array([model.domain_id(source.domain) for source in sources], "int32")
    for batch in _batches(sources):
        index = batch["domain"].numpy()
        logits, gates = _outputs(network, {"image": batch["image"].numpy(), "domain": ids[index]})
        for position, source in enumerate(sources):
            rows = index == position
            if rows.any():
                first = model.head.offsets[source.domain]
                own = logits[rows, first : first + model.num_classes[source.domain]]
                image_ids, labels = (batch[name].numpy()[rows] for name in ("image_id", "label"))
                yield Predictions(source.domain, image_ids, labels, own, None if gates is None else gates[rows])


def _batches(sources):
    with naming_bad_records(sources):
        yield from evaluation_batches(sources, BATCH_SIZE)
    for source in sources:  # files are opened one after the other
        source.check_unchanged()


def _outputs(network, inputs):
    """Returns what a network gives for a batch, and gates if there are any.

    It is filled up to `BATCH_SIZE`, or so that all devices get the same share: another size would trace the network
    again.
    """
    # By itself Keras would use XLA with TensorFlow, too, which makes depthwise convolutions many times slower on a CPU.
    network.jit_compile = backend.ON_JAX
    rows = len(keras.tree.flatten(inputs)[0])
    size = backend.shared_out(BATCH_SIZE)
    here = backend.rows_of_process(size)
    filled = keras.tree.map_structure(lambda value: np.resize(value, (size, *value.shape[1:]))[here], inputs)
    outputs = network.predict_on_batch(filled)
    output, gates = outputs if isinstance(network.output, (list, tuple)) else (outputs, None)
    return backend.whole(output)[:rows], None if gates is None else backend.whole(gates)[:rows]

"""Features of a frozen trunk, computed once per run."""

from collections.abc import Iterator

import numpy as np

from tfmdl.data.features import Features
from tfmdl.data.pipeline import Source
from tfmdl.data.records import INFO_FILE
from tfmdl.evaluation.predict import Predictions, extract_features, predict_from_features
from tfmdl.model import MultiDomainClassifier
from tfmdl.training.progress import counted


class KeptFeatures:
    """Pooled features of a domain's images, computed when first asked for, and kept.

    They are those of eval.py: float32, whatever the run computes in.

    Args:
        model: The classifier, whose backbone must not change as long as this is used.
        domain: Name of the domain.
        trunk: The file that the backbone is from.
    """

    def __init__(self, model: MultiDomainClassifier, domain: str, trunk: str):
        exact = model if model.dtype_policy.name == "float32" else model.of_dtype("float32")
        self._extractor = exact.extractor(domain)
        self._classifier = model.classifier(domain)
        self._trunk = trunk
        self._kept = {}

    def of(self, source: Source) -> Features:
        """Returns the features of all images of a source; shows progress while it computes them.

        Raises:
            FloatingPointError: if they are not finite, naming an image and the trunk.
        """
        if source not in self._kept:
            parts = extract_features(self._extractor, source)
            what = f"features of {source.domain}"
            features = Features.joined(list(counted(parts, what, source.num_examples)))
            bad = features.image_ids[~np.isfinite(features.values).all(axis=1)]
            if len(bad):
                raise FloatingPointError(
                    f"domain {source.domain!r}: the features of image {bad[0]} are not finite (and those of "
                    f"{len(bad) - 1} more): the images, or the weights of the trunk, are too large for float32: look "
                    f"at {self._trunk} and pixel_std in {INFO_FILE}"
                )
            self._kept[source] = features
        return self._kept[source]

    def predict(self, source: Source) -> Iterator[Predictions]:
        """Yields the predictions of the classifier, as it is now, for all images of a source, in batches."""
        return predict_from_features(self._classifier, self.of(source))

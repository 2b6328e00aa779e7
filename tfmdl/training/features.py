"""Features of a frozen trunk, computed once per run."""

from collections.abc import Iterator

from tfmdl.data.features import Features
from tfmdl.data.pipeline import Source
from tfmdl.evaluation.predict import Predictions, extract_features, predict_from_features
from tfmdl.model import MultiDomainClassifier
from tfmdl.training.progress import counted


class KeptFeatures:
    """Pooled features of a domain's images, computed when first asked for, and kept.

    They are those of eval.py: float32, whatever the run computes in.

    Args:
        model: The classifier, whose backbone must not change as long as this is used.
        domain: Name of the domain.
    """

    def __init__(self, model: MultiDomainClassifier, domain: str):
        exact = model if model.dtype_policy.name == "float32" else model.of_dtype("float32")
        self._extractor = exact.extractor(domain)
        self._classifier = model.classifier(domain)
        self._kept = {}

    def of(self, source: Source) -> Features:
        """Returns the features of all images of a source; shows progress while it computes them."""
        if source not in self._kept:
            parts = extract_features(self._extractor, source)
            what = f"features of {source.domain}"
            self._kept[source] = Features.joined(list(counted(parts, what, source.num_examples)))
        return self._kept[source]

    def predict(self, source: Source) -> Iterator[Predictions]:
        """Yields the predictions of the classifier, as it is now, for all images of a source, in batches."""
        return predict_from_features(self._classifier, self.of(source))

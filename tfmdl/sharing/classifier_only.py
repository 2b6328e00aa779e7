"""Everything shared but the classifier."""

from tfmdl.sharing.uniform import UniformSharing


class ClassifierOnly(UniformSharing):
    """The trunk is a fixed feature extractor, its normalisation in inference mode; a domain owns its head alone.

    Reference: Guo et al., AAAI 2019 ("Classifier Only" of Table 1).
    """

    name = "classifier_only"
    together = "own_budgets"
    shared = True

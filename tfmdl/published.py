"""Table 1 of Guo et al. (AAAI 2019) as printed: facts to stand beside what is measured here."""

import dataclasses

_ORDER = (
    "imagenet12", "aircraft", "cifar100", "daimlerpedcls", "dtd", "gtsrb", "vgg-flowers", "omniglot", "svhn", "ucf101"
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PublishedRow:
    """One row of the table.

    Attributes:
        title: The paper's name of the system.
        multiple: Parameters of all ten domains, in multiples of one ResNet-26.
        accuracies: Top-1 accuracy on test in percent, by domain.
        mean: Of the accuracies.
        score: S of the Visual Decathlon, as printed; that of "Classifier Only" does not follow from its accuracies.
    """

    title: str
    multiple: str
    accuracies: dict[str, float]
    mean: float
    score: int


def _row(title, multiple, score, mean, *accuracies):
    return PublishedRow(title, multiple, dict(zip(_ORDER, accuracies, strict=True)), mean, score)


# By the method that is the same system here.
TABLE_1 = {
    "serial_adapters": _row(
        "Serial Res. Adapt.", "2x", 2621, 76.89,
        59.67, 61.87, 81.20, 93.88, 57.13, 97.57, 81.67, 89.62, 96.13, 50.12,
    ),
    "parallel_adapters": _row(
        "Parallel Res. Adapt.", "2x", 3412, 78.07,
        60.32, 64.21, 81.91, 94.73, 58.83, 99.38, 84.68, 89.21, 96.54, 50.94,
    ),
    "dan": _row(
        "DAN", "2.17x", 2851, 77.01,
        57.74, 64.12, 80.07, 91.30, 56.64, 98.46, 86.05, 89.67, 96.77, 49.38,
    ),
    "piggyback": _row(
        "Piggyback", "1.28x", 2838, 76.60,
        57.69, 65.29, 79.87, 96.99, 57.45, 97.27, 79.09, 87.63, 97.24, 47.48,
    ),
    "individual": _row(
        "Individual Network", "5x", 2756, 76.56,
        63.99, 65.71, 78.26, 88.29, 52.19, 98.76, 83.17, 90.04, 96.84, 48.35,
    ),
    "classifier_only": _row(
        "Classifier Only", "0.6x", 2446, 74.76,
        63.99, 51.04, 75.32, 94.49, 54.21, 98.48, 84.47, 86.66, 95.14, 43.75,
    ),
    "depthwise_sharing": _row(
        "Depthwise Sharing", "4x", 3234, 77.91,
        63.99, 67.42, 74.46, 95.60, 54.85, 98.52, 87.34, 89.88, 96.62, 50.39,
    ),
    "pointwise_sharing": _row(
        "Proposed Approach", "1x", 3507, 77.82,
        63.99, 61.06, 81.20, 97.00, 55.48, 99.27, 85.67, 89.12, 96.16, 49.33,
    ),
}  # fmt: skip

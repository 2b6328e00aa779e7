"""Facts of visual domains: the ten of the Visual Decathlon, and what a domain may be called.

No choices (those are in recipes.py) and no paths. A domain that is not in the table is described by its
`dataset_info.json` alone.

Reference: Rebuffi, Bilen, Vedaldi, "Learning multiple visual domains with residual adapters", NeurIPS 2017.
"""

import dataclasses
import re

SHARED = "shared"  # owner of what all domains use; no domain may be called so

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclasses.dataclass(frozen=True)
class DomainFacts:
    """What is known of a published domain.

    Attributes:
        name: Folder name in the Visual Decathlon release.
        domain_id: 1 to 10; category and image ids of the release begin at `domain_id * 10**7`.
        num_classes: Number of classes.
        num_train, num_val, num_test: Images per split.
        baseline_accuracy: Test accuracy in percent of the challenge's fine-tuned baseline.
        mean, std: Per-channel (R, G, B) statistics of the training pixels, pixels in 0..1.
    """

    name: str
    domain_id: int
    num_classes: int
    num_train: int
    num_val: int
    num_test: int
    baseline_accuracy: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def _facts(domain_id, name, classes, train, val, test, baseline, mean, std):
    mean, std = (tuple(v) if len(v) == 3 else tuple(v) * 3 for v in (mean, std))
    return DomainFacts(name, domain_id, classes, train, val, test, baseline, mean, std)


DECATHLON: dict[str, DomainFacts] = {
    facts.name: facts
    for facts in (
        _facts(1, "aircraft", 100, 3334, 3333, 3333, 60.34,
               [0.47983041, 0.51074066, 0.53437998], [0.21070221, 0.20508901, 0.23729657]),
        _facts(2, "cifar100", 100, 40000, 10000, 10000, 82.12,
               [0.50705882, 0.48666667, 0.44078431], [0.26745098, 0.25647059, 0.27607843]),
        _facts(3, "daimlerpedcls", 2, 23520, 5880, 19600, 92.82, [0.48203529], [0.23612616]),
        _facts(4, "dtd", 47, 1880, 1880, 1880, 55.53,
               [0.52696497, 0.47025164, 0.42396662], [0.25226877, 0.2409176, 0.2499409]),
        _facts(5, "gtsrb", 43, 31367, 7842, 12630, 97.53,
               [0.33921263, 0.3117836, 0.32047045], [0.27560347, 0.26576119, 0.27089863]),
        _facts(6, "imagenet12", 1000, 1232167, 49000, 48238, 59.87, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        _facts(7, "omniglot", 1623, 17853, 6492, 8115, 87.69, [0.08099839], [0.27046935]),
        _facts(8, "svhn", 10, 47217, 26040, 26032, 96.55,
               [0.4376821, 0.4437697, 0.47280442], [0.19803012, 0.20101562, 0.19703614]),
        _facts(9, "ucf101", 101, 7585, 1952, 3783, 51.20,
               [0.49953101, 0.49880386, 0.49981996], [0.10898684, 0.10810246, 0.10679939]),
        _facts(10, "vgg-flowers", 102, 1020, 1020, 6149, 81.41,
               [0.43414682, 0.38309883, 0.29714763], [0.28509808, 0.23842338, 0.2639633]),
    )
}  # fmt: skip


def published(name: str, num_classes: int) -> DomainFacts | None:
    """Returns the facts of the Decathlon's domain of that name if it has as many classes, None otherwise.

    A name alone does not make a domain: a folder called "dtd" may hold ten textures of somebody's own.
    """
    facts = DECATHLON.get(name)
    return facts if facts and facts.num_classes == num_classes else None


def check_name(name: str) -> str:
    """Returns `name` if it can name a domain: it becomes a folder, a variable and a signature.

    Raises:
        ValueError: if it is not letters, digits, ".", "_" and "-", beginning with a letter or digit, or is
            the reserved word "shared".
    """
    if not _NAME.fullmatch(name) or name == SHARED:
        raise ValueError(
            "a domain's name must be letters, digits, '.', '_' and '-', beginning with a letter or digit, and not "
            f"{SHARED!r}; received {name!r}"
        )
    return name

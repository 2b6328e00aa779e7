"""Choices of training: schedule, weight decay, dropout and crops, by recipe and by domain.

`paper` is the recipe that the authors ran (Guo et al., AAAI 2019, and their published code); `quick` has the same
shape at a length that suits a CPU. A domain outside the tables gets defaults. All methods share the recipe, but for
what `SCHEDULES_BY_METHOD`, `ADDITIONS` and `DROPOUT_WHERE_SMALL` have of the papers of some.
"""

import dataclasses

from tfmdl.domains import DECATHLON


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Length of a run and where its learning rate drops by ten, in epochs."""

    epochs: int
    drops: tuple[int, ...]

    def scaled(self, epochs: int) -> "Schedule":
        """Returns the same shape at another length; a drop moves to the epoch below its share."""
        return Schedule(epochs, tuple(drop * epochs // self.epochs for drop in self.drops))


@dataclasses.dataclass(frozen=True)
class Additions:
    """How what a method adds to the network is trained, where that is not as the rest.

    Attributes:
        weight_decay: Instead of the recipe's.
        adam_learning_rate: Of Adam instead of SGD, with the drops of the recipe's schedule.
    """

    weight_decay: float | None = None
    adam_learning_rate: float | None = None


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything about training one domain that is a choice.

    Attributes:
        schedule: Epochs and drops of the learning rate.
        batch_size: Images in a step.
        learning_rate: Of the first epochs.
        momentum: Of SGD.
        weight_decay: As a term `weight_decay * w` of the gradient, not the decoupled kind.
        dropout: Share of the pooled features dropped in training.
        crop: A key of `CROPS`.
        additions: How what the method adds is trained.
    """

    schedule: Schedule
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    dropout: float = 0.0
    crop: str = "random"
    additions: Additions = Additions()

    def learning_rate_in(self, epoch: int) -> float:
        """Returns the learning rate of an epoch, counted from 0: a tenth after each drop."""
        return self.learning_rate / 10 ** len({drop for drop in self.schedule.drops if 0 < drop <= epoch})


CROPS = {
    "random": "a random square of `image_size` out of the centre square; evaluation sees the whole centre square",
    "square": "the whole centre square, in training as in evaluation",
    "tall": "the whole image at twice the height of the square, in training as in evaluation",
}

# For the base domain, and for a domain that is added to a trunk.
SCHEDULES = {
    "paper": (Schedule(120, (80, 100)), Schedule(100, (40,))),
    "quick": (Schedule(20, (13, 16)), Schedule(15, (6,))),
}

# For an added domain, by method. Soft sharing goes on from what pointwise sharing has trained.
SCHEDULES_BY_METHOD = {
    "soft_sharing": {"paper": Schedule(10, (5,)), "quick": Schedule(6, (3,))},
}

WEIGHT_DECAY = {"dtd": 2e-3, "gtsrb": 3e-4, "svhn": 2e-4, "vgg-flowers": 1e-4}
DROPOUT = {"gtsrb": 0.5, "ucf101": 0.5, "daimlerpedcls": 0.5}
CROP = {"gtsrb": "square", "omniglot": "square", "svhn": "square", "daimlerpedcls": "tall"}

# By method. Adapters: the command that their authors published for cifar100, where all else decays by 5e-4. Masks:
# Mallya et al., ECCV 2018, whose published code does not decay them.
ADDITIONS = {
    "serial_adapters": Additions(weight_decay=1e-4),
    "parallel_adapters": Additions(weight_decay=1e-4),
    "piggyback": Additions(weight_decay=0.0, adam_learning_rate=1e-4),
}

# Rebuffi et al., CVPR 2018, drop half of what adapters see where a domain is small; where that ends is our choice.
DROPOUT_WHERE_SMALL = {"parallel_adapters": 0.5}
SMALL = 10_000

# A domain outside the Decathlon that has few images sees too few steps in batches of 128.
MIN_STEPS_PER_EPOCH = 20
SMALLEST_BATCH = 32


def recipe_for(name: str, domain: str, num_train: int, base: bool, method: str = "pointwise_sharing") -> Recipe:
    """Returns the recipe `name` for a domain of `num_train` images; `base` for a trunk's, else for an added one.

    Raises:
        ValueError: if there is no recipe of that name.
    """
    if name not in SCHEDULES:
        raise ValueError(f"`recipe` must be one of {', '.join(SCHEDULES)}; received {name!r}")
    batch_size = 128
    while domain not in DECATHLON and batch_size > SMALLEST_BATCH and num_train < batch_size * MIN_STEPS_PER_EPOCH:
        batch_size //= 2
    dropout = DROPOUT.get(domain, 0.0)
    if not base and num_train < SMALL:
        dropout = DROPOUT_WHERE_SMALL.get(method, dropout)
    of_base, added = SCHEDULES[name]
    if method in SCHEDULES_BY_METHOD:
        added = SCHEDULES_BY_METHOD[method][name]
    return Recipe(
        schedule=of_base if base else added,
        batch_size=batch_size,
        weight_decay=WEIGHT_DECAY.get(domain, 5e-4),
        dropout=dropout,
        crop=CROP.get(domain, "random"),
        additions=ADDITIONS.get(method, Additions()),
    )

"""Choices of training: schedule, weight decay, dropout, crops and normalisation.

A `Preset` is chosen for a run, by --recipe: `paper` is what the authors ran (Guo et al., AAAI 2019, and their published
code); `quick` has the same shape at a length that suits a CPU. A `Recipe` is what a preset comes to for one domain and
one method. A domain outside the tables gets defaults, and so does one that has the name of a domain of the Decathlon
and other classes. All methods are trained alike, but for what `Preset.added_by` and `ADDITIONS` have of the papers of
some.
"""

import dataclasses
import math

from tfmdl.domains import published


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Length of a run, in epochs, and how its learning rate changes.

    Attributes:
        epochs: Length of the run.
        drops: After which epochs it is divided by ten.
        warmup: Instead it rises from zero for this share of the run, then falls as a cosine to zero; None: it does not.
        rise: Over so many epochs at first it rises evenly, from its `rise_from`th part to what it is otherwise.
        rise_from: See there; at least one.
    """

    epochs: int
    drops: tuple[int, ...] = ()
    warmup: float | None = None
    rise: int = 0
    rise_from: float = 1.0

    def scaled(self, epochs: int) -> "Schedule":
        """Returns the same shape at another length; a drop moves to the epoch below its share."""
        drops = tuple(drop * epochs // self.epochs for drop in self.drops)
        return dataclasses.replace(self, epochs=epochs, drops=drops)

    def rate(self, highest: float, epoch: float) -> float:
        """Returns the learning rate, of which `highest` is the most, after so many epochs, parts of one included."""
        if epoch < self.rise:
            highest *= 1 / self.rise_from + (1 - 1 / self.rise_from) * epoch / self.rise
        if self.warmup is None:
            return highest / 10 ** len({drop for drop in self.drops if 0 < drop <= epoch})
        share = epoch / self.epochs
        if share < self.warmup:
            return highest * share / self.warmup
        return highest * (0.5 + 0.5 * math.cos(math.pi * (share - self.warmup) / (1 - self.warmup)))


@dataclasses.dataclass(frozen=True)
class Preset:
    """The schedules of a run, whatever its domain.

    Attributes:
        base: Of a run that trains a trunk.
        added: Of one that adds a domain to a trunk.
        added_by: Instead, by method.
    """

    base: Schedule
    added: Schedule
    added_by: dict[str, Schedule] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Additions:
    """How the parts that a method adds are trained, where they differ from the rest.

    Attributes:
        weight_decay: Instead of the recipe's.
        adam_learning_rate: Of Adam, on the recipe's schedule, where the recipe has SGD or another rate.
    """

    weight_decay: float | None = None
    adam_learning_rate: float | None = None


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Heights and widths of images, in pixels.

    Attributes:
        cover: Of the centre of the resized image, which the others are cut out of.
        train: Of what training sees.
        evaluation: Of what evaluation sees.
    """

    cover: tuple[int, int]
    train: tuple[int, int]
    evaluation: tuple[int, int]


CROPS = ("random", "square", "tall", "same_size")  # what training sees of an image: `Recipe.sizes` says it


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything about training one domain that is a choice.

    Attributes:
        schedule: Epochs and drops of the learning rate.
        batch_size: Images per step.
        learning_rate: The highest.
        adam: Adam moves all, by which a rate suits networks whatever the size of their features; otherwise SGD.
        momentum: Of SGD.
        weight_decay: As a term `weight_decay * w` of the gradient, not the decoupled kind.
        dropout: Share of the pooled features dropped in training.
        crop: One of `CROPS`.
        additions: How the parts that the method adds are trained.
        label_smoothing: Share of the target that all classes have alike.
        flips: Whether every other image is mirrored, left to right.
        keeps_statistics: Whether batch normalisation keeps the trunk's moving statistics, also to train by.
        on_features: Where the network stays as it is, training sees of each image what evaluation sees, and so the
            features of all images are computed once.
        head: How the head alone is trained first; None: it is not.
        goes_back: At the end the weights go back towards those that training began with, as far as that is good.

    Raises:
        ValueError: if there is no such crop.
    """

    schedule: Schedule
    batch_size: int = 128
    learning_rate: float = 0.1
    adam: bool = False
    momentum: float = 0.9
    weight_decay: float = 5e-4
    dropout: float = 0.0
    crop: str = "random"
    additions: Additions = Additions()
    label_smoothing: float = 0.0
    flips: bool = False
    keeps_statistics: bool = False
    on_features: bool = False
    head: "Recipe | None" = None
    goes_back: bool = False

    def __post_init__(self):
        if self.crop not in CROPS:
            raise ValueError(f"`crop` must be one of {', '.join(CROPS)}; received {self.crop!r}")

    def learning_rate_in(self, epoch: int) -> float:
        """Returns the learning rate in the middle of an epoch, counted from 0."""
        return self.schedule.rate(self.learning_rate, epoch + 0.5)

    def scaled_to(self, batch_size: int) -> "Recipe":
        """Returns the recipe for batches of another size: the learning rate is as many times as high as they are large.

        Larger batches begin with the rate of the recipe's own, which rises to the higher one over `RISE` epochs.

        Raises:
            ValueError: if Adam moves the weights, for which the rule is not meant.

        Reference: Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017, section 2.
        """
        if self.adam:
            raise ValueError("--scale_learning_rate is for SGD; this recipe trains by Adam: give --learning_rate")
        times = batch_size / self.batch_size
        schedule = self.schedule
        if times > 1:
            schedule = dataclasses.replace(schedule, rise=min(RISE, schedule.epochs), rise_from=times)
        return dataclasses.replace(
            self, batch_size=batch_size, learning_rate=times * self.learning_rate, schedule=schedule
        )

    def sizes(self, image_size: int, total_stride: int) -> Sizes:
        """Returns the sizes of images in a run of `image_size`, for a network that reduces sides by `total_stride`.

        The authors train on crops of 64 pixels out of 72 and evaluate on the whole 72: the network is convolutional,
        and sees more of the image. That compares like with like only where both sides divide evenly through the
        network, as 64 and 72 do by 8. Otherwise "same" padding shifts what strided windows see against the shortcuts,
        and the last map has more positions than in training; so evaluation sees the centre at the size of training.

        `crop` says what training sees of the centre square of nine eighths of `image_size`: "random", a random square
        of `image_size`; "square", all of it; "tall", all of the image at twice the square's height. The last two see
        the same in evaluation, at `image_size` where nine eighths do not divide. "same_size" is a random square of
        `image_size`, too, and the centre of that size in evaluation, whatever divides.
        """
        whole = round(image_size * 9 / 8)
        if self.crop == "same_size":
            return Sizes((whole, whole), (image_size, image_size), (image_size, image_size))
        divides = image_size % total_stride == 0 and whole % total_stride == 0
        if self.crop == "random":
            train = (image_size, image_size)
            return Sizes((whole, whole), train, (whole, whole) if divides else train)
        side = whole if divides else image_size
        size = (2 * side, side) if self.crop == "tall" else (side, side)
        return Sizes(size, size, size)


# Soft sharing goes on from what pointwise sharing has trained.
PRESETS = {
    "paper": Preset(
        base=Schedule(120, (80, 100)),
        added=Schedule(100, (40,)),
        added_by={"soft_sharing": Schedule(10, (5,))},
    ),
    "quick": Preset(
        base=Schedule(20, (13, 16)),
        added=Schedule(15, (6,)),
        added_by={"soft_sharing": Schedule(6, (3,))},
    ),
}

PRESET_NAMES = (*PRESETS, "finetune")

# The preset "finetune" adds a domain to a trunk that knows much more than the domain could teach it. First the head is
# trained alone, on features that are computed once, and all of `classifier_only`:
HEAD = Recipe(
    Schedule(60, warmup=0.0),
    learning_rate=1e-3,
    adam=True,
    weight_decay=1e-3,
    crop="same_size",
    on_features=True,
)
# Then what the method owns. On EfficientNet-Lite0 at 96 pixels (pointwise sharing, val in %, one seed where it does not
# say otherwise), statistics kept against those of the batches: gtsrb 66.5 and 63.9, dtd 79.0 and 67.5; random squares
# and the centre against the whole image: gtsrb 76.6 and 66.5, caltech101 86.1 and 84.1, dtd 75.8 and 77.5; rates of
# 0.001 and 0.002 on dtd, three seeds: 77.8 and 77.1.
FINETUNE = Recipe(
    Schedule(8, warmup=0.1),
    batch_size=64,
    learning_rate=2e-3,
    adam=True,
    weight_decay=1e-5,
    crop="same_size",
    label_smoothing=0.1,
    flips=True,
    keeps_statistics=True,
    head=HEAD,
    goes_back=True,
)
# Pointwise kernels that a domain takes as its own forget at that rate what they know: individual networks end at a val
# loss of 1.72 on dtd and 1.60 on flowers5, where the head alone has 0.64 and 0.83, so that all of the way is gone back.
# With 0.002, 0.0003 and 0.0001 dtd has 79.2, 79.5 and 80.2, flowers5 71.6, 76.1 and 73.0 (4 epochs, one seed).
FINETUNE_RATES = {"individual": 3e-4, "depthwise_sharing": 3e-4}
# Mirrored, some signs are others, and letters are none. By name alone, whatever classes there are: what the trunk makes
# of mirrored images does not tell, for it hardly sees the difference: a linear classifier on its features knows one to
# two points less of gtsrb, chars74k and omniglot mirrored, and mirroring its training images does not change it (within
# 0.4 points, five folds). Others of the kind are for --noflips.
NO_FLIPS = ("chars74k", "digits", "emnist", "gtsrb", "kmnist", "letters", "mnist", "omniglot", "svhn")

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

# Scores of masks begin 0.005 above their threshold: where Adam moves them at the rate of the rest, 0.002, three steps
# carry most across it, and nothing is left of the trunk. With 0.001, 0.0003 and 0.0001 omniglot ends at a val accuracy
# of 0.4, 75.4 and 65.9, flowers5 with the last two at 74.5 and 72.5 (4 epochs). A second seed: omniglot 75.4 and 66.9,
# flowers5 75.5 with 0.0003.
FINETUNE_ADDITIONS = ADDITIONS | {"piggyback": Additions(weight_decay=0.0, adam_learning_rate=3e-4)}

RISE = 5  # epochs

# A domain of few images would take too few steps in batches of 128; the authors ran so only the Decathlon's.
MIN_STEPS_PER_EPOCH = 20
SMALLEST_BATCH = 32


def recipe_for(
    preset: str,
    domain: str,
    num_classes: int,
    num_train: int,
    base: bool,
    method: str = "pointwise_sharing",
    joint: bool = False,
) -> Recipe:
    """Returns what a preset comes to for a domain of so many classes and training images.

    Args:
        preset: One of `PRESET_NAMES`.
        domain: Name of the domain. The tables of the Decathlon hold for it if it has the classes of that domain.
        num_classes, num_train: What the domain has.
        base: Whether the run trains a trunk on it; otherwise the run adds it to a trunk.
        method: A key of `tfmdl.sharing.METHODS`.
        joint: Of a run that trains several domains: the images of a mixed batch have one size, so all are random crops.

    Raises:
        ValueError: if there is no preset of that name, or it is not for training a trunk.
    """
    if preset not in (*PRESETS, "finetune"):
        raise ValueError(f"`recipe` must be one of {', '.join(PRESET_NAMES)}; received {preset!r}")
    facts = published(domain, num_classes)
    known = facts.name if facts else None
    if preset == "finetune":
        if base:
            raise ValueError("--recipe=finetune adds a domain to a trunk: give --init_from")
        if method == "classifier_only":
            return HEAD
        return dataclasses.replace(
            FINETUNE,
            learning_rate=FINETUNE_RATES.get(method, FINETUNE.learning_rate),
            flips=domain not in NO_FLIPS,
            additions=FINETUNE_ADDITIONS.get(method, Additions()),
        )
    schedules = PRESETS[preset]
    as_published = facts is not None and num_train >= facts.num_train
    batch_size = 128
    while not as_published and batch_size > SMALLEST_BATCH and num_train < batch_size * MIN_STEPS_PER_EPOCH:
        batch_size //= 2
    return Recipe(
        schedule=schedules.base if base else schedules.added_by.get(method, schedules.added),
        batch_size=batch_size,
        weight_decay=WEIGHT_DECAY.get(known, 5e-4),
        dropout=DROPOUT.get(known, 0.0),
        crop="random" if joint else CROP.get(known, "random"),
        additions=ADDITIONS.get(method, Additions()),
    )


def pixel_statistics(
    domain: str, num_classes: int, own_mean: list[float], own_std: list[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns mean and std per channel that the images of a domain are normalised by, pixels in 0..1.

    Args:
        domain, num_classes: Which domain. One of the Decathlon has the statistics that its authors published.
        own_mean, own_std: What another one has: those of its own training images.
    """
    facts = published(domain, num_classes)
    return (facts.mean, facts.std) if facts else (tuple(own_mean), tuple(own_std))

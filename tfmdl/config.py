"""The configuration of a run, to and from JSON. Knows no flags."""

import dataclasses
import os
import pathlib

from tfmdl.architecture import Architecture
from tfmdl.data.preprocessing import MAX_SIDE
from tfmdl.domains import check_name
from tfmdl.files import read_json
from tfmdl.typed import check_types, checked_fields, naming_file

CONFIG_FILE = "config.json"
MAY_TRAIN_ON = ("train", "val")
_LEAST = {
    **dict.fromkeys(("epochs", "batch_size", "max_steps", "checkpoint_every"), 1),
    **dict.fromkeys(("learning_rate", "weight_decay", "seed"), 0),
    "image_size": 8,
}


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What a training run was asked to do. None means: as the recipe says.

    Attributes:
        domains: Names of the domains to train; the first is the base domain of a trunk.
        data_dir: Folder of the converted domains.
        workdir: Folder of the run.
        architecture: What the network is made of.
        init_from: Folder of the run whose trunk the domain is added to; None trains a trunk.
        recipe: One of `tfmdl.recipes.PRESET_NAMES`.
        epochs, batch_size, learning_rate, weight_decay: Overrides of the recipe.
        scale_learning_rate: The learning rate is for the recipe's batches, and goes by `batch_size`: see
            `tfmdl.recipes.Recipe.scaled_to`.
        sync_norm: Where several devices share a batch, batch normalisation sees all of it, not each its own part.
        flips: Whether training mirrors every other image; overrides the recipe, too.
        image_size: Side of the training crop; `Recipe.sizes` says what evaluation sees.
        precision: Keras dtype policy.
        seed: Of the initial weights, the order of the images, crops and dropout.
        max_steps: Stop after so many steps.
        train_splits: Splits to train on.
        jit_compile: Compile the step with XLA.
        cache: Keep decoded images in memory.
        checkpoint_every: Steps between checkpoints; one is written at the end of each epoch in any case.
        profile_steps: First and last step of a profile for TensorBoard.
        tensorboard: Write events for TensorBoard.
        packs: Runs or pack files of the experts, for a method that mixes their kernels.

    Raises:
        ValueError: if a field is of another type, a number is below the least that it may be, a domain or a split is
            missing, unknown or given twice, the images are too large, or `profile_steps` is no range, or is given
            without `tensorboard`.
    """

    domains: tuple[str, ...]
    data_dir: str
    workdir: str
    architecture: Architecture = Architecture()
    init_from: str | None = None
    recipe: str = "paper"
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    weight_decay: float | None = None
    scale_learning_rate: bool = False
    sync_norm: bool = False
    flips: bool | None = None
    image_size: int = 64
    precision: str = "float32"
    seed: int = 0
    max_steps: int | None = None
    train_splits: tuple[str, ...] = ("train",)
    jit_compile: bool = False
    cache: bool = False
    checkpoint_every: int = 500
    profile_steps: tuple[int, int] | None = None
    tensorboard: bool = True
    packs: tuple[str, ...] = ()

    def __post_init__(self):
        check_types(self)
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"--{name} must be at least {least}; received {value}")
        for flag, names in (("domain", self.domains), ("train_splits", self.train_splits)):
            if not names or len(set(names)) != len(names):
                raise ValueError(f"--{flag} must name at least one, each once; received {','.join(names)!r}")
        for domain in self.domains:
            check_name(domain)
        for split in self.train_splits:
            if split not in MAY_TRAIN_ON:
                raise ValueError(
                    f"--train_splits must be of {', '.join(MAY_TRAIN_ON)}: test images are never trained on; "
                    f"received {split!r}"
                )
        if self.image_size > MAX_SIDE:
            raise ValueError(f"--image_size must be at most {MAX_SIDE}; received {self.image_size}")
        if self.profile_steps and not 1 <= self.profile_steps[0] <= self.profile_steps[1]:
            raise ValueError(f"--profile_steps must be FIRST,LAST; received {self.profile_steps}")
        if self.profile_steps and not self.tensorboard:
            raise ValueError("--profile_steps are shown in TensorBoard; received --tensorboard=false")

    def to_json(self) -> dict:
        return {**dataclasses.asdict(self), "architecture": self.architecture.to_json()}

    @classmethod
    def from_json(cls, fields: dict) -> "RunConfig":
        fields = checked_fields(fields)
        fields["architecture"] = Architecture.from_json(fields["architecture"])
        for name in ("domains", "train_splits", "profile_steps", "packs"):
            # Lists only: a tuple could be made of a text, too. What an older configuration lacks has its default.
            if isinstance(fields.get(name), list):
                fields[name] = tuple(fields[name])
        return cls(**fields)


# These may differ when a run goes on: where things live, what is written beside the result, and, since a run may go on
# on other devices, how a step is compiled.
MAY_DIFFER = {
    "data_dir", "workdir", "init_from", "packs", "checkpoint_every", "profile_steps", "tensorboard", "jit_compile"
}


def differences(before: RunConfig, after: RunConfig) -> list[str]:
    """Returns a line for each setting that makes `after` another run than `before`."""

    def flat(config):
        fields = config.to_json()
        fields.update(fields.pop("architecture"), domain=fields.pop("domains"))
        fields["network"] = config.architecture.network  # named, not told step by step
        return {name: value for name, value in fields.items() if name not in MAY_DIFFER}

    old, new = flat(before), flat(after)
    both = [name for name in old if name in new]  # methods have options of their own
    return [f"--{name}: was {old[name]!r}, now {new[name]!r}" for name in both if old[name] != new[name]]


def load_config(workdir: str | os.PathLike) -> RunConfig:
    """Reads the configuration of the run in `workdir`.

    Raises:
        FileNotFoundError: if there is no run.
        ValueError: if its config.json is not one of this tool.
    """
    path = pathlib.Path(workdir, CONFIG_FILE)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no run of train.py here")
    content = read_json(path)
    with naming_file(path):
        return RunConfig.from_json(content["run"])

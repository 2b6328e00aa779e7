"""What a network is made of, but for its domains."""

import dataclasses

from tfmdl.backbones import BACKBONES, Network
from tfmdl.sharing import METHODS, MethodOptions, methods_with, options_of
from tfmdl.typed import check_types, checked_fields

MAX_WIDTH, MAX_BLOCKS_PER_STAGE = 1024, 64  # above, weights alone would not fit into memory


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What a network is made of, but for its domains; part of a run's configuration and of every pack.

    Attributes:
        method: A key of `tfmdl.sharing.METHODS`.
        backbone: A key of `tfmdl.backbones.BACKBONES`; None becomes the one of the method's paper.
        width: Channels after the stem of the separable ResNet-26; everything else is a multiple of it.
        blocks_per_stage: Residual blocks of each stage: 4 make 26 layers, 1 makes 8.
        options: The method's `Options`; None becomes their defaults.
        network: Of the backbone "keras": how it is wired. It has one width and depth.

    Raises:
        ValueError: if a value is of another type, unknown or too large, naming the argument.
    """

    method: str = "pointwise_sharing"
    backbone: str | None = None
    width: int = 64
    blocks_per_stage: int = 4
    options: MethodOptions | None = None
    network: Network | None = None

    def __post_init__(self):
        check_types(self)
        _check_key("method", self.method, METHODS)
        method = METHODS[self.method]
        # Fields of a frozen dataclass are set like this.
        if self.backbone is None:
            object.__setattr__(self, "backbone", method.default_backbone)
        if self.options is None:
            object.__setattr__(self, "options", method.Options())
        _check_key("backbone", self.backbone, BACKBONES)
        if BACKBONES[self.backbone].scales == (self.network is not None):
            raise ValueError(
                "`backbone` keras is for trunks of python -m tfmdl.trunk, which say how it is wired: give --init_from; "
                f"received backbone={self.backbone} with network={self.network}"
            )
        if type(self.options) is not method.Options:
            raise ValueError(f"`options` of {self.method} must be {method.Options.__name__}; received {self.options}")
        object.__setattr__(self, "options", self.options.for_backbone(BACKBONES[self.backbone]))
        if not 2 <= self.width <= MAX_WIDTH or self.width % 2:
            raise ValueError(f"`width` must be even and in 2..{MAX_WIDTH}; received width={self.width}")
        if not 1 <= self.blocks_per_stage <= MAX_BLOCKS_PER_STAGE:
            raise ValueError(
                f"`blocks_per_stage` must be in 1..{MAX_BLOCKS_PER_STAGE}; "
                f"received blocks_per_stage={self.blocks_per_stage}"
            )

    def to_json(self) -> dict:
        """Returns the fields, and beside them those of the options."""
        fields = dataclasses.asdict(self)
        options, network = fields.pop("options"), fields.pop("network")
        return {**fields, **({"network": self.network.to_json()} if network else {}), **options}

    @classmethod
    def from_json(cls, fields: dict) -> "Architecture":
        """Returns what `to_json` wrote; a missing field has its default.

        Raises:
            ValueError: if it is no object; and as the class and `options_of`.
        """
        options = checked_fields(fields)
        names = [field.name for field in dataclasses.fields(cls) if field.name != "options"]
        own = {name: options.pop(name) for name in names if name in options}
        if own.get("network") is not None:
            own["network"] = Network.from_json(own["network"])
        method = own.get("method", cls.method)
        _check_key("method", method, METHODS)
        return cls(**own, options=options_of(method, options))

    @property
    def method_and_options(self) -> str:
        """The method with its options, for people to read: "low_rank (rank=8)"."""
        options = ", ".join(f"{name}={value!r}" for name, value in dataclasses.asdict(self.options).items())
        return f"{self.method} ({options})" if options else self.method

    def with_method(self, method: str) -> "Architecture":
        """Returns the same network by another method, with what the options of both have in common."""
        values = dataclasses.asdict(self.options)
        common = {name: value for name, value in values.items() if method in methods_with(name)}
        return dataclasses.replace(self, method=method, options=METHODS[method].Options(**common))


def own_budgets(architecture_of: dict[str, Architecture]) -> dict[str, Architecture]:
    """Returns the architectures of domains where they differ, otherwise none: the `budgets` of a model of them."""
    first = next(iter(architecture_of.values()), None)
    return architecture_of if any(other != first for other in architecture_of.values()) else {}


def _check_key(argument, value, table):
    if value not in table:
        raise ValueError(f"`{argument}` must be one of {', '.join(table)}; received {value!r}")

"""What a method can be asked for beside its name."""

import dataclasses

from tfmdl.typed import check_types


@dataclasses.dataclass(frozen=True)
class MethodOptions:
    """Options of a method that has none; the base of those of all others.

    A method with options has a frozen dataclass `Options` of them in its own file, each field made by `option`. Flags,
    configurations, packs and campaigns take them from there, by name. Methods may share an option by inheritance;
    otherwise no two have options of one name.

    Raises:
        ValueError: if a value is of another type, naming the option.
    """

    def __post_init__(self):
        check_types(self)

    def for_backbone(self, backbone) -> "MethodOptions":
        """Returns these options, with what suits a class of backbones where an option is None."""
        return self


def option(default: bool | int | str | None, explanation: str, kind: type | None = None) -> dataclasses.Field:
    """Returns a field of `MethodOptions`.

    Args:
        default: Its default; None where that depends on the backbone.
        explanation: What `--help` says.
        kind: The type of the flag; by default that of `default`.
    """
    return dataclasses.field(default=default, metadata={"explanation": explanation, "kind": kind or type(default)})

"""Flags for what methods can be asked for, as the methods declare it."""

from absl import flags

from tfmdl.sharing import OPTIONS, methods_with

FLAGS = flags.FLAGS


def define() -> None:
    """Defines a flag for each option of any method."""
    define_as = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, str: flags.DEFINE_string}
    for name, option in OPTIONS.items():
        define_as[option.metadata["kind"]](name, option.default, _explanation(name))


def values() -> dict[str, bool | int | str | None]:
    """Returns the options by name: those of the method that was chosen are among them."""
    return {name: FLAGS[name].value for name in OPTIONS}


def define_lists() -> None:
    """Defines a flag for several values of each option but those of yes and no: for a table with a row for each."""
    for name in _with_several_values():
        flags.DEFINE_list(name, [str(OPTIONS[name].default)], f"{_explanation(name)} A row for each of several values.")


def value_lists() -> dict[str, tuple[int | str, ...]]:
    """Returns the values that `define_lists` asked for, by option.

    Raises:
        ValueError: if a value is no number where the option is one.
    """
    return {name: tuple(_parsed(name, text) for text in FLAGS[name].value) for name in _with_several_values()}


def _with_several_values():
    return [name for name, option in OPTIONS.items() if option.metadata["kind"] is not bool]


def _explanation(name):
    return f"For {', '.join(methods_with(name))}: {OPTIONS[name].metadata['explanation']}"


def _parsed(name, text):
    kind = OPTIONS[name].metadata["kind"]
    try:
        return kind(text)
    except ValueError as error:
        raise ValueError(f"--{name} must be of {kind.__name__}s; received {text!r}") from error

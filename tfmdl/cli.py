"""What the commands have in common: how they start and end, what they say of errors, and how they print tables.

A command is a module with `define_flags()`, which is not done at import, since one process may import several; with
`main(argv)`; and with `run()`, which hands both to `start`. A console script calls `run`, as the module does itself
when it is the program.
"""

import contextlib
import pathlib
import signal
import sys
import warnings
from collections.abc import Callable, Iterator

from absl import app, flags
from rich.console import Console
from rich.table import Table

from tfmdl.outside import is_utf8, printable

PIPED_WIDTH = 240

_ROOT = pathlib.Path(__file__).resolve().parents[1]
# Commands that a file of a checkout starts; the others are typed as modules.
_FILES = {
    "tfmdl.training": "train.py",
    "tfmdl.evaluation": "eval.py",
    "data_prep.convert": "data_prep/convert.py",
    "data_prep.verify": "data_prep/verify.py",
    "data_prep.make_demo": "data_prep/make_demo.py",
    "data_prep.make_concepts": "data_prep/make_concepts.py",
}


class _Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM came; as all that is no Exception, it passes whatever is caught on the way."""

    def __init__(self, number: int):
        super().__init__()
        self.signal = signal.Signals(number)


def start(
    usage: str,
    define_flags: Callable[[], None],
    main: Callable[[list[str]], int | None],
    *,
    takes_arguments: bool = False,
    passes_flags_on: bool = False,
) -> None:
    """Runs a command and ends the process with its exit code.

    What the user can mend ends it as `report_errors` says. SIGINT and SIGTERM, where `main` does not handle them
    itself, end it with one line on standard error and code 128 plus the number of the signal.

    Args:
        usage: What `--help` says before the flags: the docstring of the command's module.
        define_flags: Defines the flags of the command, which `--help` lists.
        main: Does the work. Called with the name of the program and its arguments, flags not among them; returns the
            exit code, None for 0.
        takes_arguments: Whether there may be arguments that are no flags.
        passes_flags_on: Whether arguments may also be flags of another command, which are left as they are.
    """
    sys.modules["__main__"].__doc__ = usage  # where absl looks for it
    others = set(flags.FLAGS)
    define_flags()
    for name in flags.FLAGS:
        if name not in others:
            flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[name])

    def parse(argv):
        with report_errors():
            rest = flags.FLAGS(argv, known_only=passes_flags_on)
            if rest[1:] and not (takes_arguments or passes_flags_on):
                raise ValueError(f"unexpected argument {rest[1]!r}: flags are --name=value")
            return rest

    def guarded(argv):
        # A name that is no UTF-8 can be told, too, as on standard error.
        sys.stdout.reconfigure(errors="backslashreplace")
        try:
            with _interruptible() as came, report_errors(), _not_lost(came):
                return main(argv)
        except _Interrupted as interrupted:
            _say(f"interrupted by {interrupted.signal.name}; type the same command again")
            return 128 + interrupted.signal

    app.run(guarded, flags_parser=parse)


@contextlib.contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Raises `_Interrupted` on signals while it lasts; those that are ignored, as behind a shell's &, stay so.

    Gives a list of the signals that have come.
    """

    def interrupt(number, frame):
        came.append(number)
        raise _Interrupted(number)

    came = []
    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, interrupt)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _not_lost(came: list[int]) -> Iterator[None]:
    """Raises `_Interrupted` for the first of the signals in place of an error.

    Code that is called from C, as where a picture is drawn, may be interrupted, and C then says something else.
    """
    try:
        yield
    except Exception as error:
        if came:
            raise _Interrupted(came[0]) from error
        raise


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """Ends the process with one line on standard error, and code 1, for errors that the user can mend.

    Warnings are one line, too. An argument that is not UTF-8 is such an error: TensorFlow cannot open such a file.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: _say(f"warning: {message}")
            for argument in sys.argv[1:]:
                if not is_utf8(argument):
                    raise ValueError(f"arguments must be text in UTF-8; received {argument!r}")
            yield
    except flags.Error as error:
        _say(f"error: {error} (--help lists the flags)")
        sys.exit(1)
    except (ValueError, OSError, FloatingPointError) as error:
        _say(f"error: {error}")
        sys.exit(1)


def _say(text):
    print("\n".join(map(printable, text.split("\n"))), file=sys.stderr)


def typed(module: str) -> str:
    """Returns how a user starts the command in `module`: from a checkout, or as the package is installed."""
    file = _FILES.get(module)
    if (_ROOT / "train.py").is_file():
        return f"python {file}" if file else f"python -m {module}"
    name = pathlib.PurePath(file).stem if file else module.rpartition(".")[2]
    return f"tfmdl-{name.replace('_', '-')}"


def text_console(**options) -> Console:
    """Returns a console that prints text as it is: names and labels may look like markup, as in "x[red].jpg"."""
    return Console(highlight=False, markup=False, emoji=False, **options)


def number_table(first: str, *columns: str, **options) -> Table:
    """Returns an empty table of a column of names, called `first`, and columns of numbers; options are rich's."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), **options)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def table_console() -> Console:
    """Returns a console for tables, which are not squeezed where there is no terminal to be as wide as."""
    console = text_console()
    return console if console.is_terminal else text_console(width=PIPED_WIDTH)

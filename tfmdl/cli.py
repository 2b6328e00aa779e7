"""What the command lines have in common."""

import contextlib
import sys
import warnings

from rich.console import Console

from tfmdl.outside import is_utf8, printable

PIPED_WIDTH = 240


@contextlib.contextmanager
def report_errors():
    """Ends the process with one line on standard error, and code 1, for errors that the user can mend.

    Warnings are one line, too. An argument that is no text is such an error: TensorFlow opens no file of that name.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: _say(f"warning: {message}")
            for argument in sys.argv[1:]:
                if not is_utf8(argument):
                    raise ValueError(f"arguments must be text in UTF-8; received {argument!r}")
            yield
    except (ValueError, OSError, FloatingPointError) as error:
        _say(f"error: {error}")
        sys.exit(1)


def _say(text):
    print("\n".join(map(printable, text.split("\n"))), file=sys.stderr)


def text_console(**options) -> Console:
    """Returns a console that prints text as it is: names and labels may look like markup, as in "x[red].jpg"."""
    return Console(highlight=False, markup=False, emoji=False, **options)


def table_console() -> Console:
    """Returns a console for tables, which are not squeezed where there is no terminal to be as wide as."""
    console = text_console()
    return console if console.is_terminal else text_console(width=PIPED_WIDTH)

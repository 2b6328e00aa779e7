"""What the command lines have in common."""

import contextlib
import sys

from rich.console import Console

PIPED_WIDTH = 240


@contextlib.contextmanager
def report_errors():
    """Ends the process with one line on standard error, and code 1, for errors that the user can mend."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def table_console() -> Console:
    """Returns a console for tables, which are not squeezed where there is no terminal to be as wide as."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PIPED_WIDTH)

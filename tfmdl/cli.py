"""What the command lines have in common."""

import contextlib
import sys


@contextlib.contextmanager
def report_errors():
    """Ends the process with one line on standard error, and code 1, for errors that the user can mend."""
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)

"""What the command lines of this folder have in common: how they end, and what they let reach the terminal."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator

from data_prep.plan import DataError
from data_prep.quiet import silence_native_stderr
from tfmdl.outside import printable


class _Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM came; as all that is no Exception, it passes whatever is caught on the way."""

    def __init__(self, number: int):
        super().__init__()
        self.signal = signal.Signals(number)


def run(name: str, work: Callable[[], bool]) -> int:
    """Does the work of a command; what the user can mend is told in one line on standard error.

    Args:
        name: The command's.
        work: Returns whether all is well.

    Returns:
        The exit code: 0, 1 where not all is well, or 128 and the number of the signal that ended it.
    """
    silence_native_stderr()
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _interruptible():
            return 0 if work() else 1
    except (DataError, OSError) as error:
        reason, code = str(error), 1
    except _Interrupted as error:
        reason, code = f"interrupted by {error.signal.name}; type the same command again", 128 + error.signal
    print(f"{name}: {printable(reason)}", file=sys.stderr)
    return code


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    def interrupt(number, frame):
        raise _Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

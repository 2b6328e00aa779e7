"""What a full disk does, without one."""

import contextlib
import resource


@contextlib.contextmanager
def files_of_at_most(size):
    """Lets no file that this process writes have more than `size` bytes: errors are those of a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

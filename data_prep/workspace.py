"""Where a domain is built: beside its final place, under a name that no reader takes for a domain.

A folder that begins with "." cannot be a domain. It is renamed when it is whole, so that at any moment the
domain's own folder is either whole or not there. A lock tells the remains of a killed run, which are removed,
from a running one.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from data_prep.plan import DataError

_LOCK = "lock"


@contextlib.contextmanager
def building(output_dir: pathlib.Path, domain: str) -> Iterator[pathlib.Path]:
    """Gives a folder to build `<output_dir>/<domain>` in, and puts it in its place unless the body raises.

    A domain that is already there is replaced. If the body raises, nothing stays.

    Raises:
        DataError: if another process is building the same domain.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    _clean_up(output_dir, domain)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{domain}.partial-", dir=output_dir))
    # mkdtemp makes a folder for its owner alone; the domain's folder should be as readable as any other.
    partial.chmod(output_dir.stat().st_mode & 0o777)
    try:
        with open(partial / _LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield partial
            (partial / _LOCK).unlink()
            _put_in_place(partial, output_dir / domain)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _put_in_place(partial: pathlib.Path, final: pathlib.Path) -> None:
    if not final.exists():
        os.rename(partial, final)
        return
    old = pathlib.Path(tempfile.mkdtemp(prefix=f".{final.name}.old-", dir=final.parent))
    os.rename(final, old / final.name)
    os.rename(partial, final)
    shutil.rmtree(old)


def _clean_up(output_dir: pathlib.Path, domain: str) -> None:
    """Removes what a killed run left of `domain`, and brings back what it had moved out of the way."""
    for old in output_dir.glob(f".{domain}.old-*"):
        if not (output_dir / domain).exists() and (old / domain).exists():
            os.rename(old / domain, output_dir / domain)
        shutil.rmtree(old)
    for partial in output_dir.glob(f".{domain}.partial-*"):
        if _is_locked(partial / _LOCK):
            raise DataError(f"{domain}: another process is building it, in {partial}")
        shutil.rmtree(partial)


def _is_locked(path: pathlib.Path) -> bool:
    try:
        with open(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False

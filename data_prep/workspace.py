"""Where a domain is built: beside its final place, under a name that no reader takes for a domain.

A folder that begins with "." cannot be a domain. It is renamed when it is whole, so that at any moment the
domain's own folder is either whole or not there. All of it, the removal of what a killed run left included, is
done by the one process that holds the lock of the domain.
"""

import contextlib
import fcntl
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator

from data_prep.plan import DataError
from tfmdl import files


@contextlib.contextmanager
def building(output_dir: pathlib.Path, domain: str) -> Iterator[pathlib.Path]:
    """Gives a folder to build `<output_dir>/<domain>` in, and puts it in its place unless the body raises.

    A domain that is already there is replaced. If the body raises, nothing stays.

    Raises:
        DataError: if another process is building the same domain.
    """
    files.make_folder(output_dir)
    with _locked(output_dir / f".{domain}.lock", domain):
        try:
            _clean_up(output_dir, domain)
            partial = _made(output_dir, domain, "partial")
            # mkdtemp makes a folder for its owner alone; the domain's folder should be as readable as any other.
            partial.chmod(output_dir.stat().st_mode & 0o777)
            yield partial
            _put_in_place(partial, output_dir / domain)
        finally:
            _clean_up(output_dir, domain)


def tidy(output_dir: pathlib.Path, domain: str) -> None:
    """Removes what a killed run has left beside a domain that is whole, unless another process is at work on it."""
    lock = output_dir / f".{domain}.lock"
    if lock.exists() or any(_left(output_dir, domain, kind) for kind in ("old", "partial")):
        with contextlib.suppress(DataError), _locked(lock, domain):
            _clean_up(output_dir, domain)


@contextlib.contextmanager
def _locked(path: pathlib.Path, domain: str) -> Iterator[None]:
    """Holds the lock on `path`, a file that is there as long as it is held; it ends with the process."""
    while True:
        with open(path, "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DataError(f"{domain}: another process is building it, by its lock {path}") from None
            # The file may have been removed by its last holder since it was opened: then it locks nothing.
            if not files.is_at(lock, path):
                continue
            try:
                yield
            finally:
                path.unlink()
            return


def _made(output_dir: pathlib.Path, domain: str, kind: str) -> pathlib.Path:
    return pathlib.Path(tempfile.mkdtemp(prefix=f".{domain}.{kind}-", dir=output_dir))


def _left(output_dir: pathlib.Path, domain: str, kind: str) -> list[pathlib.Path]:
    """Returns the folders that `_made` made for `domain`: for "a", not those for a domain "a.partial-b"."""
    name = re.compile(rf"\.{re.escape(domain)}\.{kind}-[a-z0-9_]+")
    return [path for path in output_dir.iterdir() if name.fullmatch(path.name)]


def _put_in_place(partial: pathlib.Path, final: pathlib.Path) -> None:
    # Before it has its name: a power cut must not leave a domain whose records are not there.
    files.flush_all(partial)
    if final.exists():
        # Until the next line is done, a kill leaves the old domain aside, and `_clean_up` brings it back.
        os.rename(final, _made(final.parent, final.name, "old") / final.name)
    os.rename(partial, final)
    files.flush(final.parent)


def _clean_up(output_dir: pathlib.Path, domain: str) -> None:
    """Removes what was left of `domain`, and brings back what was moved away but never replaced."""
    for old in _left(output_dir, domain, "old"):
        if not (output_dir / domain).exists() and (old / domain).exists():
            os.rename(old / domain, output_dir / domain)
        files.remove_folder(old)
    for partial in _left(output_dir, domain, "partial"):
        files.remove_folder(partial)

"""Runs commands as a user does, each in a process of its own, but without the seconds that TensorFlow's import takes.

The processes are forks of one that has imported it, and nothing of the project but what `serve` was told. What a
command does to its process (signals, limits, flags, threads) therefore stays there, as it does when it is started anew.
All have the environment variables that there were at the first call, and those that they are given.
"""

import multiprocessing
import multiprocessing.reduction
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tfmdl.quiet"])


def serve(modules: tuple[str, ...] = (), preload: str | os.PathLike | None = None) -> None:
    """Sets what all commands of this process begin with, before the first of them.

    Args:
        modules: Modules that are imported once, for all.
        preload: A shared library that the dynamic linker loads before all others.
    """
    _SERVER.set_forkserver_preload(["tfmdl.quiet", *modules])
    before = os.environ.get("LD_PRELOAD")
    if preload:
        os.environ["LD_PRELOAD"] = str(preload)
    try:
        from multiprocessing.forkserver import ensure_running

        ensure_running()
    finally:
        os.environ.pop("LD_PRELOAD", None)
        if before is not None:
            os.environ["LD_PRELOAD"] = before


class Command:
    """`python *arguments`, started.

    Args:
        arguments: `-m` and a module, or the path of a file, and what it is given.
        cwd: The folder to run in.
        environment: Further variables.
        max_file_bytes: A limit on files that it writes, which does for a full disk.
    """

    def __init__(self, *arguments, cwd=None, environment=None, max_file_bytes=None):
        self.arguments = arguments
        self._out, self._err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115  (closed by `result`)
        given = (list(map(str, arguments)), cwd and str(cwd), environment or {}, max_file_bytes)
        self._process = _SERVER.Process(target=_run, args=(*given, *map(_duplicate, (self._out, self._err))))
        self._process.start()

    def ended(self, seconds: float = 0.0) -> bool:
        """Waits for its end, for so long at most, and returns whether it has come."""
        self._process.join(seconds)
        return self._process.exitcode is not None

    def send_signal(self, number: int) -> None:
        """Sends it a signal, if it has not ended."""
        if not self.ended():
            os.kill(self._process.pid, number)

    def result(self, timeout: float) -> subprocess.CompletedProcess:
        """Returns what `subprocess.run` would, output as text.

        Raises:
            subprocess.TimeoutExpired: after so many seconds, when it has been killed.
        """
        if not self.ended(timeout):
            self._process.kill()
            self._process.join()
            raise subprocess.TimeoutExpired(self.arguments, timeout)
        texts = []
        for stream in (self._out, self._err):
            with stream:
                stream.seek(0)
                texts.append(stream.read().decode())
        return subprocess.CompletedProcess(self.arguments, self._process.exitcode, *texts)


def run_command(*arguments, cwd=None, timeout=600, **options):
    """Runs `python *arguments` and returns what `subprocess.run` would, output as text; arguments as `Command`'s.

    Raises:
        subprocess.TimeoutExpired: after so many seconds, when it has been killed.
    """
    return Command(*arguments, cwd=cwd, **options).result(timeout)


def _duplicate(stream):
    return multiprocessing.reduction.DupFd(stream.fileno())


def _run(arguments, cwd, environment, max_file_bytes, out, err):
    for descriptor, stream in ((1, out), (2, err)):
        os.dup2(stream.detach(), descriptor)
    # The campaign itself may have been started with SIGINT ignored, behind a shell's &.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)
    if cwd:
        os.chdir(cwd)
    if max_file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, max_file_bytes))
    as_module = arguments[0] == "-m"
    sys.argv = arguments[as_module:]
    if as_module:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
        runpy.run_path(sys.argv[0], run_name="__main__")

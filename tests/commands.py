"""Runs commands as a user does, each in a process of its own, but without the seconds that TensorFlow's import takes.

The processes are forks of one that has imported it, and nothing of the project. What a command does to its process
(signals, limits, flags, threads) therefore stays there, as it does when it is started anew. All have the environment
variables that there were at the first call.
"""

import multiprocessing
import multiprocessing.reduction
import os
import resource
import runpy
import subprocess
import sys
import tempfile

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tfmdl.quiet"])


def run_command(*arguments, cwd=None, timeout=600, max_file_bytes=None):
    """Runs `python *arguments` and returns what `subprocess.run` would, output as text.

    Args:
        arguments: `-m` and a module, or the path of a file, and what it is given.
        cwd: The folder to run in.
        timeout: After so many seconds the process is killed and `subprocess.TimeoutExpired` raised.
        max_file_bytes: A limit on files that it writes, which does for a full disk.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given = (list(map(str, arguments)), cwd and str(cwd), max_file_bytes)
        process = _SERVER.Process(target=_run, args=(*given, *map(_duplicate, (out, err))))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(arguments, timeout)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode())
    return subprocess.CompletedProcess(arguments, process.exitcode, *texts)


def _duplicate(stream):
    return multiprocessing.reduction.DupFd(stream.fileno())


def _run(arguments, cwd, max_file_bytes, out, err):
    for descriptor, stream in ((1, out), (2, err)):
        os.dup2(stream.detach(), descriptor)
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

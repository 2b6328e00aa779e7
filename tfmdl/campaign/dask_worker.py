"""What happens on a Dask worker: a task is a run, as a process that lives no longer than its task and its worker.

Workers and schedulers import this module, so it imports neither TensorFlow nor Keras: memory and GPUs are the run's.
"""

import contextlib
import importlib.metadata
import os
import pathlib
import signal
import subprocess
import sys
import time

from distributed import Reschedule, WorkerPlugin, get_worker

import tfmdl
from tfmdl.files import is_locked

PLUGIN = "tfmdl-runs"
_GPUS = "CUDA_VISIBLE_DEVICES"
_LOOK_SECONDS = 1.0
_STOPPED = (128 + signal.SIGTERM, -signal.SIGTERM)  # exit codes: it wrote a checkpoint, or had just been started


def versions() -> dict[str, str | None]:
    """Returns by name the versions that must be the same everywhere, None of what is not installed."""
    found = {"tfmdl": tfmdl.__version__}
    for name in ("keras", "tensorflow"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


class _Process:
    """The process of a run; any thread may end it, also before it is there."""

    def __init__(self):
        self.given_up = False
        self._popen = None

    def run(self, command: list[str], **options) -> int:
        """Returns the exit code of `command`, whose options are subprocess's."""
        self._popen = subprocess.Popen(command, **options)
        if self.given_up:
            self._popen.terminate()
        return self._popen.wait()

    def give_up(self) -> None:
        """Ends it by SIGTERM, on which a run writes a checkpoint."""
        self.given_up = True
        if self._popen:
            self._popen.terminate()


class Runs(WorkerPlugin):
    """The processes of a worker's tasks. Dask does not end a task that is at work, so this does: when it is cancelled,
    when the campaign that asked for it is gone, and when the worker closes.
    """

    name = PLUGIN
    idempotent = True  # a second campaign must not end the runs of the first

    def setup(self, worker):
        self._processes: dict[str, _Process] = {}

    def transition(self, key, start, finish, **kwargs):
        process = self._processes.get(key)
        if process and finish == "released":
            process.give_up()

    def teardown(self, worker):
        for process in list(self._processes.values()):
            process.give_up()

    @contextlib.contextmanager
    def process(self, key: str):
        """Returns a context that gives the process of a task."""
        self._processes[key] = process = _Process()
        try:
            yield process
        finally:
            del self._processes[key]


def train(flags: list[str], said: str, workdir: str, log: str, cwd: str, one_gpu: bool, needs: dict, topic: str) -> int:
    """Does a run as a process of its own, and returns its exit code.

    What SIGTERM has ended, which writes a checkpoint, is for Dask to start again, where it can.

    Args:
        flags: What Python is told.
        said: The command as a user would type it, for the log.
        workdir: Folder of the run: absolute, and there. Waited for while another process has it, as one that was left
            behind by a worker that is gone.
        log: File that takes what it says.
        cwd: Folder to start it in, which its paths may be relative to.
        one_gpu: Whether it may see only the first of the GPUs that the worker sees.
        needs: Versions that must be those of this worker.
        topic: Of Dask's events: where it is told what comes of it, as {"key": of the task, "text": ...}.

    Raises:
        ValueError: if no run can be at work on this worker, saying why.
    """
    worker = get_worker()
    key = worker.get_current_task()
    check(worker.name, needs, (cwd, workdir))

    def tell(text):
        worker.log_event(topic, {"key": key, "text": text})

    with worker.plugins[PLUGIN].process(key) as process:
        if is_locked(workdir):
            tell("waits for the process that has its folder")
            while is_locked(workdir) and not process.given_up:
                time.sleep(_LOOK_SECONDS)
            if process.given_up:
                raise Reschedule
        tell(f"on {worker.name}")
        with open(log, "a") as file:
            print(f"# on {worker.name}\n$ {said}", file=file, flush=True)
            exit_code = process.run(
                [sys.executable, "-m", "tfmdl.campaign.tied", str(os.getpid()), *flags],
                cwd=cwd,
                env=_environment(one_gpu),
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
    if exit_code in _STOPPED:
        raise Reschedule  # the worker closes, or its machine is asked back; of a cancelled task nobody hears
    return exit_code


def check(worker: str, needs: dict, folders: tuple[str, ...]) -> None:
    """Checks that this is a place for runs of a campaign that needs these versions, and sees these folders.

    Raises:
        ValueError: if not, naming it `worker`.
    """
    if versions() != needs:
        raise ValueError(f"worker {worker} has {_told(versions())}, and the campaign {_told(needs)}: install the same")
    for folder in folders:
        if not pathlib.Path(folder).is_dir():
            raise ValueError(f"worker {worker} has no folder {folder}: it must be on a file system that workers share")


def _told(versions):
    return ", ".join(f"{name} {version or 'not at all'}" for name, version in versions.items())


def _environment(one_gpu):
    # All GPUs that a run sees train together; dask-cuda's workers see those of the machine, their own one first.
    first = {_GPUS: os.environ[_GPUS].partition(",")[0]} if one_gpu and _GPUS in os.environ else {}
    return {**os.environ, **first}

"""Runs as tasks of a Dask cluster, which stands already: its scheduler is told of, its workers are whatever it has."""

import contextlib
import logging
import os
import pathlib
import queue
import time
import uuid
from concurrent.futures import CancelledError

import dask
from distributed import Client, Future, KilledWorker

from tfmdl.campaign import dask_worker
from tfmdl.campaign.executors import TRAIN, Ended, Executor, Lost
from tfmdl.campaign.plan import PlannedRun
from tfmdl.files import is_locked

CONNECT_SECONDS = 10
STOP_SECONDS = 60  # that runs have to write their checkpoints
# A network file system may show a file to another machine as late as that: NFS keeps what a folder lacks for a minute.
LATE_SECONDS = 90
_GPU = "GPU"


class DaskExecutor(Executor):
    """Tasks of a Dask cluster. A run whose worker is gone is done by another, and goes on from its last checkpoint.

    A worker does one run at a time. Where workers have the resource GPU, each run asks for one, and other workers get
    none. It waits for the first worker, and goes by those that are there then.

    Args:
        client: Connected to the cluster; closed with the executor.
        name: Of the scheduler, for errors.
        jobs: How many runs to have at work at most; None: as many as workers can do.

    Raises:
        Lost: if the scheduler is gone before there is a worker.
    """

    poll_seconds = 1.0

    def __init__(self, client: Client, name: str, jobs: int | None):
        self._client = client
        self._name = name
        self._jobs = jobs
        self._topic = f"tfmdl-{uuid.uuid4().hex}"
        self._events: queue.SimpleQueue = queue.SimpleQueue()
        self._futures: dict[PlannedRun, Future] = {}
        self._finished: dict[PlannedRun, float] = {}  # those whose pack is not seen yet, and since when
        with contextlib.ExitStack() as undone, self._connected():
            undone.callback(self.__exit__)
            client.register_plugin(dask_worker.Runs())
            client.subscribe_topic(self._topic, lambda event: self._events.put(event[1]))
            if not self._workers():
                print(f"{name} has no worker yet: waiting for the first", flush=True)
            client.wait_for_workers(1)
            self._has_gpus = any(worker["resources"].get(_GPU) for worker in self._workers())
            undone.pop_all()

    @property
    def places(self):
        # No more than that: what waits at a worker that dies counts, for Dask, as what may have killed it.
        workers = self._workers()
        places = len(workers)
        if self._has_gpus:
            places = sum(min(int(worker["resources"].get(_GPU, 0)), worker["nthreads"]) for worker in workers)
        return min(self._jobs or places, places)

    def start(self, run):
        with self._connected():
            self._futures[run] = self._client.submit(
                dask_worker.train,
                flags=[*TRAIN, *run.flags],
                said=run.command(),
                workdir=str(run.workdir.absolute()),
                log=str(run.log.absolute()),
                cwd=os.getcwd(),
                one_gpu=self._has_gpus,
                needs=dask_worker.versions(),
                topic=self._topic,
                key=f"{run.name.replace(' ', '_')}-{uuid.uuid4().hex}",
                pure=False,
                resources={_GPU: 1} if self._has_gpus else None,
            )

    def ended(self):
        with self._connected():
            ended = [self._ended(run) for run, future in list(self._futures.items()) if future.status != "pending"]
        now = time.monotonic()
        seen = [run for run, since in self._finished.items() if run.finished or now - since > LATE_SECONDS]
        for run in seen:
            del self._finished[run]
        return [*filter(None, ended), *(Ended(run, 0) for run in seen)]

    def _ended(self, run):
        future = self._futures[run]
        if future.status == "error":
            error = future.exception()
            if not isinstance(error, KilledWorker):
                raise ValueError(f"{self._name} cannot have runs done: {error}") from error
            del self._futures[run]
            return Ended(run, None, f"failed: {error.allowed_failures + 1} workers ended while they did it")
        exit_code = future.result()  # raises CancelledError for what the campaign did not cancel
        del self._futures[run]
        if exit_code:
            return Ended(run, exit_code)
        self._finished[run] = time.monotonic()
        return None

    def notes(self):
        runs = {future.key: run for run, future in self._futures.items()}
        notes = []
        with contextlib.suppress(queue.Empty):
            while True:
                event = self._events.get_nowait()
                if event["key"] in runs:
                    notes.append((runs[event["key"]], event["text"]))
        return notes

    def stop(self):
        with contextlib.suppress(Lost), self._connected():  # workers that have no scheduler end their runs themselves
            self._client.cancel(list(self._futures.values()))
            deadline = time.monotonic() + STOP_SECONDS
            while any(is_locked(run.workdir) for run in self._futures) and time.monotonic() < deadline:
                time.sleep(self.poll_seconds)

    def __exit__(self, *_):
        cluster = self._client.cluster
        self._client.close()
        if cluster:
            cluster.close()

    def _workers(self):
        return list(self._client.scheduler_info(n_workers=-1).get("workers", {}).values())

    @contextlib.contextmanager
    def _connected(self):
        """Raises `Lost` if there is no scheduler, or the body finds that there is none."""
        lost = Lost(f"{self._name} is gone")
        if self._client.status != "running":
            raise lost
        try:
            yield
        except (OSError, CancelledError) as error:
            raise lost from error


def _quieten():
    for name in ("distributed", "distributed.client"):  # Dask gives both a level
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what is worth a line is said in one


def at(address: str, jobs: int | None) -> DaskExecutor:
    """Returns the cluster whose scheduler has an address, or wrote the file `address`, which ends with .json.

    Raises:
        OSError: if there is no such scheduler.
    """
    _quieten()
    is_file = address.endswith(".json")
    if is_file and not pathlib.Path(address).is_file():
        raise FileNotFoundError(f"--cluster=dask:{address}: no such file; has the scheduler started?")
    try:
        client = Client(**{"scheduler_file" if is_file else "address": address}, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"--cluster=dask:{address}: no scheduler answers there within {CONNECT_SECONDS} seconds"
        ) from error
    return DaskExecutor(client, f"the scheduler at {address}", jobs)


def on_slurm(jobs: int | None) -> DaskExecutor:
    """Returns a cluster of as many Slurm jobs, each a worker, as Dask's configuration describes them (jobqueue.slurm).

    The scheduler is in this process; a job that ends, as by its time limit, is replaced.

    Raises:
        ValueError: if the number or the description is missing.
    """
    from dask_jobqueue import SLURMCluster

    _quieten()
    if not jobs:
        raise ValueError("--cluster=slurm needs --jobs: how many Slurm jobs to have at a time")
    try:
        one_run = ["--nthreads", "1"]  # however many cores it has; the last of several counts
        more = dask.config.get("jobqueue.slurm.worker-extra-args")
        cluster = SLURMCluster(processes=1, worker_extra_args=[*more, *one_run])
    except ValueError as error:
        raise ValueError(f"--cluster=slurm: jobqueue.slurm of Dask's configuration: {error}") from error
    cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)
    return DaskExecutor(Client(cluster), "the scheduler of Slurm's jobs", jobs)

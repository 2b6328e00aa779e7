"""Runs on a Dask cluster: where they are at work, and what becomes of them when tasks, workers and schedulers end.

A run is started as always, but in a folder in which `tensorflow` is the program below: what it does is to be there.
"""

import pathlib
import subprocess
import sys
import time

import pytest

distributed = pytest.importorskip("distributed")

from tfmdl.campaign import dask_executor, dask_worker  # noqa: E402  (they need what may not be here)
from tfmdl.campaign.clusters import executor_of  # noqa: E402
from tfmdl.campaign.executors import Ended, Lost  # noqa: E402
from tfmdl.campaign.plan import PlannedRun  # noqa: E402
from tfmdl.files import locked  # noqa: E402

ROOT = pathlib.Path(__file__).parents[2]
# Says what GPUs it sees, and when SIGTERM ends it; else it ends as its file `end` says, and leaves a pack first.
PROGRAM = """
import os, pathlib, signal, sys, time
def stop(*_):
    print("checkpoint", flush=True)
    os._exit(143)
signal.signal(signal.SIGTERM, stop)
folder = pathlib.Path(next(flag for flag in sys.argv if "--workdir" in flag).partition("=")[2])
print("begun, GPUs:", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
while not (folder / "end").exists():
    time.sleep(0.02)
(folder / "packs").mkdir()
(folder / "packs" / f"{folder.name}.safetensors").touch()
os._exit(int((folder / "end").read_text()))
"""


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "tensorflow.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def run_of(domain):
    folder = pathlib.Path(domain)
    folder.mkdir()
    return PlannedRun("individual", "individual", domain, 0, folder, (f"--workdir={folder}",), (), 1, False)


def log(run):
    return run.log.read_text() if run.log.is_file() else ""


def begun(run):
    return log(run).count("begun")


def end(executor, run, exit_code):
    """Lets a run end, and returns what the executor says of it."""
    (run.workdir / "partial").write_text(str(exit_code))
    (run.workdir / "partial").rename(run.workdir / "end")
    ended = []
    until(lambda: ended.extend(executor.ended()) or ended)
    return ended


@pytest.fixture
def executor(request):
    """An executor whose workers, in this process, have the resources that the test asks for."""
    workers = {
        number: {"cls": distributed.Worker, "options": {"nthreads": 1, "resources": resources, "dashboard": False}}
        for number, resources in enumerate(getattr(request, "param", [{}]))
    }
    scheduler = {"cls": distributed.Scheduler, "options": {"protocol": "inproc://", "dashboard": False}}
    with (
        distributed.SpecCluster(workers=workers, scheduler=scheduler) as cluster,
        executor_of(f"dask:{cluster.scheduler_address}", None) as executor,
    ):
        yield executor


@pytest.mark.parametrize("exit_code", [0, 3])
def test_a_run_ends_with_its_own_exit_code(executor, exit_code):
    run = run_of("a")
    executor.start(run)
    until(lambda: executor.notes() == [(run, "on 0")])
    assert end(executor, run, exit_code) == [Ended(run, exit_code)]
    assert log(run).startswith(f"# on 0\n$ {run.command()}\nbegun")


@pytest.mark.parametrize("executor", [[{}, {"GPU": 1}, {}, {"GPU": 1}]], indirect=True)
def test_runs_go_to_workers_with_gpus_only_and_see_one(executor, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    runs = [run_of(name) for name in "abc"]
    assert executor.places == 2
    for run in runs:
        executor.start(run)
    until(lambda: begun(runs[0]) and begun(runs[1]))
    assert not begun(runs[2])
    end(executor, runs[0], 0)
    until(lambda: begun(runs[2]))
    assert {log(run).split()[2] for run in runs} == {"1", "3"}
    assert all("begun, GPUs: 5\n" in log(run) for run in runs)
    executor.stop()


@pytest.mark.parametrize("how", ["stop", "__exit__"])
def test_runs_write_checkpoints_when_the_campaign_stops_or_is_gone(executor, how):
    run = run_of("a")
    executor.start(run)
    until(lambda: begun(run))
    getattr(executor, how)()
    until(lambda: "checkpoint" in log(run))
    assert begun(run) == 1


def test_a_folder_that_another_process_has_is_waited_for(executor):
    run, notes = run_of("a"), []
    with locked(run.workdir, "test"):
        executor.start(run)
        until(lambda: notes.extend(executor.notes()) or notes)
        assert notes == [(run, "waits for the process that has its folder")] and not begun(run)
    until(lambda: begun(run))
    executor.stop()


def test_workers_that_can_do_no_run_end_the_campaign_with_one_line(executor, monkeypatch):
    run = run_of("a")
    run.workdir.rmdir()
    executor.start(run)
    with pytest.raises(ValueError, match=f"worker 0 has no folder {run.workdir.absolute()}: it must be on a file"):
        until(executor.ended)
    monkeypatch.setattr("tfmdl.__version__", "0.0")
    needs = dask_worker.versions()
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"worker here has tfmdl 0\.\d.*, and the campaign tfmdl 0\.0.*: install"):
        dask_worker.check("here", needs, ())


def start(*command):
    return subprocess.Popen([sys.executable, "-m", *command], stderr=subprocess.DEVNULL)


def test_what_goes_on_when_workers_and_schedulers_are_killed(folder, caplog):
    file, run, notes = folder / "scheduler.json", run_of("a"), []
    network = ("--host=127.0.0.1", "--no-dashboard")
    scheduler = start("distributed.cli.dask_scheduler", f"--scheduler-file={file}", "--port=0", *network)
    worker = ("distributed.cli.dask_worker", f"--scheduler-file={file}", "--nthreads=1", "--no-nanny", *network)
    workers = {name: start(*worker, f"--name={name}") for name in ("one", "two")}
    started = list(workers.values())
    try:
        until(file.is_file)
        with executor_of(f"dask:{file}", None) as executor:
            executor.start(run)
            until(lambda: begun(run))
            until(lambda: notes.extend(executor.notes()) or notes)
            workers[notes[-1][1].removeprefix("on ")].kill()
            until(lambda: begun(run) == 2)
            assert log(run).index("checkpoint") < log(run).rindex("begun")
            assert {line for line in log(run).splitlines() if line.startswith("#")} == {"# on one", "# on two"}
            scheduler.kill()
            with pytest.raises(Lost, match=f"^the scheduler at {file} is gone$"):
                until(executor.ended)
        until(lambda: log(run).count("checkpoint") == 2)
        assert not caplog.records  # one line is enough
    finally:
        for process in (scheduler, *started):
            process.kill()
            process.wait()


@pytest.mark.parametrize("cluster", ["dask:", "dask", "spark:here", "slurm:here"])
def test_a_cluster_is_one_that_is_known(cluster):
    with pytest.raises(ValueError, match=f"^--cluster must be local, dask:ADDRESS or slurm; received '{cluster}'$"):
        executor_of(cluster, None)


def test_an_address_at_which_no_scheduler_answers_is_one_line(monkeypatch):
    monkeypatch.setattr(dask_executor, "CONNECT_SECONDS", 0.2)
    with pytest.raises(OSError, match="^--cluster=dask:127.0.0.1:1: no scheduler answers there within 0.2 seconds$"):
        executor_of("dask:127.0.0.1:1", None)
    with pytest.raises(OSError, match="^--cluster=dask:none.json: no such file; has the scheduler started?"):
        executor_of("dask:none.json", None)


def test_without_the_extra_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "tfmdl.campaign.dask_executor")
    monkeypatch.delattr("tfmdl.campaign.dask_executor")
    with pytest.raises(ValueError, match=r"^--cluster=dask:here needs distributed: pip install 'tfmdl\[cluster\]'$"):
        executor_of("dask:here", None)

"""The whole path on an embedded decathlon, in minutes on a CPU: `python -m tfmdl.demo --workdir=DIR`.

Draws the images, converts them, pre-trains a trunk on one domain, adds the others by every method, evaluates the
composed model on batches that mix the domains, and exports it. Each step is the command that it prints; a step that
is done is not done again.
"""

import tfmdl.quiet  # isort: skip  # noqa: F401

import concurrent.futures
import contextlib
import multiprocessing
import os
import pathlib
import shlex
import subprocess
import sys
import time

import keras
from absl import app, flags
from rich.table import Table

from tfmdl import packs, params
from tfmdl.cli import report_errors, table_console
from tfmdl.config import RunConfig
from tfmdl.model import Architecture
from tfmdl.training.loop import train

ROOT = pathlib.Path(__file__).resolve().parents[1]
BASE = "objects"
DOMAINS = ("digits", "letters", "shapes", "textures")
METHODS = ("classifier_only", "pointwise_sharing", "individual")
WIDTH, IMAGE_SIZE, BASE_EPOCHS, EPOCHS = 8, 32, 12, 8
MAX_WORKERS = 4

_WORKDIR = flags.DEFINE_string("workdir", "demo-output", "Folder for everything that the demo makes.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}: flags are --name=value")
    started = time.monotonic()
    with report_errors():
        demo(pathlib.Path(_WORKDIR.value))
    print(f"\nThe demo took {time.monotonic() - started:.0f} s.")


def demo(workdir: pathlib.Path) -> None:
    """Runs all steps in `workdir`, then prints the table and what to type next."""
    images, records, runs = workdir / "images", workdir / "records", workdir / "runs"
    if not (images / "annotations").is_dir():
        _run("data_prep/make_demo.py", f"--output_dir={images}")
    _run("data_prep/convert.py", "--source=decathlon", f"--input_dir={images}", f"--output_dir={records}")
    _run("data_prep/verify.py", f"--data_dir={records}")

    base = runs / BASE
    trunk_run = _configuration(records, base, BASE, "pointwise_sharing", BASE_EPOCHS)
    _echo("train.py", *_flags_of(trunk_run))
    if _is_done(trunk_run):
        print("done already")
    else:
        train(trunk_run)
    _add_domains(
        [
            _configuration(records, runs / method / domain, domain, method, EPOCHS, init_from=base)
            for method in METHODS
            for domain in DOMAINS
        ]
    )

    added = ",".join(str(runs / "pointwise_sharing" / domain) for domain in DOMAINS)
    composed = (f"--trunk={base}", f"--packs={base},{added}")
    labels = images / "labels"
    _run("eval.py", *composed, f"--data_dir={records}", "--split=test", f"--labels_dir={labels}")
    export_dir = workdir / "export"
    if not export_dir.is_dir():
        _run("-m", "tfmdl.export", *composed, f"--export_dir={export_dir}")

    _print_table(base, runs)
    print(
        f"""
What next:
  watch     {_BIN}tensorboard --logdir={runs}
  evaluate  {_BIN}python eval.py --workdir={runs}/individual/{DOMAINS[0]} --data_dir={records} --split=val
  serve     docker run --rm -p 8501:8501 -v {export_dir.absolute()}:/models/demo -e MODEL_NAME=demo tensorflow/serving
  your own  {_BIN}python data_prep/convert.py --source=folder --input_dir=IMAGES --output_dir={records} \\
                --resize_shorter=36     # from IMAGES/<domain>/<class>/*.jpg
            {_BIN}python train.py --domain=DOMAIN --data_dir={records} --workdir={runs}/DOMAIN --init_from={base} \\
                --recipe=quick --width={WIDTH} --image_size={IMAGE_SIZE}"""
    )


# So that what is printed runs as it is typed, whether or not the environment is active.
_BIN = f"{pathlib.Path(sys.executable).parent}/" if sys.prefix != sys.base_prefix else ""


def _echo(*arguments):
    print(f"\n$ python {shlex.join(map(str, arguments))}", flush=True)


def _run(*arguments):
    """Runs a command of this project as a user would."""
    _echo(*arguments)
    script = arguments[0]
    located = arguments if script == "-m" else (str(ROOT / script), *arguments[1:])
    finished = subprocess.run([sys.executable, *located])
    if finished.returncode:
        raise ValueError(f"the step above failed with exit code {finished.returncode}")


def _configuration(records, workdir, domain, method, epochs, init_from=None):
    return RunConfig(
        domains=(domain,),
        data_dir=str(records),
        workdir=str(workdir),
        architecture=Architecture(method, width=WIDTH),
        init_from=init_from and str(init_from),
        recipe="quick",
        epochs=epochs,
        image_size=IMAGE_SIZE,
    )


def _flags_of(config):
    """Returns the flags of train.py that ask for `config`."""
    values = {
        "domain": config.domains[0],
        "data_dir": config.data_dir,
        "workdir": config.workdir,
        "method": config.architecture.method,
        "init_from": config.init_from,
        "recipe": config.recipe,
        "epochs": config.epochs,
        "width": config.architecture.width,
        "image_size": config.image_size,
    }
    return [f"--{name}={value}" for name, value in values.items() if value is not None]


def _is_done(config):
    return pathlib.Path(config.workdir, packs.PACKS_DIR, f"{config.domains[0]}.safetensors").is_file()


def _add_domains(configs):
    """Runs train.py's own call for each, some at a time: much of a short run is not arithmetic, and takes one core."""
    waiting = [config for config in configs if not _is_done(config)]
    workers = min(MAX_WORKERS, os.cpu_count() or 1)
    print(f"\nAdding {len(DOMAINS)} domains by {len(METHODS)} methods, {workers} runs at a time:")
    for config in configs:
        _echo("train.py", *_flags_of(config))
    print(flush=True)
    with concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(_train_quietly, config) for config in waiting]
        for number, future in enumerate(concurrent.futures.as_completed(running), start=1):
            print(f"{number:3d} of {len(waiting)}  {future.result()}", flush=True)


def _train_quietly(config):
    """Trains in a process of its own, what it says going to a file of the run; returns a line."""
    started = time.monotonic()
    log = pathlib.Path(config.workdir, "log.txt")
    log.parent.mkdir(parents=True, exist_ok=True)
    keras.backend.clear_session()
    with open(log, "a") as file, contextlib.redirect_stdout(file):
        train(config)
    (pack,) = packs.read_packs(config.workdir)
    seconds = time.monotonic() - started
    return f"{pack.domain:9} {config.architecture.method:18} {100 * pack.accuracy:5.1f} % on val  {seconds:4.0f} s"


def _print_table(base, runs):
    """Prints the accuracy on val by method and domain, and what each method costs in parameters."""
    table = Table(title="Accuracy on val in %, and parameters", box=None, pad_edge=False, title_justify="left")
    table.add_column("method")
    for column in (BASE, *DOMAINS, "mean", "a new domain costs", "all five domains"):
        table.add_column(column, justify="right")
    trunk = packs.read_trunk(base)
    for method in METHODS:
        members = packs.read_packs(base)
        for domain in DOMAINS:
            members += packs.read_packs(runs / method / domain)
        counted = params.count(packs.compose(trunk, members))
        accuracies = [100 * pack.accuracy for pack in members]
        new = counted.own[DOMAINS[0]] + counted.classifier[DOMAINS[0]]
        table.add_row(
            method,
            *(f"{accuracy:.1f}" for accuracy in accuracies),
            f"{sum(accuracies) / len(accuracies):.1f}",
            f"{new:,}",
            f"{counted.total:,}",
        )
    console = table_console()
    console.print()
    console.print(table)


if __name__ == "__main__":
    app.run(main)

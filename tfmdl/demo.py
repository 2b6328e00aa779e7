"""The whole path on an embedded decathlon, in minutes on a CPU: `python -m tfmdl.demo --workdir=DIR`.

Draws the images, converts them, pre-trains a trunk on one domain, adds the others by every method, evaluates the
composed model on batches that mix the domains, and exports it. Each step is the command that it prints; a step that
is done is not done again.
"""

import os
import pathlib
import shlex
import subprocess
import sys
import time

from absl import app, flags

from tfmdl.cli import report_errors

ROOT = pathlib.Path(__file__).resolve().parents[1]
BASE = "objects"
DOMAINS = ("digits", "letters", "shapes", "textures")
METHODS = ("classifier_only", "pointwise_sharing", "individual")
SIZE = ("--width=8", "--image_size=32")
BASE_EPOCHS, EPOCHS = 12, 8
MAX_JOBS = 4

_WORKDIR = flags.DEFINE_string("workdir", "demo-output", "Folder for everything that the demo makes.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}: flags are --name=value")
    started = time.monotonic()
    with report_errors():
        demo(pathlib.Path(_WORKDIR.value))
    print(f"\nThe demo took {time.monotonic() - started:.0f} s.")


def demo(workdir: pathlib.Path) -> None:
    """Runs all steps in `workdir`, then prints what to type next."""
    images, records, runs, export_dir = (workdir / name for name in ("images", "records", "runs", "export"))
    if not (images / "annotations").is_dir():
        _run("data_prep/make_demo.py", f"--output_dir={images}")
    _run("data_prep/convert.py", "--source=decathlon", f"--input_dir={images}", f"--output_dir={records}")
    _run("data_prep/verify.py", f"--data_dir={records}")
    _run(
        "-m",
        "tfmdl.campaign",
        f"--data_dir={records}",
        f"--workdir={runs}",
        f"--base={BASE}",
        f"--methods={','.join(METHODS)}",
        "--recipe=quick",
        f"--base_epochs={BASE_EPOCHS}",
        f"--epochs={EPOCHS}",
        *SIZE,
        f"--jobs={min(MAX_JOBS, os.cpu_count() or 1)}",  # much of a short run is not arithmetic, and takes one core
    )
    trunk = runs / "seed0" / "trunks" / "resnet26_separable"
    added = (str(runs / "seed0" / "pointwise_sharing" / domain) for domain in DOMAINS)
    composed = (f"--trunk={trunk}", f"--packs={','.join((str(trunk), *added))}")
    labels = images / "labels"
    _run("eval.py", *composed, f"--data_dir={records}", "--split=test", f"--labels_dir={labels}")
    if not export_dir.is_dir():
        _run("-m", "tfmdl.export", *composed, f"--export_dir={export_dir}")
    print(
        f"""
What next:
  look      {runs}/report.html, and {_BIN}tensorboard --logdir={runs}
  evaluate  {_BIN}python eval.py --workdir={runs}/seed0/individual/{DOMAINS[0]} --data_dir={records} --split=val
  serve     docker run --rm -p 8501:8501 -v {export_dir.absolute()}:/models/demo -e MODEL_NAME=demo tensorflow/serving
  your own  {_BIN}python data_prep/convert.py --source=folder --input_dir=IMAGES --output_dir={records} \\
                --resize_shorter=36     # from IMAGES/<domain>/<class>/*.jpg
            {_BIN}python train.py --domain=DOMAIN --data_dir={records} --workdir={runs}/DOMAIN --init_from={trunk} \\
                --recipe=quick {" ".join(SIZE)}"""
    )


# So that what is printed runs as it is typed, whether or not the environment is active.
_BIN = f"{pathlib.Path(sys.executable).parent}/" if sys.prefix != sys.base_prefix else ""


def _run(*arguments):
    """Runs a command of this project as a user would."""
    print(f"\n$ python {shlex.join(map(str, arguments))}", flush=True)
    script = arguments[0]
    located = arguments if script == "-m" else (str(ROOT / script), *arguments[1:])
    finished = subprocess.run([sys.executable, *located])
    if finished.returncode:
        raise ValueError(f"the step above failed with exit code {finished.returncode}")


if __name__ == "__main__":
    app.run(main)

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

from absl import flags

from tfmdl.cli import start, typed

BASE = "objects"
DOMAINS = ("digits", "letters", "shapes", "textures")
METHODS = ("classifier_only", "pointwise_sharing", "individual")
SIZE = ("--width=8", "--image_size=32")
BASE_EPOCHS, EPOCHS = 12, 8
MAX_JOBS = 4


def define_flags():
    flags.DEFINE_string("workdir", "demo-output", "Folder for everything that the demo makes.")


def main(argv):
    started = time.monotonic()
    demo(pathlib.Path(flags.FLAGS.workdir))
    print(f"\nThe demo took {time.monotonic() - started:.0f} s.")


def demo(workdir: pathlib.Path) -> None:
    """Runs all steps in `workdir`, then prints what to type next."""
    images, records, runs, export_dir = (workdir / name for name in ("images", "records", "runs", "export"))
    if not (images / "annotations").is_dir():
        _run("data_prep.make_demo", f"--output_dir={images}")
    _run("data_prep.convert", "--source=decathlon", f"--input_dir={images}", f"--output_dir={records}")
    _run("data_prep.verify", f"--data_dir={records}")
    _run(
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
    _run("tfmdl.evaluation", *composed, f"--data_dir={records}", "--split=test", f"--labels_dir={labels}")
    if not export_dir.is_dir():
        _run("tfmdl.export", *composed, f"--export_dir={export_dir}")
    evaluate, convert, train = map(typed, ("tfmdl.evaluation", "data_prep.convert", "tfmdl.training"))
    print(
        f"""
What next:
  look      {runs}/report.html, and {_BIN}tensorboard --logdir={runs}
  evaluate  {_BIN}{evaluate} --workdir={runs}/seed0/individual/{DOMAINS[0]} --data_dir={records} --split=val
  serve     docker run --rm -p 8501:8501 -v {export_dir.absolute()}:/models/demo -e MODEL_NAME=demo tensorflow/serving
  your own  {_BIN}{convert} --source=folder --input_dir=IMAGES --output_dir={records} \\
                --resize_shorter=36     # from IMAGES/<domain>/<class>/*.jpg
            {_BIN}{train} --domain=DOMAIN --data_dir={records} --workdir={runs}/DOMAIN --init_from={trunk} \\
                --recipe=quick {" ".join(SIZE)}"""
    )


# So that what is printed runs as it is typed, whether or not the environment is active.
_BIN = f"{pathlib.Path(sys.executable).parent}/" if sys.prefix != sys.base_prefix else ""


def _run(module, *arguments):
    """Runs a command of this project as a user would."""
    print(f"\n$ {typed(module)} {shlex.join(arguments)}", flush=True)
    finished = subprocess.run([sys.executable, "-m", module, *arguments])
    if finished.returncode:
        raise ValueError(f"the step above failed with exit code {finished.returncode}")


def run():
    start(__doc__, define_flags, main)


if __name__ == "__main__":
    run()

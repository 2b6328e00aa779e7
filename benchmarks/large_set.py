"""ImageNet's number of images, as tiny ones: what converting them and beginning to train on them takes.

    python -m benchmarks.large_set --images=1281167

The set is a decathlon of one domain: an archive of JPEGs of 8x8 pixels and its annotations. What is counted here goes
by the number of images; what goes by their size (decoding, disk) is not.
"""

import json
import multiprocessing
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

from absl import app, flags
from rich.console import Console
from rich.table import Table

from benchmarks import data

FLAGS = flags.FLAGS

flags.DEFINE_integer("images", 1_281_167, "Images of train; there are a tenth as many of val.", lower_bound=1000)
flags.DEFINE_integer("batch_size", 128, "Of training.", lower_bound=1)
flags.DEFINE_string("out", "bench-output", "Folder to write large_set.json into; the set lies there meanwhile.")

ROOT = pathlib.Path(__file__).resolve().parents[1]
SIDE = 8

ROWS = {
    "convert_s": "convert.py, s",
    "convert_rate": "the same, images/s",
    "convert_gb": "its memory, GB",
    "records_mb": "records, MB",
    "shards": "files",
    "verify_s": "verify.py, s",
    "verify_gb": "its memory, GB",
    "index_s": "train: until all records are known and checked, s",
    "first_batch_s": "and until the first batch, s",
    "middle_s": "first batch of a run that goes on in the middle of an epoch, s",
    "next_epoch_s": "first batch of the next epoch, s",
    "train_gb": "memory of a process that only reads, GB",
}


def draw(folder, images):
    """Writes the set."""
    data.write_decathlon(folder, images, data.jpegs(1000, side=SIDE))


def timed(*command):
    """Runs a command of the project; returns how long it took, in s, and its memory, in GB."""
    started = time.perf_counter()
    run = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(run.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} failed")
    return time.perf_counter() - started, usage.ru_maxrss / 1e6


def read(data_dir, batch_size):
    """Prints, as JSON, what reading takes."""
    from tfmdl.data.pipeline import Source, TrainPipeline
    from tfmdl.data.preprocessing import Preprocessing
    from tfmdl.data.records import DatasetInfo

    size = (SIDE, SIDE)
    seen = Preprocessing(*size, *size, (0.5,) * 3, (0.25,) * 3, *size)
    source = Source.of(data_dir, DatasetInfo.load(data_dir, "drawn"), ("train",), seen)
    pipeline = TrainPipeline([source], batch_size, seed=0)

    def first_batch(epoch, step=0):
        started = time.perf_counter()
        next(iter(pipeline.epoch(epoch, step)))
        return time.perf_counter() - started

    started = time.perf_counter()
    assert pipeline._record_files.num_records.sum() == source.num_examples
    took = {"index_s": time.perf_counter() - started, "first_batch_s": first_batch(0)}
    took["middle_s"] = first_batch(0, pipeline.steps_per_epoch // 2)
    took["next_epoch_s"] = first_batch(1)
    took["train_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps(took))


def main(argv):
    out = pathlib.Path(FLAGS.out)
    out.mkdir(parents=True, exist_ok=True)
    took = {}
    with tempfile.TemporaryDirectory(prefix="large_set-", dir=out) as folder:
        folder = pathlib.Path(folder).resolve()
        # In a process of its own: the memory of a child counts from that of its parent.
        drawing = multiprocessing.get_context("spawn").Process(target=draw, args=(folder / "decathlon", FLAGS.images))
        drawing.start()
        drawing.join()
        records = folder / "records"
        took["convert_s"], took["convert_gb"] = timed(
            "data_prep/convert.py", "--source=decathlon", f"--input_dir={folder / 'decathlon'}",
            f"--output_dir={records}", "--splits=train,val",
        )
        took["convert_rate"] = 1.1 * FLAGS.images / took["convert_s"]
        files = list(records.rglob("*.tfrecord"))
        took["records_mb"], took["shards"] = sum(file.stat().st_size for file in files) / 1e6, len(files)
        took["verify_s"], took["verify_gb"] = timed("data_prep/verify.py", f"--data_dir={records}")
        call = f"large_set.read({str(records)!r}, {FLAGS.batch_size})"
        reading = f"import tfmdl.quiet; from benchmarks import large_set; {call}"
        done = subprocess.run([sys.executable, "-c", reading], cwd=ROOT, check=True, stdout=subprocess.PIPE)
        took |= json.loads(done.stdout.splitlines()[-1])
    (out / "large_set.json").write_text(json.dumps(took, indent=1))
    table = Table("what", f"{FLAGS.images:,} images")
    for key, what in ROWS.items():
        table.add_row(what, f"{took[key]:,.2f}")
    Console(soft_wrap=True).print(table)


if __name__ == "__main__":
    app.run(main)

"""Measures what is served: a soak, latencies by signature, sizes on disk.

    python benchmarks/serving.py --measure=soak,latency,size --trunk=runs/base --packs=runs/base,runs/gtsrb,... \
      --data_dir=records
    python benchmarks/serving.py --measure=soak --requests=2000     # a small network with random weights

The soak runs faults/model_server.py, which stands in for TensorFlow Serving, in a process of its own.
"""

import tfmdl.quiet  # isort: skip  # noqa: F401

import concurrent.futures
import contextlib
import functools
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from rich.console import Console
from rich.table import Table

from tfmdl.serving.remote import GrpcClient, RefusedError, RestClient
from tfmdl.serving.samples import samples_of
from tfmdl.serving.signatures import pixel_names
from tfmdl.serving.source import from_runs
from tfmdl.serving.writer import Options, write_export

OPENVINO_LATENCY = pathlib.Path(__file__).with_name("openvino_latency.py")
ROOT = pathlib.Path(__file__).parents[1]
TESTS = ROOT / "tests" / "serving"
CLIENTS = 4
ONE_IN = 50  # requests that are malformed
MOST_ROWS = 8
BATCHES = (1, 8, 32)
BAD_FILES = (b"", b"no image", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + b"\0\1\0\0" * 2)
REASONS = ("is no JPEG", "is no JPEG", "is damaged", "has 65536x65536 pixels")


def soak(path, source, samples, requests):
    """Sends requests from four clients, half by REST and half by gRPC, and tells what became of them."""
    mixable = [pack for pack in source.packs if pack.preprocessing.size == source.size]
    files = [(pack.domain, sample.encoded) for pack in mixable for sample in samples[pack.domain]]
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    domains, encoded = zip(*files, strict=True)
    known = serve(image_bytes=tf.constant(encoded), domain=tf.constant(domains))
    best, share = known["class_id"].numpy()[:, 0], known["probability"].numpy()[:, 0]

    def client(number, url, address):
        rng = np.random.default_rng(number)
        ask = RestClient(url) if number % 2 else GrpcClient(address, "tfmdl")
        latencies, refused, wrong = [], 0, []
        for turn in range(requests // CLIENTS):
            chosen = rng.integers(0, len(files), rng.integers(1, MOST_ROWS + 1))
            rows = [{"image_bytes": files[index][1], "domain": files[index][0]} for index in chosen]
            bad = turn % ONE_IN == number
            if bad:
                kind, place = rng.integers(len(BAD_FILES) + 1), rng.integers(len(rows))
                if kind == len(BAD_FILES):
                    rows[place]["domain"], reason = "nowhere", "unknown domain [nowhere]"
                else:
                    rows[place]["image_bytes"], reason = BAD_FILES[kind], REASONS[kind]
            start = time.perf_counter()
            try:
                answers = ask.predict("serving_default", rows)
            except RefusedError as error:
                if bad and error.row == place and reason in str(error):
                    refused += 1
                else:
                    wrong.append(f"refused: {error}")
                continue
            latencies.append(time.perf_counter() - start)
            apart = max(
                abs(answer["probability"][0] - share[index]) for answer, index in zip(answers, chosen, strict=True)
            )
            if bad or [answer["class_id"][0] for answer in answers] != best[chosen].tolist() or apart > 1e-5:
                wrong.append(f"answered otherwise, {len(rows)} rows, by {apart:.1g}")
        return latencies, refused, wrong

    with _server(path.parent) as (process, where), concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        started = time.perf_counter()
        running = [pool.submit(client, number, where["url"], where["address"]) for number in range(CLIENTS)]
        memory = []
        while not all(each.done() for each in running):
            memory.append((time.perf_counter() - started, _resident(process.pid)))
            time.sleep(1)
        seconds = time.perf_counter() - started
    latencies, refused, wrong = zip(*(each.result() for each in running), strict=True)
    latencies = 1000 * np.concatenate(latencies)
    sent = requests // CLIENTS * CLIENTS
    malformed = sum(sum(turn % ONE_IN == number for turn in range(requests // CLIENTS)) for number in range(CLIENTS))
    wrong = sum(wrong, [])
    print(f"Soak: {sent:,} requests of 1 to {MOST_ROWS} images from {CLIENTS} clients in {seconds:.0f} s")
    print(f"  answered right   {len(latencies) - sum('answered' in each for each in wrong):,} of {sent - malformed:,}")
    print(f"  refused, with row and reason   {sum(refused):,} of {malformed:,} malformed")
    for each in wrong[:5]:
        print(f"  wrong: {each}")
    half, whole, tail = np.percentile(latencies, [50, 95, 99])
    print(
        f"  latency   median {half:.1f} ms, 95 % {whole:.1f} ms, 99 % {tail:.1f} ms, longest {latencies.max():.0f} ms"
    )
    marks = [memory[int(part * (len(memory) - 1))][1] for part in (0, 0.1, 0.25, 0.5, 0.75, 1)]
    print("  server's memory, MB, at 0, 10, 25, 50, 75, 100 %   " + ", ".join(f"{mark:.0f}" for mark in marks))
    print("", flush=True)
    return not wrong and len(latencies) + sum(refused) == sent


@contextlib.contextmanager
def _server(base):
    command = [sys.executable, "-m", "faults.model_server", str(base)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield process, json.loads(process.stdout.readline())
        process.stdin.close()


def _resident(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def latency(path, folded, source, samples, repeats):
    """Prints the median latency of each signature, of the export and of one domain of it, folded."""
    table = Table(title=f"Latency in ms, median of {repeats}", box=None, title_justify="left")
    table.add_column("export, signature")
    for batch in BATCHES:
        table.add_column(f"batch {batch}", justify="right")
    mixable = [pack for pack in source.packs if pack.preprocessing.size == source.size]
    first = source.packs[0]
    for name, version, domains in (
        (f"{len(source.packs)} domains", path, [pack.domain for pack in mixable]),
        (f"{first.domain} alone, folded", folded, [first.domain]),
    ):
        loaded = tf.saved_model.load(str(version))
        for signature, inputs in _inputs(loaded.signatures, source, samples, domains).items():
            cells = [_median(loaded.signatures[signature], repeats, made) for made in inputs]
            table.add_row(f"{name}, {signature}", *(f"{1000 * cell:.1f}" for cell in cells))
            if signature == "serve_images":
                cells = _openvino(loaded.signatures[signature], inputs, repeats)
                table.add_row(f"{name}, {signature}, OpenVINO", *cells)
    Console(width=140).print(table)
    print("", flush=True)


def _inputs(signatures, source, samples, domains):
    """Returns for each signature its inputs at each batch size, of rows that mix the domains."""
    made = {}
    packs = {pack.domain: pack for pack in source.packs}
    for signature in ("serving_default", "tf_example", "features", "serve_images", "serve_images_uint8"):
        made[signature] = []
        for batch in BATCHES:
            rows = [domains[row % len(domains)] for row in range(batch)]
            chosen = [samples[domain][row % len(samples[domain])] for row, domain in enumerate(rows)]
            inputs = {"domain": tf.constant(rows)}
            if signature == "tf_example":
                inputs["examples"] = tf.constant([_example(sample.encoded) for sample in chosen])
            elif signature.startswith("serve_images"):
                dtype = "uint8" if signature.endswith("_uint8") else "float32"
                ids = {domain: source.ids[domain] if len(domains) > 1 else 0 for domain in domains}
                inputs = {
                    "image": tf.constant(np.stack([sample.window for sample in chosen]).astype(dtype)),
                    "domain_id": tf.constant([ids[domain] for domain in rows], tf.int32),
                }
            else:
                inputs["image_bytes"] = tf.constant([sample.encoded for sample in chosen])
            made[signature].append(inputs)
    for signature in pixel_names(packs[domains[0]].domain):
        dtype = "uint8" if signature.endswith("_uint8") else "float32"
        image = samples[domains[0]][0].window.astype(dtype)
        made[signature] = [{"image": tf.constant(np.repeat(image[None], batch, 0))} for batch in BATCHES]
    return {signature: inputs for signature, inputs in made.items() if signature in signatures}


def _example(encoded):
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
    return tf.train.Example(features=tf.train.Features(feature={"image/encoded": feature})).SerializeToString()


def _median(function, repeats, inputs):
    call = functools.partial(function, **inputs)
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _openvino(signature, inputs, repeats):
    try:
        import openvino
    except ModuleNotFoundError:
        return ["not installed"]
    cells = []
    with tempfile.TemporaryDirectory() as folder:
        model, arrays = f"{folder}/model.xml", f"{folder}/inputs.npz"
        openvino.save_model(openvino.convert_model(signature), model, compress_to_fp16=False)
        for made in inputs:
            wanted = signature(**made)["probability"].numpy()
            np.savez(arrays, wanted=wanted, **{name: value.numpy() for name, value in made.items()})
            command = [sys.executable, str(OPENVINO_LATENCY), model, arrays, str(repeats)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                cells.append(f"exit code {done.returncode}")
                continue
            measured = json.loads(done.stdout)
            cells.append(f"{1000 * measured['seconds']:.1f} ({measured['apart']:.0e} apart)")
    return cells


def size(path, source, workdir):
    """Prints the size on disk of the export beside exports of each domain alone."""
    singles = []
    for pack in source.packs:
        alone = from_runs(trunk=flags.FLAGS.trunk, pack_paths=[pack.path])
        singles.append(_bytes(write_export(alone, workdir / "alone" / pack.domain).path))
    print(f"On disk: one export of {len(source.packs)} domains {_bytes(path) / 1e6:.1f} MB")
    print(f"  {len(singles)} exports of one domain each {sum(singles) / 1e6:.1f} MB\n", flush=True)


def _bytes(path):
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def main(_):
    values = flags.FLAGS
    logging.set_verbosity(logging.WARNING)
    tf.get_logger().setLevel("WARNING")
    with tempfile.TemporaryDirectory() as workdir:
        workdir = pathlib.Path(workdir)
        if values.trunk:
            packs = values.packs
        else:
            sys.path.insert(0, str(TESTS))
            from made import make_runs

            values.trunk, packs = str(make_runs(workdir / "runs")), [str(workdir / "runs")]
        source = from_runs(trunk=values.trunk, pack_paths=packs)
        options = Options(data_dir=values.data_dir)
        path = write_export(source, workdir / "all", options).path
        samples, _ = samples_of(source.packs, values.data_dir)
        right = True
        if "size" in values.measure:
            size(path, source, workdir)
        if "latency" in values.measure:
            alone = from_runs(trunk=values.trunk, pack_paths=[source.packs[0].path])
            folded = write_export(alone, workdir / "folded", Options(fold=True, data_dir=values.data_dir)).path
            latency(path, folded, source, samples, values.repeats)
        if "soak" in values.measure:
            right = soak(path, source, samples, values.requests)
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    flags.DEFINE_list("measure", ["soak", "latency", "size"], "What to measure: of soak, latency and size.")
    flags.DEFINE_string("trunk", None, "A run or file with the trunk; by default a small network is made up.")
    flags.DEFINE_list("packs", [], "Runs or files with the domains' packs.")
    flags.DEFINE_string("data_dir", None, "Converted domains, for real images.")
    flags.DEFINE_integer("requests", 20000, "Of the soak.")
    flags.DEFINE_integer("repeats", 50, "Calls per latency, which is their median.")
    app.run(main)

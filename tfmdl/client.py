"""Asks a served model: `python -m tfmdl.client --url=http://HOST:8501/v1/models/NAME --domain=gtsrb IMAGE...`.

Or by gRPC: `python -m tfmdl.client --grpc=HOST:8500 --model=NAME --domain=gtsrb IMAGE...`.
"""

import pathlib

from absl import flags
from rich.table import Table
from rich.text import Text

from tfmdl.cli import start, table_console
from tfmdl.outside import printable
from tfmdl.serving.remote import GrpcClient, RefusedError, RestClient, classify_files, classify_pixels, decode_file


def ask(client, domain: str, paths: list[str], batch_size: int, pixels: bool) -> list[dict]:
    """Returns the answers to image files, one row per file.

    Args:
        client: A `RestClient` or `GrpcClient`.
        domain: Name of the domain.
        paths: The files.
        batch_size: How many to send at a time.
        pixels: Decode the images here, and send pixels to the domain's own signature.

    Raises:
        FileNotFoundError: if there is no such file.
        ConnectionError: if no server answers.
        ValueError: if the server refuses; where it tells the row, the message names the file.
    """
    for path in paths:
        if not pathlib.Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file")
    files = [pathlib.Path(path).read_bytes() for path in paths]
    answers = []
    try:
        if pixels:
            images = [_decoded(path, file) for path, file in zip(paths, files, strict=True)]
            batches = classify_pixels(client, domain, images)
        else:
            batches = classify_files(client, domain, files, batch_size)
        for batch in batches:
            answers += batch
    except RefusedError as error:
        if error.row is None:
            raise
        raise ValueError(f"{paths[error.row]}: {error}") from error
    return answers


def table_of(paths: list[str], answers: list[dict], top: int) -> Table:
    """Returns the answers as a table."""
    table = Table(box=None, pad_edge=False)
    table.add_column("image", overflow="fold")
    for place in range(top):
        table.add_column("label" if place == 0 else "then")
        table.add_column("probability" if place == 0 else "", justify="right")
    for path, answer in zip(paths, answers, strict=True):
        best = zip(answer["label"], answer["probability"], answer["class_id"], strict=True)
        cells = [cell for label, share, own in best if own >= 0 for cell in (label, f"{share:.3f}")]
        # Neither markup of rich's nor what a terminal obeys.
        table.add_row(*(Text(printable(cell)) for cell in (path, *cells[: 2 * top])))
    return table


def _decoded(path, file):
    try:
        return decode_file(file)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def define_flags():
    flags.DEFINE_string("url", None, "Address of the model, for REST: http://HOST:8501/v1/models/NAME.")
    flags.DEFINE_string("grpc", None, "Address of the server instead, for gRPC: HOST:8500.")
    flags.DEFINE_string("model", "tfmdl", "With --grpc: name of the model.")
    flags.DEFINE_string("domain", None, "Domain of the images.", required=True)
    flags.DEFINE_integer("batch_size", 32, "Images per request.", lower_bound=1)
    flags.DEFINE_bool("pixels", False, "Decode here and send pixels, for domains that are seen at a size of their own.")
    flags.DEFINE_integer("top", 3, "Classes to print.", lower_bound=1, upper_bound=5)
    flags.DEFINE_float("timeout", 60.0, "Seconds to wait for each answer.", lower_bound=0.001)


def main(argv):
    values, paths = flags.FLAGS, argv[1:]
    if not paths:
        raise ValueError("name at least one image file")
    if bool(values.url) == bool(values.grpc):
        raise ValueError("give either --url or --grpc")
    client = (
        RestClient(values.url, values.timeout)
        if values.url
        else GrpcClient(values.grpc, values.model, values.timeout)
    )
    answers = ask(client, values.domain, paths, values.batch_size, values.pixels)
    table_console().print(table_of(paths, answers, values.top))


def run():
    start(__doc__, define_flags, main, takes_arguments=True)


if __name__ == "__main__":
    run()

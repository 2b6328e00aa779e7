"""Turns images into the records that training reads. See `--help` for the flags.

Usage: python data_prep/convert.py --source=decathlon --input_dir=decathlon-1.0 --output_dir=records
"""

import pathlib
import sys

# This folder is no installed package: it is found from here, wherever the command was started.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import app, flags

from data_prep import command
from data_prep.conversion import SOURCES, ConvertConfig, convert
from data_prep.ordered import available_cores
from data_prep.plan import SPLITS

_SOURCE = flags.DEFINE_enum(
    "source",
    None,
    list(SOURCES),
    "Layout of the input: the Visual Decathlon's, class folders, or a TFDS data_dir.",
)
_INPUT_DIR = flags.DEFINE_string("input_dir", None, "Folder that holds the images.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write <domain>/ folders into.")
_DOMAINS = flags.DEFINE_list("domains", [], "Domains to convert; all that are there if not given.")
_SPLITS = flags.DEFINE_list("splits", list(SPLITS), "Splits to convert.")
_WORKERS = flags.DEFINE_integer("workers", None, "Threads; one a core if not given.", lower_bound=1)
_SHARD_MB = flags.DEFINE_integer("shard_mb", 64, "Size of a shard in MiB, about.", lower_bound=1)
_RESIZE_SHORTER = flags.DEFINE_integer(
    "resize_shorter",
    None,
    "Resize to this shorter side, and encode again, images of another; the default keeps all as they are, but those "
    "that EXIF data says to turn, which are stored upright.",
    lower_bound=1,
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the shuffle and of held-out splits.", lower_bound=0)
_ON_ERROR = flags.DEFINE_enum("on_error", "fail", ["fail", "skip"], "What to do about a bad image.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace domains that are already there.")


def work() -> bool:
    convert(
        ConvertConfig(
            source=_SOURCE.value,
            input_dir=pathlib.Path(_INPUT_DIR.value),
            output_dir=pathlib.Path(_OUTPUT_DIR.value),
            domains=tuple(_DOMAINS.value),
            splits=tuple(_SPLITS.value),
            workers=_WORKERS.value or available_cores(),
            shard_mb=_SHARD_MB.value,
            resize_shorter=_RESIZE_SHORTER.value,
            seed=_SEED.value,
            on_error=_ON_ERROR.value,
            overwrite=_OVERWRITE.value,
        )
    )
    return True


def main(_) -> int:
    return command.run("convert.py", work)


if __name__ == "__main__":
    flags.mark_flags_as_required(["source", "input_dir", "output_dir"])
    app.run(main)

"""Turns images into the records that training reads. See `--help` for the flags.

Usage: python data_prep/convert.py --source=decathlon --input_dir=decathlon-1.0 --output_dir=records
"""

import pathlib
import sys

if not __package__:  # started as a file, wherever from: the project is found from here
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from data_prep.config import LONGEST_SHORTER, ConvertConfig
from data_prep.conversion import SOURCES, convert
from data_prep.ordered import available_cores
from data_prep.plan import SPLITS
from data_prep.quiet import silence_native_stderr
from tfmdl.cli import start

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_enum(
        "source",
        None,
        list(SOURCES),
        "Layout of the input: the Visual Decathlon's, class folders, or a TFDS data_dir.",
        required=True,
    )
    flags.DEFINE_string("input_dir", None, "Folder that holds the images.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder to write <domain>/ folders into.", required=True)
    flags.DEFINE_list("domains", [], "Domains to convert; all that are there if not given.")
    flags.DEFINE_list("splits", list(SPLITS), "Splits to convert.")
    flags.DEFINE_integer("workers", None, "Threads; one per core if not given.", lower_bound=1)
    flags.DEFINE_integer("shard_mb", 64, "Size of a shard in MiB, about.", lower_bound=1)
    flags.DEFINE_integer(
        "resize_shorter",
        None,
        "Resize images to this shorter side, the smaller ones too, and encode them again as JPEG; 0 keeps all as they "
        "are. By default --source=folder shrinks images whose shorter side is above "
        f"{LONGEST_SHORTER['folder']} pixels to that, and the other sources keep all. Images that EXIF data says to "
        "turn are always stored upright.",
        lower_bound=0,
    )
    flags.DEFINE_integer("seed", 0, "Seed of the shuffle and of held-out splits.", lower_bound=0)
    flags.DEFINE_enum("on_error", "fail", ["fail", "skip"], "What to do about a bad image.")
    flags.DEFINE_bool("overwrite", False, "Replace domains that are already there.")


def main(argv):
    silence_native_stderr()
    convert(
        ConvertConfig(
            source=FLAGS.source,
            input_dir=pathlib.Path(FLAGS.input_dir),
            output_dir=pathlib.Path(FLAGS.output_dir),
            domains=tuple(FLAGS.domains),
            splits=tuple(FLAGS.splits),
            workers=FLAGS.workers or available_cores(),
            shard_mb=FLAGS.shard_mb,
            resize_shorter=FLAGS.resize_shorter,
            seed=FLAGS.seed,
            on_error=FLAGS.on_error,
            overwrite=FLAGS.overwrite,
        )
    )


def run():
    start(__doc__, define_flags, main)


if __name__ == "__main__":
    run()

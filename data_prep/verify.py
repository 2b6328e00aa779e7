"""Reads every record of converted domains and says whether all is as their dataset_info.json has it.

Usage: python data_prep/verify.py --data_dir=records
"""

import pathlib
import sys

if not __package__:  # started as a file, wherever from: the project is found from here
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from data_prep.ordered import available_cores
from data_prep.quiet import silence_native_stderr
from tfmdl.cli import start

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("data_dir", None, "Folder that holds the <domain>/ folders.", required=True)
    flags.DEFINE_list("domains", [], "Domains to verify; all that are there if not given.")


def main(argv):
    silence_native_stderr()
    # Imported now: it brings in TensorFlow, which is not silent.
    from data_prep.verification import verify

    return 0 if verify(pathlib.Path(FLAGS.data_dir), FLAGS.domains, available_cores()) else 1


def run():
    start(__doc__, define_flags, main)


if __name__ == "__main__":
    run()

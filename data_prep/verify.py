"""Reads every record of converted domains and says whether all is as their dataset_info.json has it.

Usage: python data_prep/verify.py --data_dir=records
"""

import pathlib
import sys

# This folder is no installed package: it is found from here, wherever the command was started.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import app, flags

from data_prep import command
from data_prep.ordered import available_cores

_DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder that holds the <domain>/ folders.")
_DOMAINS = flags.DEFINE_list("domains", [], "Domains to verify; all that are there if not given.")


def work() -> bool:
    # Imported now: it brings in TensorFlow, which is not silent.
    from data_prep.verification import verify

    return verify(pathlib.Path(_DATA_DIR.value), _DOMAINS.value, available_cores())


def main(_) -> int:
    return command.run("verify.py", work)


if __name__ == "__main__":
    flags.mark_flags_as_required(["data_dir"])
    app.run(main)

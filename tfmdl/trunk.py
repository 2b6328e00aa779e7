"""Makes a trunk of a pretrained network: `python -m tfmdl.trunk --source=efficientnet_lite0 --workdir=DIR`."""

import tfmdl.quiet  # isort: skip  # noqa: F401

from absl import flags

from tfmdl import pretrained
from tfmdl.cli import start
from tfmdl.imported import DEFAULT_SOURCE, write_imported

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("source", DEFAULT_SOURCE, f"What to import: {', '.join(pretrained.SOURCES)}.")
    flags.DEFINE_string("workdir", None, "Folder of the trunk, for --init_from of train.py.", required=True)


def main(argv):
    network = pretrained.load(FLAGS.source)
    write_imported(network, FLAGS.source, FLAGS.workdir)
    wrote = f"wrote {FLAGS.workdir}: {network.network.name}, {network.network.count_params():,} parameters"
    print(f"{wrote}, for images of {network.image_size} pixels")
    print(f"next:  python train.py --domain=NAME --data_dir=DIR --workdir=DIR --init_from={FLAGS.workdir}")


def run():
    start(__doc__, define_flags, main)


if __name__ == "__main__":
    run()

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
    of_pixels = "per channel, pixels in 0..1, by which a .keras file wants its images normalised."
    flags.DEFINE_list("mean", None, f"Mean {of_pixels} By default it wants 0..255.")
    flags.DEFINE_list("std", None, f"Standard deviation {of_pixels}")
    flags.DEFINE_integer("image_size", None, "Side of the images of a .keras file, in pixels.", lower_bound=8)


def main(argv):
    how = {name: _numbers(name, FLAGS[name].value) for name in ("mean", "std") if FLAGS[name].value}
    if FLAGS.image_size:
        how["image_size"] = FLAGS.image_size
    network = pretrained.load(FLAGS.source, **how)
    write_imported(network, FLAGS.source, FLAGS.workdir)
    wrote = f"wrote {FLAGS.workdir}: {network.network.name}, {network.network.count_params():,} parameters"
    print(f"{wrote}, for images of {network.image_size} pixels")
    print(f"next:  python train.py --domain=NAME --data_dir=DIR --workdir=DIR --init_from={FLAGS.workdir}")


def _numbers(flag, texts):
    try:
        red, green, blue = map(float, texts)
    except ValueError as error:
        raise ValueError(f"--{flag} must be three numbers, as in 0.5,0.5,0.5; received {','.join(texts)!r}") from error
    return red, green, blue


def run():
    start(__doc__, define_flags, main)


if __name__ == "__main__":
    run()

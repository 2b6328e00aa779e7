"""Labels the pixels of converted images, for `python -m tfmdl.dissect`, in the layout of Broden.

Usage: python data_prep/make_concepts.py --data_dir=records --output_dir=concepts

Textures and objects are the classes of the records, for the whole image (dtd, flowers5, caltech101, and any domain that
--domains names); colours are eleven names, by pixel; characters (omniglot, chars74k) are objects, and their ink a part,
by pixel, cut out of the image by brightness. Images are of a split that no network was trained on.
"""

import pathlib
import sys

if not __package__:  # started as a file, wherever from: the project is found from here
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from data_prep.plan import SPLITS
from data_prep.quiet import silence_native_stderr
from tfmdl.cli import start, typed

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("data_dir", None, "Folder that data_prep/convert.py wrote.", required=True)
    flags.DEFINE_string("output_dir", None, "Folder to write tables, images and masks into.", required=True)
    flags.DEFINE_list("domains", [], "Domains to take; of the small decathlon's, if not given, those with concepts.")
    flags.DEFINE_enum("split", "val", list(SPLITS), "Of whose images; it needs labels.")
    flags.DEFINE_integer("most", 800, "Images of a domain, at most.", lower_bound=1)


def main(argv):
    silence_native_stderr()
    # Imported now: it brings in TensorFlow, which is not silent.
    from data_prep.concepts import make_concepts

    output_dir = pathlib.Path(FLAGS.output_dir)
    make_concepts(pathlib.Path(FLAGS.data_dir), output_dir, FLAGS.domains, FLAGS.split, FLAGS.most)
    print(f"\nNext: {typed('tfmdl.dissect')} --workdir=RUN --concepts={output_dir} --output=DIR")


def run():
    start(__doc__, define_flags, main)


if __name__ == "__main__":
    run()

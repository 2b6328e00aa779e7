"""Draws a small decathlon in the layout of the Visual Decathlon: five domains of 36-pixel images, in seconds.

Usage: python data_prep/make_demo.py --output_dir=demo

digits are scikit-learn's handwritten digits, letters come from the fonts that matplotlib ships; shapes,
textures and objects, the base domain, are drawn. `<output_dir>/labels/` has the labels of the test images,
for eval.py's --labels_dir: they are not where the converter looks.
"""

import pathlib
import sys

if not __package__:  # started as a file, wherever from: the project is found from here
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from data_prep.demo.layout import make_demo
from tfmdl.cli import start, typed

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("output_dir", None, "Folder to write annotations/, data/ and labels/ into.", required=True)
    flags.DEFINE_integer("seed", 0, "Seed of every drawing.", lower_bound=0)


def main(argv):
    output_dir = pathlib.Path(FLAGS.output_dir)
    make_demo(output_dir, FLAGS.seed)
    print(f"\nNext: {typed('data_prep.convert')} --source=decathlon --input_dir={output_dir} --output_dir=DIR")


def run():
    start(__doc__, define_flags, main)


if __name__ == "__main__":
    run()

"""Draws a small decathlon in the layout of the Visual Decathlon: five domains of 36-pixel images, in seconds.

Usage: python data_prep/make_demo.py --output_dir=demo

digits are scikit-learn's handwritten digits, letters come from the fonts that matplotlib ships; shapes,
textures and objects, the base domain, are drawn. `<output_dir>/labels/` has the labels of the test images,
for eval.py's --labels_dir: they are not where the converter looks.
"""

import pathlib
import sys

# This folder is no installed package: it is found from here, wherever the command was started.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import app, flags

from data_prep import command
from data_prep.demo.layout import make_demo

_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder to write annotations/, data/ and labels/ into.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of every drawing.", lower_bound=0)


def work() -> bool:
    output_dir = pathlib.Path(_OUTPUT_DIR.value)
    make_demo(output_dir, _SEED.value)
    print(f"\nNext: python data_prep/convert.py --source=decathlon --input_dir={output_dir} --output_dir=DIR")
    return True


def main(_) -> int:
    return command.run("make_demo.py", work)


if __name__ == "__main__":
    flags.mark_flags_as_required(["output_dir"])
    app.run(main)

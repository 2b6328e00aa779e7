"""Gives the project what it must not break on: python -m faults inputs --seed=0 --cases=10000 --workdir=DIR."""

import pathlib

from absl import flags

from tfmdl import cli

FLAGS = flags.FLAGS


def define_flags():
    from faults.kinds import KINDS

    flags.DEFINE_string("workdir", None, "Folder for the report, and for the files of cases that are defects.")
    flags.DEFINE_integer("seed", 0, "Of all cases.")
    flags.DEFINE_integer("cases", 10_000, "How many, over all kinds.", lower_bound=1)
    flags.DEFINE_list("kind", [], f"Kinds of input, all by default: {', '.join(KINDS)}.")
    flags.DEFINE_integer("case", None, "The one case to run again, of the one --kind; its files are kept.")


def main(argv):
    from faults.inputs import run
    from faults.kinds import KINDS

    if argv[1:] != ["inputs"]:
        raise ValueError(f"expected one campaign: inputs; received {' '.join(argv[1:]) or 'none'}")
    if not FLAGS.workdir:
        raise ValueError("--workdir: name a folder")
    kinds = FLAGS.kind or list(KINDS)
    for kind in kinds:
        if kind not in KINDS:
            raise ValueError(f"--kind must be of {', '.join(KINDS)}; received {kind!r}")
    if FLAGS.case is not None and len(kinds) != 1:
        raise ValueError("--case is of one --kind")
    workdir = pathlib.Path(FLAGS.workdir).absolute()
    tally = run(workdir, FLAGS.seed, FLAGS.cases, kinds, FLAGS.case)
    print(f"\n{tally.table()}\n\nreport in {workdir}; again: {tally.again}")
    return 1 if tally.defects else 0


if __name__ == "__main__":
    cli.start(__doc__, define_flags, main, takes_arguments=True)

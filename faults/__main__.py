"""Gives the project what it must not break on: python -m faults PART --seed=0 --workdir=DIR."""

import pathlib

from absl import flags

from tfmdl import cli

FLAGS = flags.FLAGS
CASES = {"inputs": 10_000, "kills": 100, "disks": 100_000, "pairs": 100, "numbers": 1000, "load": 1_000_000}


def define_flags():
    flags.DEFINE_string("workdir", None, "Folder for the report, and for the files of cases that are defects.")
    flags.DEFINE_integer("seed", 0, "Of all cases.")
    how_many = f"How many, over all kinds, but of load of each; by default {CASES}."
    flags.DEFINE_integer("cases", None, how_many, lower_bound=1)
    flags.DEFINE_list("kind", [], "Kinds of input, command or server, all by default; a wrong one lists them.")
    flags.DEFINE_integer("case", None, "The one case to run again, of the one --kind; its files are kept.")
    flags.DEFINE_integer("first", 0, "Of kills, disks, pairs and numbers: the first case of each kind.", lower_bound=0)
    flags.DEFINE_float("minutes", 0.0, "Of all but inputs: begin no case after so many; 0: begin all.")


def main(argv):
    part = " ".join(argv[1:])
    if part not in CASES:
        raise ValueError(f"expected one campaign of {', '.join(CASES)}; received {part or 'none'}")
    if not FLAGS.workdir:
        raise ValueError("--workdir: name a folder")
    if part == "inputs":
        from faults.kinds import KINDS as known
    elif part == "load":
        from faults.load import KINDS as known  # which imports TensorFlow
    else:
        from faults import parts  # as this does

        known = parts.kinds_of(part)
    kinds = FLAGS.kind or list(known)
    for kind in kinds:
        if kind not in known:
            raise ValueError(f"--kind must be of {', '.join(known)}; received {kind!r}")
    if FLAGS.case is not None and len(kinds) != 1:
        raise ValueError("--case is of one --kind")
    if FLAGS.case is not None and part == "load":
        raise ValueError("--case: load has no cases that can be run alone")
    if FLAGS.first and (part in ("inputs", "load") or FLAGS.case is not None):
        raise ValueError("--first is of kills, disks, pairs and numbers, without --case")
    workdir, cases = pathlib.Path(FLAGS.workdir).absolute(), FLAGS.cases or CASES[part]
    if part == "inputs":
        from faults import inputs

        report = inputs.run(workdir, FLAGS.seed, cases, kinds, FLAGS.case)
    elif part == "load":
        from faults import load

        report = load.run(workdir, FLAGS.seed, cases, kinds, FLAGS.minutes)
    else:
        report = parts.run(part, workdir, FLAGS.seed, cases, kinds, FLAGS.case, FLAGS.minutes, FLAGS.first)
    print(f"\n{report.table()}\n\nreport in {workdir}; again: {report.again}")
    return 1 if report.defects else 0


if __name__ == "__main__":
    cli.start(__doc__, define_flags, main, takes_arguments=True)

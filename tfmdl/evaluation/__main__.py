"""Evaluates runs: `python eval.py --workdir=RUN --data_dir=DIR --split=val`."""

import tfmdl.quiet  # isort: skip  # noqa: F401

from absl import flags

from tfmdl.cli import start, table_console
from tfmdl.evaluation.evaluate import EvaluationConfig, evaluate
from tfmdl.evaluation.save import save
from tfmdl.evaluation.show import show
from tfmdl.evaluation.submission import write_submission

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_list("workdir", [], "Runs of train.py; each domain is evaluated by its own tower.")
    flags.DEFINE_string("trunk", None, "Instead of --workdir: run (or file) of the trunk of one composed model.")
    flags.DEFINE_list("packs", [], "With --trunk: runs or pack files; batches mix their domains.")
    flags.DEFINE_list("expert_packs", [], "Runs or packs that soft_sharing mixes, if they have moved.")
    flags.DEFINE_string("data_dir", None, "Folder that data_prep/convert.py wrote.", required=True)
    flags.DEFINE_enum("split", "val", ["val", "test"], "Which images to evaluate.")
    flags.DEFINE_string("labels_dir", None, "Folder of <domain>_test.json, for a test split without labels.")
    flags.DEFINE_string("output", None, "Write the evaluation here, as JSON.")
    flags.DEFINE_string("submission", None, "Write the Decathlon server's results here (.json, or .zip).")


def main(argv):
    config = EvaluationConfig(
        data_dir=FLAGS.data_dir,
        split=FLAGS.split,
        workdirs=tuple(FLAGS.workdir),
        trunk=FLAGS.trunk,
        pack_paths=tuple(FLAGS.packs),
        expert_paths=tuple(FLAGS.expert_packs),
        labels_dir=FLAGS.labels_dir,
    )
    result = evaluate(config, labels_required=bool(FLAGS.output or not FLAGS.submission))
    console = table_console()
    if FLAGS.submission:
        write_submission(FLAGS.submission, result.predictions)
        told = f"{len(result.predictions):,} predictions of {len(result.infos)} domains"
        console.print(f"wrote {FLAGS.submission}: {told}", soft_wrap=True)
    if result.evaluations:
        show(result, console)
    if FLAGS.output:
        save(result, FLAGS.output)
        console.print(f"wrote {FLAGS.output}", soft_wrap=True)


def run():
    start(__doc__, define_flags, main)


if __name__ == "__main__":
    run()

"""Evaluates runs: `python eval.py --workdir=RUN --data_dir=DIR --split=val`."""

import tfmdl.quiet  # isort: skip  # noqa: F401

from absl import flags

from tfmdl.cli import start, table_console
from tfmdl.evaluation.evaluate import EvaluationConfig, evaluate, load
from tfmdl.evaluation.picture import MOST
from tfmdl.evaluation.save import picture_folders, save, save_mistakes
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
    flags.DEFINE_integer(
        "mistakes",
        24,
        "Draw so many images of each domain that were answered most wrongly: mistakes-<domain>.png beside --output, or "
        "in the run's folder. 0 draws none.",
        lower_bound=0,
        upper_bound=MOST,
    )
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
        wrong=FLAGS.mistakes if FLAGS.workdir or FLAGS.output else 0,
    )
    loaded = load(config)
    result = evaluate(config, labels_required=bool(FLAGS.output or not FLAGS.submission), loaded=loaded)
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
    if result.evaluations:
        for domain, folder in picture_folders(result, loaded, FLAGS.output).items():
            told = save_mistakes(result, domain, folder)
            if told:
                console.print(f"wrote {told}", soft_wrap=True)
            elif FLAGS.mistakes:
                console.print(f"{domain}: no image was answered wrong", soft_wrap=True)


def run():
    start(__doc__, define_flags, main)


if __name__ == "__main__":
    run()

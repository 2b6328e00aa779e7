"""The paper's table by one command: plans its runs, runs what is missing, and reports.

    python -m tfmdl.campaign --data_dir=DIR --workdir=DIR [--base=imagenet12] [--domains=...] [--methods=...] \\
        [any flag of train.py]

The same command goes on where it was stopped. Flags that are not listed below go to train.py as they are, but for those
that the campaign sets for each run. The report, WORKDIR/report.md and report.html, is written at the end, and by
--report_only from what is there.
"""

import tfmdl.quiet  # isort: skip  # noqa: F401

import sys

from absl import flags

from tfmdl import option_flags
from tfmdl.backbones import BACKBONES
from tfmdl.campaign import runner
from tfmdl.campaign.clusters import executor_of
from tfmdl.campaign.costs import Costs, duration
from tfmdl.campaign.executors import Lost
from tfmdl.campaign.plan import CampaignConfig, claim, is_claimed, plan, rows_of
from tfmdl.campaign.report import summary, write_report
from tfmdl.campaign.results import collect
from tfmdl.campaign.samples import pick_samples
from tfmdl.cli import number_table, start, table_console
from tfmdl.data.records import converted_domains
from tfmdl.files import locked
from tfmdl.outside import printable
from tfmdl.recipes import PRESET_NAMES
from tfmdl.sharing import METHODS

FLAGS = flags.FLAGS
POSITIVE = {"lower_bound": 1}


def define_flags():
    flags.DEFINE_string("data_dir", None, "Folder that data_prep/convert.py wrote.", required=True)
    flags.DEFINE_string("workdir", None, "Folder of the campaign.", required=True)
    flags.DEFINE_string("base", "imagenet12", "Base domain: the one that the trunks are trained on.")
    flags.DEFINE_string("init_from", None, "Instead: a trunk that all methods start from, a folder or imagenet.")
    flags.DEFINE_list("domains", [], "Domains to add; all in --data_dir but the base domain if not given.")
    flags.DEFINE_list("methods", list(METHODS), "Methods: the rows of the table.")
    option_flags.define_lists()
    flags.DEFINE_list("seeds", ["0"], "Seeds; all runs are made once for each.")
    flags.DEFINE_enum("recipe", None, list(PRESET_NAMES), "As in train.py; finetune with --init_from, else paper.")
    flags.DEFINE_integer(
        "epochs",
        None,
        "Epochs of the added domains, instead of the recipe's; not where only a head is trained, on kept features.",
        **POSITIVE,
    )
    flags.DEFINE_integer("base_epochs", None, "Epochs of the trunks, instead of the recipe's.", **POSITIVE)
    flags.DEFINE_enum("backbone", None, list(BACKBONES), "Network of all methods; by default that of each one's paper.")
    flags.DEFINE_list("train_splits", ["train"], "Splits to train on.")
    flags.DEFINE_string(
        "cluster",
        "local",
        "Where the runs are at work: local; dask:ADDRESS, the workers of the scheduler there, where ADDRESS may be the "
        "file that it wrote, as in dask:/shared/scheduler.json; or slurm, in as many Slurm jobs as --jobs says.",
    )
    flags.DEFINE_integer("jobs", None, "Runs at a time; by default 1, or those that workers can do.", **POSITIVE)
    flags.DEFINE_bool("dry_run", False, "Show the plan only.")
    flags.DEFINE_bool("report_only", False, "Write the report of what is there, and run nothing.")
    flags.DEFINE_enum("split", "val", ["val", "test"], "Split that the report measures on.")
    flags.DEFINE_string("labels_dir", None, "Folder of <domain>_test.json, for a test split without labels.")
    flags.DEFINE_string("baselines", None, "File of accuracies in percent that S counts against; else individual's.")


def config_of_flags(train_flags: list[str]) -> CampaignConfig:
    """Returns the campaign that the flags ask for.

    Raises:
        ValueError: if a seed is not a number, or labels are given that are not asked for.
    """
    if FLAGS.labels_dir and FLAGS.split != "test":
        raise ValueError(f"--labels_dir is for --split=test; received --split={FLAGS.split}")
    for seed in FLAGS.seeds:
        if not seed.isdecimal():
            raise ValueError(f"--seeds must be whole numbers, as in 0,1,2; received {seed!r}")
    base = None if FLAGS.init_from else FLAGS.base
    return CampaignConfig(
        data_dir=FLAGS.data_dir,
        workdir=FLAGS.workdir,
        base=base,
        domains=tuple(FLAGS.domains or [name for name in converted_domains(FLAGS.data_dir) if name != base]),
        methods=tuple(FLAGS.methods),
        options=option_flags.value_lists(),
        seeds=tuple(map(int, FLAGS.seeds)),
        recipe=FLAGS.recipe or ("finetune" if FLAGS.init_from else "paper"),
        epochs=FLAGS.epochs,
        base_epochs=FLAGS.base_epochs,
        backbone=FLAGS.backbone,
        init_from=FLAGS.init_from,
        train_splits=tuple(FLAGS.train_splits),
        train_flags=tuple(train_flags),
    )


def show_plan(runs, jobs):
    """Prints what there is to run and, once a run is finished, how long it may take."""
    table = number_table("", "runs", "finished", "images to train on", f"about, {jobs} at a time")
    costs = Costs(runs)
    names = list(dict.fromkeys(run.row for run in runs))
    for name, members in [*((name, [run for run in runs if run.row == name]) for name in names), ("all", runs)]:
        missing = [run for run in members if not run.finished]
        seconds = costs.seconds(missing)
        images = sum(run.images for run in missing)
        about = "" if seconds is None else duration(seconds / jobs)
        table.add_row(name, str(len(members)), str(len(members) - len(missing)), f"{images:,}", about)
    console = table_console()
    console.print(table)
    if costs.seconds([]) is None:
        console.print("How long that takes is known when the first run is finished.")


def main(argv):
    config = config_of_flags(argv[1:])
    runs = plan(config)
    show_plan(runs, FLAGS.jobs or 1)
    if FLAGS.dry_run:
        for planned in runs:
            print(planned.command())
        return 0
    failed = [] if FLAGS.report_only else run_all(config, runs)
    results = collect(config, rows_of(config), runs, FLAGS.split, FLAGS.labels_dir, FLAGS.baselines)
    table_console().print(summary(config, results))
    for planned, reason in results.damaged.items():
        print(f"{planned.name}: failed: {printable(reason)}")
    print("picking images to show", flush=True)
    samples = pick_samples(config, results, FLAGS.labels_dir)
    print("wrote " + " and ".join(map(str, write_report(config, results, samples))))
    num_failed = len({*failed, *results.damaged})
    if num_failed:
        print(f"error: {num_failed} of {len(runs)} runs failed, see above", file=sys.stderr)
        return 1
    return 0


def run_all(config, runs):
    """Runs what is missing; returns what failed."""
    with executor_of(FLAGS.cluster, FLAGS.jobs) as executor, locked(config.workdir, "campaign"):
        if not is_claimed(config):
            runner.check_flags(runs[0])  # before the folder is bound to flags that cannot work
        claim(config)
        try:
            return runner.execute(runs, executor)
        except Lost as lost:
            raise Lost(f"{lost}: {_left(runs)}") from lost
        except runner.Stopped as stopped:
            print(f"{stopped}: {_left(runs)}", file=sys.stderr)
            sys.exit(143)


def _left(runs):
    return f"{sum(not run.finished for run in runs)} of {len(runs)} runs are left; the same command goes on"


def run():
    start(__doc__, define_flags, main, passes_flags_on=True)


if __name__ == "__main__":
    run()

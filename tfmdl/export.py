"""Writes a SavedModel for TensorFlow Serving: `python -m tfmdl.export --workdir=RUN --export_dir=BASE`.

BASE/<version>/ answers for all domains of the model; `tfmdl.serving.signatures` lists the signatures. An export is
written aside, loaded back, compared with the live model, and only then renamed into place. The next version can be made
of the last: `python -m tfmdl.export --from_export=BASE --add_pack=RUN --remove_domain=NAME`.
"""

import tfmdl.quiet  # isort: skip  # noqa: F401

import shlex

from absl import flags, logging

from tfmdl.cli import start
from tfmdl.serving.litert import LiteRtFile, write_litert
from tfmdl.serving.signatures import SERVING_DEFAULT
from tfmdl.serving.source import data_dir_of, from_export, from_runs
from tfmdl.serving.versions import newest
from tfmdl.serving.writer import KEEP, MANY, PRECISIONS, Export, Options, write_export


def summary(done: Export) -> str:
    """Returns what was made, and what to type next."""
    size = sum(file.stat().st_size for file in done.path.rglob("*") if file.is_file())
    rows = [("signature", "inputs", "outputs")]
    for name, parts in done.signatures.items():
        rows.append((name, *(", ".join(map(_described, part, part.values())) for part in parts)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    mount = shlex.quote(f"{done.path.parent}:/models/tfmdl")
    drawn = f", those of {', '.join(done.drawn)} drawn (--data_dir has real ones)" if done.drawn else ""
    notes = [
        f"Its probabilities differ from the live model's by at most {done.difference:.1e}, on {done.images} images"
        f"{drawn}."
    ]
    if done.unchanged:
        how = "Bit-identical to the version before"
        if done.change:
            how = f"As in the version before, up to {done.change:.1e}"
        notes.append(f"{how}: {', '.join(done.unchanged)}.")
    if done.deleted:
        notes.append(f"Deleted: {', '.join(map(str, done.deleted))} (--keep).")
    notes = "\n".join(notes)
    return f"""{table}

Wrote {done.path} ({size / 1e6:.1f} MB).
{notes}

Serve it:
  docker run --rm -p 8500:8500 -p 8501:8501 -v {mount} -e MODEL_NAME=tfmdl tensorflow/serving
Ask it:
  python -m tfmdl.client --url=http://localhost:8501/v1/models/tfmdl --domain=DOMAIN IMAGE...
Try it in Python:
  import tensorflow as tf
  classify = tf.saved_model.load({str(done.path)!r}).signatures[{SERVING_DEFAULT!r}]
  print(classify(image_bytes=tf.constant([open("IMAGE", "rb").read()]), domain=tf.constant(["DOMAIN"])))"""


def litert_summary(done: list[LiteRtFile]) -> str:
    """Returns which LiteRT files were made, and how close they are to the live model."""
    lines = [
        f"Wrote {file.path} ({file.num_bytes / 1e6:.2f} MB): probabilities differ from the live model's by at most "
        f"{file.difference:.1e}."
        for file in done
    ]
    labels = done[0].path.with_suffix(".json")
    return "\n".join([*lines, f"Labels and preprocessing: {labels}"])


def _described(name, spec):
    sides = ["?" if side is None else str(side) for side in spec.shape]
    return f"{name} {spec.dtype.name} ({', '.join(sides)}{',' if len(sides) == 1 else ''})"


def define_flags():
    flags.DEFINE_list("workdir", [], "Runs of train.py, by commas; they must share one trunk.")
    flags.DEFINE_string("trunk", None, "Instead of --workdir: a run or file with the trunk.")
    flags.DEFINE_list("packs", [], "With --trunk: runs or files with the domains' packs.")
    flags.DEFINE_list("expert_packs", [], "Runs or packs that soft_sharing mixes, if they have moved.")
    flags.DEFINE_string("from_export", None, "Instead of runs: an export, or the folder of its versions (the newest).")
    flags.DEFINE_list("add_pack", [], "With --from_export: runs or files with packs of domains to add or replace.")
    flags.DEFINE_list("remove_domain", [], "With --from_export: domains to leave out.")
    flags.DEFINE_string("export_dir", None, "Folder of all versions; by default that of --from_export.")
    flags.DEFINE_integer("version", None, "Version to write; by default the newest plus one.", lower_bound=1)
    flags.DEFINE_integer("keep", KEEP, "Versions to keep: older ones are deleted.", lower_bound=1)
    flags.DEFINE_enum(
        "format", "saved_model", ["saved_model", "litert"], "litert: one domain as .tflite files, float32 and int8."
    )
    flags.DEFINE_bool(
        "domain_signatures",
        None,
        f"Signatures of each domain's own, classify_<domain>; by default for up to {MANY} domains.",
    )
    flags.DEFINE_bool("fold", False, "Fold the normalisation into kernels (one domain), or to a scale and an offset.")
    flags.DEFINE_enum("precision", "float32", PRECISIONS, "Of the convolutions.")
    flags.DEFINE_float("tolerance", None, "Largest difference of probabilities from the live model's.", lower_bound=0)
    flags.DEFINE_string("data_dir", None, "Converted domains, for images to check with; by default the runs' own.")
    flags.DEFINE_string("license", None, "A line for the model card.")


def export(values):
    """Exports what the flags ask for, and returns what to print of it."""
    if values.from_export:
        if values.workdir or values.trunk or values.packs:
            raise ValueError("give either --from_export, or --workdir, or --trunk and --packs")
        source = from_export(values.from_export, values.add_pack, values.remove_domain)
        export_dir = values.export_dir or newest(values.from_export).parent
        runs = values.add_pack
    else:
        for flag in ("add_pack", "remove_domain"):
            if getattr(values, flag):
                raise ValueError(f"--{flag} wants --from_export")
        if not values.export_dir:
            raise ValueError("--export_dir must name a folder for the versions of the served model")
        source = from_runs(values.workdir, values.trunk, values.packs, values.expert_packs)
        export_dir = values.export_dir
        runs = [*values.workdir, *values.packs]
    options = Options(
        version=values.version,
        domain_signatures=values.domain_signatures,
        fold=values.fold,
        precision=values.precision,
        tolerance=values.tolerance,
        data_dir=values.data_dir or data_dir_of(runs),
        license_line=values.license,
        keep=values.keep,
    )
    print(f"Exporting {', '.join(source.model.domains)}: this takes some seconds per domain ...\n", flush=True)
    if values.format == "litert":
        return litert_summary(write_litert(source, export_dir, options))
    return summary(write_export(source, export_dir, options))


def main(argv):
    # Saving tells of every variable that it renames.
    logging.set_verbosity(logging.WARNING)
    print(export(flags.FLAGS))


def run():
    start(__doc__, define_flags, main)


if __name__ == "__main__":
    run()

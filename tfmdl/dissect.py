"""What the units of a network respond to, and how far the kernels of its domains have moved.

    python data_prep/make_concepts.py --data_dir=records --output_dir=concepts
    python -m tfmdl.dissect --workdir=runs/objects --concepts=concepts --output=dissection
    python -m tfmdl.dissect --workdir=imagenet --image_size=96 --concepts=concepts --output=dissection
    python -m tfmdl.dissect --workdir=runs/birds,runs/signs --output=kernels

Network Dissection (Bau et al., CVPR 2017) of the depthwise and pointwise outputs of one domain, layer by layer, beside
the same network with random weights. Concepts are a folder in the layout of Broden. Writes dissection.json and
dissection.html. Beside it, for all runs that --workdir names: the distances of the domains' depthwise kernels from the
trunk's and from each other's, and, with --concepts, how alike the outputs of their networks are. Without --concepts:
distances only.
"""

import tfmdl.quiet  # isort: skip  # noqa: F401

import pathlib

from absl import flags
from rich.table import Table

from tfmdl import imported
from tfmdl.cli import number_table, start, table_console
from tfmdl.dissection.measure import RESULT_FILE, DissectConfig, compare, dissect
from tfmdl.dissection.page import PAGE_FILE, page
from tfmdl.files import write_json, write_text
from tfmdl.packs import compose, read_parts

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_list(
        "workdir",
        None,
        f"A finished run, or several on one trunk; {imported.IMAGENET}: the imported trunk.",
        required=True,
    )
    flags.DEFINE_string("output", None, "Folder to write dissection.json and dissection.html into.", required=True)
    flags.DEFINE_string("concepts", None, "Folder of labelled images, in the layout of Broden.")
    flags.DEFINE_string("domain", None, "Whose network is dissected; by default the first run's.")
    flags.DEFINE_integer(
        "image_size", None, "Side of the images; by default the domain's in evaluation.", lower_bound=8
    )
    flags.DEFINE_list("layers", None, "Names of layers; all if not given.")
    flags.DEFINE_bool("control", True, "Whether the same network with random weights is dissected, too.")
    flags.DEFINE_integer("batch_size", 32, "Images at a time.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of random weights, and of units drawn for intervals.", lower_bound=0)


def main(argv):
    runs = [str(imported.imagenet()) if run == imported.IMAGENET else run for run in FLAGS.workdir]
    trunk, packs, expert_packs = read_parts(runs)
    model = compose(trunk, packs, expert_packs=expert_packs)
    console = table_console()
    found, shown = None, []
    if FLAGS.concepts:
        config = DissectConfig(
            concepts=FLAGS.concepts,
            domain=FLAGS.domain or packs[0].domain,
            image_size=FLAGS.image_size,
            layers=FLAGS.layers,
            control=FLAGS.control,
            batch_size=FLAGS.batch_size,
            seed=FLAGS.seed,
        )
        found, shown = dissect(model, packs, config, lambda line: console.print(line, soft_wrap=True))
    kernels = compare(model, trunk, packs, FLAGS.concepts, FLAGS.image_size, FLAGS.batch_size, FLAGS.seed)
    content = {"run": ", ".join(FLAGS.workdir), "dissection": found, "kernels": kernels}
    output = pathlib.Path(FLAGS.output)
    write_json(output / RESULT_FILE, content)
    write_text(output / PAGE_FILE, page(content, shown))
    if found:
        console.print(detectors_table(found))
    if kernels["distances"]:
        console.print(distances_table(kernels["distances"]))
    if found:
        console.print(f"{found['seconds']:,.0f} s, at most {found['peak_memory_mib']:,} MiB of memory", soft_wrap=True)
    console.print(f"wrote {output / RESULT_FILE} and {output / PAGE_FILE}", soft_wrap=True)


def detectors_table(found: dict) -> Table:
    """Returns a row per network and kind of layer: detectors and concepts, with 95% intervals."""
    columns = ("units", "detectors in %", "concepts", "concepts of as many units")
    table = number_table("", *columns, *found["concepts"])
    for name, network in found["networks"].items():
        for kind, own in network["kinds"].items():
            table.add_row(
                f"{kind}, {name}",
                f"{own['units']:,}",
                _interval(own["share"], 100, 2),
                _interval(own["unique"], 1, 0),
                _interval(own["unique_among"], 1, 1) if "unique_among" in own else "",
                *(f"{counts['detectors']} ({counts['unique']})" for counts in own["by_category"].values()),
            )
        less = network["depthwise_less_pointwise"]
        if less:
            cells = (
                _interval(less["share"], 100, 2),
                _interval(less["unique"], 1, 0),
                _interval(less["unique_among"], 1, 1),
            )
            table.add_row(f"depthwise less pointwise, {name}", "", *cells, *[""] * len(found["concepts"]))
    return table


def distances_table(distances: dict) -> Table:
    """Returns a row per domain: how far its kernels are from the trunk's, and from those of the others."""
    columns = ("from the trunk: mean", "most, in layer")
    table = number_table("distance of depthwise kernels", *columns, *distances["domains"])
    for domain, row in zip(distances["domains"], distances["apart"], strict=True):
        moved = distances["moved"][domain]
        most = max(range(len(moved)), key=moved.__getitem__)
        mean = sum(moved) / len(moved)
        table.add_row(
            domain, f"{mean:.3f}", f"{moved[most]:.3f}, {distances['layers'][most]}", *(f"{value:.3f}" for value in row)
        )
    return table


def _interval(value, scale, digits):
    middle, low, high = (f"{scale * value[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{middle} ({low} to {high})"


def run():
    start(__doc__, define_flags, main)


if __name__ == "__main__":
    run()

"""How many parameters a network of many domains has, and whose they are.

    python -m tfmdl.params
    python -m tfmdl.params --method=pointwise_sharing --domains=cifar100,mine --classes=mine:12
    python -m tfmdl.params --trunk=runs/trunk --packs=runs/near,runs/far

Counted from built models. Parameters are what training learns; moving statistics do not count. The unit is 32 bits: 32
weights of a binary mask are one parameter. The papers count convolutions and norm, without classifiers, in multiples of
one plain ResNet-26; the base domain has none of what some methods add to its network for the others. With --packs each
domain has what its pack has, whatever the methods; the unit of a network of Keras is one such network.
"""

import tfmdl.quiet  # isort: skip  # noqa: F401

from absl import flags
from rich.table import Table

from tfmdl import option_flags
from tfmdl.architecture import Architecture
from tfmdl.backbones import BACKBONES
from tfmdl.cli import number_table, start, table_console
from tfmdl.counts import ParameterCount, count, count_plain_resnet26, unit
from tfmdl.domains import DECATHLON, check_name
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import domains_without_additions, load_model
from tfmdl.published import TABLE_1
from tfmdl.sharing import METHODS, options_of

BASE_DOMAIN = "imagenet12"


def classes_of(domains: list[str], classes: list[str]) -> dict[str, int]:
    """Returns the number of classes of each domain.

    Args:
        domains: Names; if there is none, those of `classes`, or the Visual Decathlon's ten.
        classes: "name:number" each; needed for domains that are not in the Visual Decathlon.

    Raises:
        ValueError: if a name is not valid or not known, a number is not positive, or a name is given twice.
    """
    given = {}
    for item in classes:
        name, _, number = item.partition(":")
        if not number.isdecimal() or int(number) < 1:
            raise ValueError(f"--classes must be NAME:NUMBER, the number positive; received {item!r}")
        if name in given:
            raise ValueError(f"--classes names {name!r} twice")
        given[name] = int(number)
    known = {name: facts.num_classes for name, facts in DECATHLON.items()} | given
    names = domains or list(given) or list(DECATHLON)
    for name in names:
        if check_name(name) not in known:
            raise ValueError(
                f"--domains names {name!r}, whose number of classes is not known: add "
                f"--classes={name}:NUMBER, or use one of {', '.join(DECATHLON)}"
            )
        if names.count(name) > 1:
            raise ValueError(f"--domains names {name!r} twice")
    for name in given:
        if name not in names:
            raise ValueError(f"--classes names {name!r}, which --domains does not")
    return {name: known[name] for name in names}


def summary_table(counts: dict[Architecture, ParameterCount], plain: int) -> Table:
    """Returns one row per method; for the ten domains that the paper counts, with the paper's multiples."""
    columns = ["method", "shared", "domains' own", "classifiers", "total", "x ResNet-26"]
    published = all(list(counted.own) == list(DECATHLON) for counted in counts.values())
    table = number_table(*columns, *(["Table 1"] if published else []))
    for architecture, counted in counts.items():
        own, classifiers = (sum(part.values()) for part in (counted.own, counted.classifier))
        multiple = counted.convolutions_and_norm / plain
        in_paper = TABLE_1.get(architecture.method)
        printed = [in_paper.multiple if in_paper else ""] if published else []
        name = f"{architecture.method}, {architecture.backbone}"
        _row(table, name, counted.shared, own, classifiers, counted.total, multiple, *printed)
    return table


def detail_table(counted: ParameterCount, plain: int, of: str = "ResNet-26") -> Table:
    """Returns one row per domain, and the sums, in multiples of a network with so many parameters."""
    table = number_table("", "convolutions and norm", "classifier", "together", f"x {of}")
    for name, own in counted.own.items():
        classifier = counted.classifier[name]
        _row(table, name, own, classifier, own + classifier, own / plain)
    _row(table, "shared by all", counted.shared, 0, counted.shared, counted.shared / plain)
    trunk, classifiers = counted.convolutions_and_norm, sum(counted.classifier.values())
    _row(table, "total", trunk, classifiers, counted.total, trunk / plain)
    return table


def _row(table, name, *cells):
    forms = {int: "{:,}", float: "{:.2f}", str: "{}"}
    table.add_row(name, *(forms[type(cell)].format(cell) for cell in cells))


def define_flags():
    flags.DEFINE_enum("method", None, list(METHODS), "Sharing method; all of them if not given.")
    flags.DEFINE_list("domains", [], "Names of the domains; the ten of the Visual Decathlon if not given.")
    flags.DEFINE_list("classes", [], "NAME:NUMBER of classes, for domains that are not in the Visual Decathlon.")
    flags.DEFINE_enum("backbone", None, list(BACKBONES), "The network; by default the one of each method's paper.")
    flags.DEFINE_string("trunk", None, "Instead of methods and domains: a run or file with the trunk of --packs.")
    flags.DEFINE_list("packs", [], "With --trunk: runs or files with packs, which are counted as they are.")
    flags.DEFINE_string("base", None, "Base domain; by default imagenet12 if it is among the domains, else the first.")
    flags.DEFINE_integer("width", Architecture.width, "Channels after the stem.")
    option_flags.define()


def main(argv):
    values = flags.FLAGS
    if not (values.trunk or values.packs):
        _print_tables(values)
    elif values.method or values.domains or values.classes:
        raise ValueError("--trunk and --packs say what is counted: leave out --method, --domains and --classes")
    else:
        _print_packs(values.trunk, values.packs)


def _print_packs(trunk, paths):
    model, packs = load_model(trunk=trunk, pack_paths=paths)
    console = table_console()
    network = model.architecture.network
    one, of = unit(model.architecture), network.name if network else "ResNet-26"
    for pack in packs:
        console.print(f"{pack.domain}: {pack.architecture.method_and_options}", soft_wrap=True)
    console.print(f"Unit of the multiples: convolutions and norm of one {of}, {one:,}\n", soft_wrap=True)
    console.print(detail_table(count(model, domains_without_additions(model, packs)), one, of))


def _print_tables(values):
    num_classes = classes_of(values.domains, values.classes)
    base = values.base or (BASE_DOMAIN if BASE_DOMAIN in num_classes else next(iter(num_classes)))
    if base not in num_classes:
        raise ValueError(f"--base must be one of {', '.join(num_classes)}; received {base!r}")
    console = table_console()

    def architecture(method):
        options = options_of(method, option_flags.values())
        return Architecture(method, values.backbone, values.width, options=options)

    def counted(method):
        return count(MultiDomainClassifier(num_classes, architecture(method)), (base,))

    plain = count_plain_resnet26(values.width)
    domains = "1 domain" if len(num_classes) == 1 else f"{len(num_classes)} domains"
    method = f"{values.method}, " if values.method else ""
    console.print(f"{method}{domains}, {base} the base domain, width {values.width}")
    console.print(f"Unit of the multiples: convolutions and norm of one plain ResNet-26, {plain:,}\n")
    if values.method:
        console.print(detail_table(counted(values.method), plain))
        return
    counts, refused = {}, []
    for method in METHODS:
        try:
            counts[architecture(method)] = counted(method)
        except ValueError as error:  # a method that does not work on this backbone
            refused.append(str(error))
    console.print(summary_table(counts, plain))
    for reason in refused:
        console.print(f"Left out: {reason}", soft_wrap=True)


def run():
    start(__doc__, define_flags, main)


if __name__ == "__main__":
    run()

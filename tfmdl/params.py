"""How many parameters a network of many domains has, and whose they are.

    python -m tfmdl.params
    python -m tfmdl.params --method=pointwise_sharing --domains=cifar100,mine --classes=mine:12

Counted from built models. Parameters are what training learns: moving statistics are none. They count in units of 32
bits: 32 weights of a binary mask are one. The papers count convolutions and norm, without classifiers, in multiples
of one plain ResNet-26; the base domain has none of what some methods add to its network for the others.
"""

import tfmdl.quiet  # isort: skip  # noqa: F401

import dataclasses
import functools
import math
from collections.abc import Collection

from absl import app, flags
from rich.table import Table

from tfmdl import option_flags
from tfmdl.architecture import Architecture
from tfmdl.backbones import BACKBONES
from tfmdl.cli import report_errors, table_console
from tfmdl.domains import DECATHLON, SHARED, check_name
from tfmdl.model import MultiDomainClassifier, slot_and_owner
from tfmdl.published import TABLE_1
from tfmdl.sharing import METHODS, methods_with, options_of

BASE_DOMAIN = "imagenet12"


@dataclasses.dataclass(frozen=True)
class ParameterCount:
    """Learned parameters of a network, in units of 32 bits.

    Attributes:
        shared: What all domains use.
        own: Convolutions, norm and all else but the classifier that belongs to a domain, by its name.
        classifier: The classifier of a domain, by its name.
    """

    shared: int
    own: dict[str, int]
    classifier: dict[str, int]

    @property
    def convolutions_and_norm(self) -> int:
        """All but the classifiers."""
        return self.shared + sum(self.own.values())

    @property
    def total(self) -> int:
        return self.convolutions_and_norm + sum(self.classifier.values())

    def as_dict(self, plain: int | None = None) -> dict:
        """Returns the counts for JSON; with `plain`, those of a plain ResNet-26, also the multiple of it."""
        domains = {name: {"own": self.own[name], "classifier": self.classifier[name]} for name in self.own}
        counts = {
            "shared": self.shared,
            "domains": domains,
            "convolutions_and_norm": self.convolutions_and_norm,
            "total": self.total,
        }
        if plain is not None:
            counts["multiple_of_resnet26"] = self.convolutions_and_norm / plain
        return counts


def count(model: MultiDomainClassifier, without_additions: Collection[str] = ()) -> ParameterCount:
    """Counts the parameters of `model`, frozen or not, in units of 32 bits.

    Args:
        model: The model.
        without_additions: For the domains of these names, what a base domain lacks by the method is not counted.
    """
    shared, own, classifier = 0, dict.fromkeys(model.domains, 0), dict.fromkeys(model.domains, 0)
    for bank in model.banks():
        if not bank.learned:
            continue
        for owner, variable in bank.variable_of.items():
            bits = math.prod(variable.shape) * bank.bits
            slot, _ = slot_and_owner(variable)
            if owner == SHARED or bank.pooled:
                shared += bits
            elif slot.startswith("head/"):
                classifier[owner] += bits
            elif not (owner in without_additions and model.base_lacks(slot)):
                own[owner] += bits

    def parameters(bits):
        return -(-bits // 32)

    return ParameterCount(
        parameters(shared),
        {name: parameters(bits) for name, bits in own.items()},
        {name: parameters(bits) for name, bits in classifier.items()},
    )


@functools.cache
def count_plain_resnet26(width: int = 64, blocks_per_stage: int = 4) -> int:
    """Returns the convolutions and norm of one plain ResNet-26, the unit of the papers' multiples."""
    architecture = Architecture("individual", "resnet26", width, blocks_per_stage=blocks_per_stage)
    return count(MultiDomainClassifier({"plain": 1}, architecture)).convolutions_and_norm


def classes_of(domains: list[str], classes: list[str]) -> dict[str, int]:
    """Returns the number of classes of each domain.

    Args:
        domains: Names; if there is none, those of `classes`, or the Visual Decathlon's ten.
        classes: "name:number" each; needed for domains that the Visual Decathlon has not.

    Raises:
        ValueError: if a name cannot be or is not known, a number is none, or either is given twice.
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
    """Returns one row a method; beside the multiples of the ten domains that the paper counts, the paper's."""
    columns = ["method", "shared", "domains' own", "classifiers", "total", "x ResNet-26"]
    published = all(list(counted.own) == list(DECATHLON) for counted in counts.values())
    table = _table(*columns, *(["Table 1"] if published else []))
    for architecture, counted in counts.items():
        own, classifiers = (sum(part.values()) for part in (counted.own, counted.classifier))
        multiple = counted.convolutions_and_norm / plain
        in_paper = TABLE_1.get(architecture.method)
        printed = [in_paper.multiple if in_paper else ""] if published else []
        name = f"{architecture.method}, {architecture.backbone}"
        _row(table, name, counted.shared, own, classifiers, counted.total, multiple, *printed)
    return table


def detail_table(counted: ParameterCount, plain: int) -> Table:
    """Returns one row a domain, and the sums."""
    table = _table("", "convolutions and norm", "classifier", "together", "x ResNet-26")
    for name, own in counted.own.items():
        classifier = counted.classifier[name]
        _row(table, name, own, classifier, own + classifier, own / plain)
    _row(table, "shared by all", counted.shared, 0, counted.shared, counted.shared / plain)
    trunk, classifiers = counted.convolutions_and_norm, sum(counted.classifier.values())
    _row(table, "total", trunk, classifiers, counted.total, trunk / plain)
    return table


def _table(first, *columns):
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _row(table, name, *cells):
    forms = {int: "{:,}", float: "{:.2f}", str: "{}"}
    table.add_row(name, *(forms[type(cell)].format(cell) for cell in cells))


def define_flags():
    # Not at import: other command lines import `count`, and have flags of these names.
    flags.DEFINE_enum("method", None, list(METHODS), "Sharing method; all of them if not given.")
    flags.DEFINE_list("domains", [], "Names of the domains; the ten of the Visual Decathlon if not given.")
    flags.DEFINE_list("classes", [], "NAME:NUMBER of classes, of domains that the Visual Decathlon has not.")
    flags.DEFINE_enum("backbone", None, list(BACKBONES), "The network; by default the one of each method's paper.")
    flags.DEFINE_string("base", None, "Base domain; by default imagenet12 if it is among the domains, else the first.")
    flags.DEFINE_integer("width", Architecture.width, "Channels after the stem.")
    option_flags.define()


def main(argv):
    with report_errors():
        if argv[1:]:
            raise ValueError(f"unexpected argument {argv[1]!r}: all arguments are flags")
        _print_tables(flags.FLAGS)


def _print_tables(values):
    num_classes = classes_of(values.domains, values.classes)
    base = values.base or (BASE_DOMAIN if BASE_DOMAIN in num_classes else next(iter(num_classes)))
    if base not in num_classes:
        raise ValueError(f"--base must be one of {', '.join(num_classes)}; received {base!r}")
    console = table_console()

    def architecture(method):
        own = {name: value for name, value in option_flags.values().items() if method in methods_with(name)}
        return Architecture(method, values.backbone, values.width, options=options_of(method, own))

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


if __name__ == "__main__":
    define_flags()
    app.run(main)

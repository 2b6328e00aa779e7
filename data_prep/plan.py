"""What a source tells of a domain before any image is read, and the checks that every source must pass."""

import collections
import dataclasses
import pathlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tfmdl.domains import check_name
from tfmdl.outside import is_utf8, printable

# As in tfmdl.data.records, which is imported late: it brings in TensorFlow, and most faults are found before.
SPLITS = ("train", "val", "test")
# Share of the training images that becomes a split which the source does not have.
HELD_OUT_FRACTION = 0.15


class DataError(ValueError):
    """A fault of the input or of the command, told in one line that names the culprit, whatever its name holds."""

    def __str__(self):
        return printable(super().__str__())


class Reference(NamedTuple):
    """One image that is still where it was: its id, its label (None: unknown) and its name in messages."""

    image_id: int
    label: int | None
    name: str


class BadImage(NamedTuple):
    """One image that cannot be a record, and why."""

    split: str
    name: str
    reason: str


class RawImage(NamedTuple):
    """The bytes of the image `plan.splits[split][index]`."""

    split: str
    index: int
    encoded: bytes


@dataclasses.dataclass(frozen=True)
class Plan:
    """A domain as its source describes it.

    Attributes:
        domain: Name of the domain.
        label_names: Name of each class, in the order of the labels.
        category_ids: The source's own id of each class.
        splits: References of each split; their order does not depend on how the source stores the images.
        read: Yields every referenced image once, in whatever order the source reads fastest.
        source: What `dataset_info.json` says of the source.
        inputs: SHA-256 of each input file by name.
        absent: Images that the source lists and does not have, or that are too long; no reference names them.
    """

    domain: str
    label_names: list[str]
    category_ids: list[int]
    splits: dict[str, list[Reference]]
    read: Callable[[], Iterator[RawImage]]
    source: dict
    inputs: dict[str, str]
    absent: list[BadImage] = dataclasses.field(default_factory=list)

    def check(self, allow_absent: bool) -> None:
        """Checks what must hold whatever the images hold.

        Args:
            allow_absent: Whether there may be absent images.

        Raises:
            DataError: if the domain or a class has no valid name, an image is absent but must not, an image id occurs
                twice, a label is outside the categories, a split has no image, or some images of a split have
                labels and others do not.
        """
        check_domain_name(self.domain)
        for name in self.label_names:
            if not is_utf8(name):
                raise DataError(f"{self.domain}: class {name!r} is not UTF-8; expected a name in UTF-8")
        if not allow_absent:
            refuse(self.domain, self.absent)
        seen: dict[int, tuple[str, str]] = {}
        for split, references in self.splits.items():
            if not references:
                raise DataError(f"{self.domain}: split {split!r} is empty; expected at least one image")
            unlabelled = sum(reference.label is None for reference in references)
            if unlabelled and (split != "test" or unlabelled < len(references)):
                name = next(r.name for r in references if r.label is None)
                raise DataError(
                    f"{self.domain}: {name} of split {split!r} has no label, nor have {unlabelled - 1} more; "
                    "expected one for every image, or for no image of the test split"
                )
            for reference in references:
                if reference.label is not None and not 0 <= reference.label < len(self.label_names):
                    raise DataError(
                        f"{self.domain}: {reference.name} of split {split!r} has label {reference.label}; "
                        f"expected 0 to {len(self.label_names) - 1}"
                    )
                if reference.image_id in seen:
                    raise DataError(
                        f"{self.domain}: image_id {reference.image_id} occurs twice: "
                        f"{'/'.join(seen[reference.image_id])} and {split}/{reference.name}"
                    )
                seen[reference.image_id] = (split, reference.name)


def check_domain_name(domain: str) -> None:
    """Refuses what cannot name a domain.

    Raises:
        DataError: as `tfmdl.domains.check_name`.
    """
    try:
        check_name(domain)
    except ValueError as error:
        raise DataError(str(error)) from error


def refuse(domain: str, bad: Sequence[BadImage]) -> None:
    """Raises DataError for the first of `bad` and says how many there are; does nothing if there is none."""
    if bad:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise DataError(
            f"{domain}: {bad[0].name} of split {bad[0].split!r} {bad[0].reason}{more}; "
            "--on_error=skip leaves bad images out"
        )


def seeded(seed: int, *words: str) -> np.random.Generator:
    """Returns the generator that belongs to `seed` and `words`, the same on every machine."""
    return np.random.default_rng([seed, zlib.crc32("/".join(words).encode())])


def fill_splits(
    domain: str, found: dict[str, list[Reference]], wanted: Iterable[str], seed: int
) -> tuple[dict[str, list[Reference]], dict[str, str]]:
    """Gives a domain the splits that its source lacks, out of its training images.

    Where the source has nothing but train, val and test are each a seeded `HELD_OUT_FRACTION` of every class;
    where it has train and test, val is. The same images are held out whichever splits are wanted.

    Args:
        domain: Name of the domain, for the seed and for messages.
        found: The references of each split that the source has.
        wanted: The splits to return.
        seed: Seed of the choice.

    Returns:
        The wanted splits, and a sentence about each one that was cut from train.

    Raises:
        DataError: if a wanted split is missing and does not follow from the rule.
    """
    held_out = {("train",): ("val", "test"), ("train", "test"): ("val",)}.get(
        tuple(split for split in SPLITS if split in found), ()
    )
    splits, notes = dict(found), {}
    if held_out:
        by_class = collections.defaultdict(list)
        for position, reference in enumerate(found["train"]):
            by_class[reference.label].append(position)
        taken: dict[str, set[int]] = {split: set() for split in held_out}
        random = seeded(seed, domain, "held out")
        for label in sorted(by_class):
            positions = random.permutation(by_class[label])
            size = round(len(positions) * HELD_OUT_FRACTION)
            for rank, split in enumerate(held_out):
                taken[split].update(positions[rank * size : (rank + 1) * size].tolist())
        for split in held_out:
            splits[split] = [found["train"][position] for position in sorted(taken[split])]
            notes[split] = f"a seeded {HELD_OUT_FRACTION:.0%} of every class of train"
        gone = set().union(*taken.values())
        splits["train"] = [r for position, r in enumerate(found["train"]) if position not in gone]
    for split in wanted:
        if split not in splits:
            there = ",".join(s for s in SPLITS if s in found)
            raise DataError(f"{domain}: no split {split!r}; it has {there}: say --splits={there}")
    return {split: splits[split] for split in wanted}, notes


def leave_out(
    splits: dict[str, list[Reference]], unreadable: Callable[[Iterable[str]], dict[str, str]]
) -> tuple[dict[str, list[Reference]], list[BadImage]]:
    """Leaves out images that cannot be read.

    Args:
        splits: The references of each split.
        unreadable: Given names of images, returns those that cannot be read, and why.

    Returns:
        The references that are left of each split, and those that are not, with the reason.
    """
    left, absent = {}, []
    for split, references in splits.items():
        reasons = unreadable(reference.name for reference in references)
        left[split] = [reference for reference in references if reference.name not in reasons]
        absent += [BadImage(split, r.name, reasons[r.name]) for r in references if r.name in reasons]
    return left, absent


def check_known(asked: Iterable[str], known: Iterable[str], where: str | pathlib.Path) -> None:
    """Refuses a domain that is not there.

    Raises:
        DataError: if a name in `asked` is not in `known`; the message lists the known.
    """
    known = list(known)
    for domain in asked:
        if domain not in known:
            raise DataError(f"unknown domain {domain!r}; {where} has: {', '.join(known) or 'none'}")

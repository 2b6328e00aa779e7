"""The Visual Decathlon's layout: annotations, and images in folders, tars or the release's archives.

    annotations/<domain>_{train,val,test_stripped}.json, or else decathlon-1.0-devkit.tar.gz
    data/<domain>/{train,val}/<class>/* and data/<domain>/test/*, or else data/<domain>.tar, or else
    decathlon-1.0-data.tar.gz and decathlon-1.0-data-imagenet.tar

A test split is read from `<domain>_test.json` if there is one,
labels and all, and else from `<domain>_test_stripped.json`, whose images have no labels.
"""

import hashlib
import pathlib
import re
from collections.abc import Iterator, Sequence

from data_prep.config import ConvertConfig
from data_prep.plan import DataError, Plan, RawImage, Reference, check_domain_name, check_known, leave_out
from data_prep.sources import annotations
from data_prep.sources.stores import MAX_TEXT_BYTES, ArchiveStore, FolderStore, read_members
from tfmdl.outside import read_at_most

ANNOTATIONS_DIR = "annotations"
DEVKIT = "decathlon-1.0-devkit.tar.gz"
DATA_ARCHIVES = ("decathlon-1.0-data.tar.gz", "decathlon-1.0-data-imagenet.tar")
_TRAIN_FILE = re.compile(r"(.+)_train\.json")


class DecathlonSource:
    """A folder in the layout of the release.

    Args:
        input_dir: The folder.
        domains: Names of the domains to read, all that have annotations if empty.
        splits: Names of the splits to read.

    Raises:
        DataError: if there are no annotations, a domain is not among them, or it has no images.
    """

    def __init__(self, input_dir: pathlib.Path, domains: Sequence[str], splits: Sequence[str]):
        self.input_dir = input_dir
        self.splits = splits
        self._devkit = self._read_devkit()
        known = sorted(m[1] for name in self._annotation_files() if (m := _TRAIN_FILE.fullmatch(name)))
        if not known:
            raise DataError(
                f"--input_dir: {input_dir} has no annotations; expected {ANNOTATIONS_DIR}/<domain>_train.json "
                f"or {DEVKIT}"
            )
        check_known(domains, known, input_dir)
        self.domains = list(domains) or known
        self._stores = {domain: self._find_images(domain) for domain in self.domains}

    def plan(self, domain: str) -> Plan:
        """Reads the annotations of a domain and finds its images."""
        check_domain_name(domain)
        store = self._stores[domain]
        inputs, categories, splits = {}, None, {}
        for split in ("train", *(s for s in self.splits if s != "train")):
            file_name, text = self._annotation_text(domain, split)
            contents = annotations.parse_json(file_name, text)
            inputs[file_name] = hashlib.sha256(text).hexdigest()
            found = annotations.read_categories(file_name, contents)
            if categories is None:
                categories, first_file = found, file_name
            elif found != categories:
                raise DataError(f"{file_name}: {found.difference(categories)} in {first_file}; expected the same")
            splits[split] = annotations.read_references(file_name, contents, domain, categories, split != "test")
        splits = {split: splits[split] for split in self.splits}
        _check_names_once(domain, splits)
        splits, absent = leave_out(splits, store.unreadable)
        where = {r.name: (split, i) for split, references in splits.items() for i, r in enumerate(references)}

        def read() -> Iterator[RawImage]:
            for name, encoded in store.read(where):
                yield RawImage(*where[name], encoded)

        return Plan(
            domain=domain,
            label_names=categories.label_names,
            category_ids=categories.category_ids,
            splits=splits,
            read=read,
            source={"kind": "decathlon"},
            inputs=inputs | store.inputs(domain, where),
            absent=absent,
        )

    def _read_devkit(self) -> dict[str, bytes]:
        devkit = self.input_dir / DEVKIT
        if (self.input_dir / ANNOTATIONS_DIR).is_dir() or not devkit.is_file():
            return {}
        return dict(read_members(devkit, ANNOTATIONS_DIR, ".json"))

    def _annotation_files(self) -> list[str]:
        return list(self._devkit) or [path.name for path in (self.input_dir / ANNOTATIONS_DIR).glob("*.json")]

    def _annotation_text(self, domain: str, split: str) -> tuple[str, bytes]:
        """Returns the name to call the annotation file by, and its bytes."""
        files = self._annotation_files()
        names = [f"{domain}_{split}.json", *([f"{domain}_test_stripped.json"] if split == "test" else [])]
        name = next((name for name in names if name in files), None)
        if name is None:
            there = [s for s in ("train", "val", "test") if any(f.startswith(f"{domain}_{s}") for f in files)]
            raise DataError(
                f"{domain}: no annotation file {names[-1]} for split {split!r}; there are annotations of "
                f"{', '.join(there)}: say --splits={','.join(there)}"
            )
        if self._devkit:
            return f"{DEVKIT}/{name}", self._devkit[name]
        return f"{ANNOTATIONS_DIR}/{name}", _read_text(self.input_dir / ANNOTATIONS_DIR / name)

    def _find_images(self, domain: str) -> FolderStore | ArchiveStore:
        data = self.input_dir / "data"
        if (data / domain).is_dir():
            return FolderStore(data)
        archive = data / f"{domain}.tar"
        if archive.is_file():
            return ArchiveStore(archive)
        for name in DATA_ARCHIVES:
            archive = self.input_dir / name
            if archive.is_file() and domain in (store := ArchiveStore(archive)).domains():
                return store
        raise DataError(
            f"{domain}: no images in {self.input_dir}; expected data/{domain}/, data/{domain}.tar or "
            f"{' or '.join(DATA_ARCHIVES)}, or leave it out by naming the others in --domains"
        )


def open_source(config: ConvertConfig) -> DecathlonSource:
    """Returns the source that a conversion asks for."""
    return DecathlonSource(config.input_dir, config.domains, config.splits)


def _read_text(path: pathlib.Path) -> bytes:
    if not path.is_file():
        raise DataError(f"{path}: is not a file")
    try:
        return read_at_most(path, MAX_TEXT_BYTES)
    except ValueError as error:
        raise DataError(str(error)) from error


def _check_names_once(domain: str, splits: dict[str, list[Reference]]) -> None:
    seen: dict[str, int] = {}
    for references in splits.values():
        for reference in references:
            if reference.name in seen:
                raise DataError(
                    f"{domain}: data/{reference.name} is named by two images, {seen[reference.name]} and "
                    f"{reference.image_id}"
                )
            seen[reference.name] = reference.image_id

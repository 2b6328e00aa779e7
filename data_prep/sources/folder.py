"""Folders of classes: `<input_dir>/<domain>/<split>/<class>/*`, or `<domain>/<class>/*` and a seeded split.

Splits may be called val, valid or validation. Images may lie right in `test/`: their labels are unknown.
Splits that are not there are cut from train as `fill_splits` says. Names that begin with "." are ignored.
Image ids are running numbers over the sorted paths of all images of the domain, and so are the same whichever
splits are converted.
"""

import pathlib
from collections.abc import Iterator

from data_prep.config import ConvertConfig
from data_prep.plan import (
    DataError,
    Plan,
    RawImage,
    Reference,
    check_domain_name,
    check_known,
    fill_splits,
    leave_out,
)
from data_prep.sources.stores import FolderStore, check_regular, check_utf8

_SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


class FolderSource:
    """A folder that holds a folder for each domain.

    Args:
        config: What to convert.

    Raises:
        DataError: if a domain is not there, or the folder looks like a domain or a split itself.
    """

    def __init__(self, config: ConvertConfig):
        self.config = config
        known = [path.name for path in _visible(config.input_dir) if path.is_dir()]
        if "train" in known or (known and not any(_folders(config.input_dir / name) for name in known)):
            raise DataError(
                f"--input_dir: {config.input_dir} looks like one domain (it has {', '.join(known[:3])}); "
                "expected the folder above it: <input_dir>/<domain>/<class>/<image>"
            )
        if not known:
            raise DataError(f"--input_dir: {config.input_dir} has no folders; expected one for each domain")
        check_known(config.domains, known, config.input_dir)
        self.domains = list(config.domains) or known

    def plan(self, domain: str) -> Plan:
        """Lists the images of a domain."""
        check_domain_name(domain)
        root = self.config.input_dir / domain
        folders = {path.name: path for path in _folders(root)}
        parts = _named_splits(domain, folders) if "train" in folders else {"train": root}
        label_names = [path.name for path in _folders(parts["train"])]
        if not label_names:
            raise DataError(f"{parts['train']}: has no class folders; expected {parts['train']}/<class>/<image>")
        names = {split: _images(root, folder, label_names, split) for split, folder in parts.items()}
        image_ids = {name: i for i, name in enumerate(sorted(n for found in names.values() for n, _ in found), 1)}
        found = {
            split: [Reference(image_ids[name], label, f"{domain}/{name}") for name, label in images]
            for split, images in names.items()
        }
        splits, notes = fill_splits(domain, found, self.config.splits, self.config.seed)
        store = FolderStore(self.config.input_dir)
        splits, absent = leave_out(splits, store.unreadable)
        where = {r.name: (split, i) for split, references in splits.items() for i, r in enumerate(references)}

        def read() -> Iterator[RawImage]:
            for name, encoded in store.read(where):
                yield RawImage(*where[name], encoded)

        return Plan(
            domain=domain,
            label_names=label_names,
            category_ids=list(range(len(label_names))),
            splits=splits,
            read=read,
            source={"kind": "folder", "cut": notes},
            inputs=store.inputs(domain, where),
            absent=absent,
        )


def open_source(config: ConvertConfig) -> FolderSource:
    """Returns the source that a conversion asks for."""
    return FolderSource(config)


def _named_splits(domain: str, folders: dict[str, pathlib.Path]) -> dict[str, pathlib.Path]:
    parts: dict[str, pathlib.Path] = {}
    for name, folder in folders.items():
        split = _SPLIT_NAMES.get(name)
        if split is None:
            raise DataError(
                f"{domain}: has a folder 'train', and {name!r}, which is no split; expected train, val, test"
            )
        if split in parts:
            raise DataError(f"{domain}: split {split!r} is there twice, as {parts[split].name!r} and {name!r}")
        parts[split] = folder
    return parts


def _images(
    root: pathlib.Path, folder: pathlib.Path, label_names: list[str], split: str
) -> list[tuple[str, int | None]]:
    """Returns the path below `root` and the label of each image of a split, sorted."""
    if split == "test" and not _folders(folder):
        return [(_checked_name(root, path), None) for path in _visible(folder)]
    images = []
    for class_folder in _visible(folder):
        if class_folder.name not in label_names:
            raise DataError(f"{class_folder}: is no class of train; expected a folder named as one of its classes")
        label = label_names.index(class_folder.name)
        images += [(_checked_name(root, path), label) for path in _visible(class_folder)]
    return images


def _checked_name(root: pathlib.Path, path: pathlib.Path) -> str:
    parts = path.relative_to(root.parent).parts
    check_regular(root.parent, parts)
    name = "/".join(parts[1:])
    check_utf8(name, str(root))
    return name


def _folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return [path for path in _visible(folder) if path.is_dir()]


def _visible(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))

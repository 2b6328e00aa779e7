"""Comparing the records of a domain with what its `dataset_info.json` says of them."""

import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from data_prep.images import CheckedImage, PixelSums, check_images
from data_prep.ordered import map_ordered
from data_prep.plan import DataError, check_known
from data_prep.progress import progress_line
from tfmdl.data.records import (
    FIELDS,
    INFO_FILE,
    UNKNOWN_LABEL,
    UNREADABLE,
    DatasetInfo,
    Shard,
    converted_domains,
    reason_of,
)
from tfmdl.files import file_sha256
from tfmdl.outside import printable

_BATCH_RECORDS = 64
_SHOWN_FAULTS = 20


def verify(data_dir: pathlib.Path, domains: Sequence[str], workers: int) -> bool:
    """Verifies domains, and prints one line for each and its faults.

    Args:
        data_dir: Folder of the converted domains.
        domains: Which of them; all if empty.
        workers: Number of threads.

    Returns:
        Whether there was no fault.

    Raises:
        DataError: if there is no domain, or one of `domains` is not there.
    """
    known = converted_domains(data_dir)
    if not known:
        raise DataError(f"--data_dir: {data_dir} holds no converted domain")
    check_known(domains, known, data_dir)
    whole = True
    for domain in domains or known:
        started = time.monotonic()
        replaced = True
        while replaced:
            place = _identity(data_dir / domain)
            try:
                info, hashed = DatasetInfo.load_hashed(data_dir, domain)
                faults = _faults(data_dir / domain, info, workers)
            except (ValueError, OSError) as error:
                info, faults = None, [error]
            # A conversion may have put another domain in its place: then these are not its faults.
            replaced = faults and place != _identity(data_dir / domain)
        if info is None:
            if isinstance(faults[0], OSError):
                raise faults[0]
            print(printable(f"{domain}  1 fault"), flush=True)
            print(printable(f"  {faults[0]}"), file=sys.stderr)
            whole = False
            continue
        total = sum(split.num_examples for split in info.splits.values())
        counts = "  ".join(f"{name} {split.num_examples:,}" for name, split in info.splits.items())
        verdict = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}" if faults else "ok"
        if not hashed:
            verdict += f" ({INFO_FILE} is of an earlier version, without a hash: edits of it may go unnoticed)"
        rate = total / (time.monotonic() - started)
        print(f"{domain}  {counts}  {info.num_classes} classes  {verdict}  {rate:,.0f} images/s", flush=True)
        for fault in faults[:_SHOWN_FAULTS]:
            print(printable(f"  {domain}: {fault}"), file=sys.stderr)
        if len(faults) > _SHOWN_FAULTS:
            print(f"  {domain}: and {len(faults) - _SHOWN_FAULTS} more", file=sys.stderr)
        whole = whole and not faults
    return whole


def _identity(folder: pathlib.Path) -> tuple[int, int] | None:
    try:
        found = folder.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _faults(folder: pathlib.Path, info: DatasetInfo, workers: int) -> list[str]:
    check = _DomainCheck(folder, info)
    total = sum(split.num_examples for split in info.splits.values())
    with progress_line(info.name, total) as report:
        for split in info.splits:
            check.check_split(split, workers, lambda done, split=split: report(done, split))
    listed = {shard.file for split in info.splits.values() for shard in split.shards}
    check.faults += [
        f"{path.name}: is not listed in {INFO_FILE}"
        for path in sorted(folder.glob("*.tfrecord"))
        if path.name not in listed
    ]
    return check.faults


class _DomainCheck:
    """The faults found so far in one domain, and what they are found by."""

    def __init__(self, folder: pathlib.Path, info: DatasetInfo):
        self.faults: list[str] = []
        self._folder = folder
        self._info = info
        self._seen: dict[int, str] = {}

    def check_split(self, split: str, workers: int, report: Callable[[int], None]) -> None:
        expected = self._info.splits[split]
        sums = PixelSums()
        per_class = [0] * self._info.num_classes
        count = 0
        for shard in expected.shards:
            in_shard = 0
            for records in map_ordered(_read_records, self._batches(shard), workers):
                for record in records:
                    where = f"{shard.file}: record {in_shard}"
                    in_shard += 1
                    if isinstance(record, str):
                        self.faults.append(f"{where} {record}")
                        continue
                    self._check_record(where, record, expected.labelled)
                    if 0 <= record.label < len(per_class):
                        per_class[record.label] += 1
                    sums.add(record.image)
                report(len(records))
            self._compare(f"{shard.file}: records", shard.num_examples, in_shard)
            count += in_shard
        self._compare(f"split {split}: records", expected.num_examples, count)
        for name, of_info, of_records in zip(self._info.label_names, expected.per_class, per_class, strict=True):
            self._compare(f"split {split}: images of class {name!r}", of_info, of_records)
        if split == "train" and sums.pixels:
            of_info = (self._info.pixel_mean, self._info.pixel_std)
            self._compare("mean and std of the training pixels", of_info, sums.mean_and_std())

    def _compare(self, what: str, expected: Any, found: Any) -> None:
        if expected != found:
            self.faults.append(f"{what}: expected {expected}, found {found}")

    def _batches(self, shard: Shard) -> Iterator[np.ndarray]:
        """Yields the serialized records of a shard, a batch at a time, as far as they can be read."""
        path = self._folder / shard.file
        if not path.is_file():
            self.faults.append(f"{shard.file}: is not there")
            return
        self._compare(f"{shard.file}: bytes", shard.num_bytes, path.stat().st_size)
        self._compare(f"{shard.file}: sha256", shard.sha256, file_sha256(path))
        read = 0
        try:
            for batch in tf.data.TFRecordDataset(str(path)).batch(_BATCH_RECORDS).as_numpy_iterator():
                read += len(batch)
                yield batch
        except tf.errors.DataLossError:
            self.faults.append(
                f"{shard.file}: damaged (CRC or length) in the {_BATCH_RECORDS} records from {read} on; "
                "the rest was not read"
            )
        except tf.errors.OpError as error:
            self.faults.append(f"{shard.file}: cannot be read from record {read} on ({error.message})")

    def _check_record(self, where: str, record: "_Record", labelled: bool) -> None:
        image = record.image
        self._compare(f"{where}: image/format", image.format, record.format)
        self._compare(f"{where}: image/height and image/width", (image.height, image.width), record.size)
        if labelled and 0 <= record.label < self._info.num_classes:
            self._compare(f"{where}: image/class/text", self._info.label_names[record.label], record.text)
        elif labelled:
            self.faults.append(
                f"{where}: image/class/label is {record.label}; expected 0 to {self._info.num_classes - 1}"
            )
        else:
            self._compare(f"{where}: image/class/label", UNKNOWN_LABEL, record.label)
        if record.image_id in self._seen:
            first = self._seen[record.image_id]
            self.faults.append(f"{where}: image_id {record.image_id} occurs twice, first in {first}")
        self._seen.setdefault(record.image_id, where)


class _Record(NamedTuple):
    image_id: int
    label: int
    text: str
    format: str
    size: tuple[int, int]
    image: CheckedImage


def _read_records(serialized: np.ndarray) -> list[_Record | str]:
    """Returns the contents of each record, or what is wrong with it."""
    try:
        features = {key: value.numpy() for key, value in tf.io.parse_example(serialized, FIELDS).items()}
    except UNREADABLE as error:
        if len(serialized) > 1:
            return [record for one in serialized for record in _read_records(np.array([one]))]
        return [f"lacks a feature ({reason_of(error)})"]
    records = []
    for i, image in enumerate(check_images(features["image/encoded"].tolist())):
        if isinstance(image, str):
            records.append(image)
            continue
        records.append(
            _Record(
                image_id=int(features["image/source_id"][i]),
                label=int(features["image/class/label"][i]),
                text=features["image/class/text"][i].decode(errors="backslashreplace"),
                format=features["image/format"][i].decode(errors="backslashreplace"),
                size=(int(features["image/height"][i]), int(features["image/width"][i])),
                image=image,
            )
        )
    return records

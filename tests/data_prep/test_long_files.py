"""Image files that are too long are refused by what the file system or the archive says of them."""

import tarfile

import numpy as np
import pytest
from conftest import encode

from data_prep.headers import MAX_BYTES
from data_prep.plan import DataError
from data_prep.sources.stores import ArchiveStore
from tfmdl.data.records import DatasetInfo

# Sparse: it takes no room, and to read it would take hours.
BYTES = 1 << 40
REASON = f"has {BYTES:,} bytes; expected at most {MAX_BYTES:,}"


def _lengthen(path):
    with open(path, "r+b") as file:
        file.truncate(BYTES)


def test_a_long_file_of_a_decathlon_is_one_bad_image(decathlon, convert_here):
    path = decathlon.image("left", "train", 3)
    _lengthen(path)
    with pytest.raises(DataError, match=f"{path.name} of split 'train' {REASON}"):
        convert_here(decathlon.root, domains=("left",))
    records = convert_here(decathlon.root, domains=("left",), on_error="skip")
    info = DatasetInfo.load(records, "left")
    name = str(path.relative_to(decathlon.root / "data"))
    assert info.skipped == [{"split": "train", "file": name, "reason": REASON}]
    assert info.splits["train"].num_examples == 8


def test_a_long_file_of_a_class_folder_is_one_bad_image(tmp_path, convert_here):
    for split in ("train", "val", "test"):
        for number in range(3):
            path = tmp_path / "photos" / "birds" / split / "wren" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)))
    _lengthen(tmp_path / "photos" / "birds" / "val" / "wren" / "1.jpg")
    records = convert_here(tmp_path / "photos", source="folder", on_error="skip")
    info = DatasetInfo.load(records, "birds")
    assert info.skipped == [{"split": "val", "file": "birds/val/wren/1.jpg", "reason": REASON}]
    assert [split.num_examples for split in info.splits.values()] == [3, 2, 3]


def test_a_long_member_of_an_archive_is_told_by_its_header(tmp_path):
    path = tmp_path / "left.tar"
    size = MAX_BYTES + 1
    with open(path, "wb") as file:
        member = tarfile.TarInfo("left/train/0001/1.jpg")
        member.size = size
        file.write(member.tobuf())
        file.truncate(tarfile.BLOCKSIZE + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE)
    assert ArchiveStore(path).unreadable([member.name, "left/train/0001/2.jpg"]) == {
        member.name: f"has {size:,} bytes; expected at most {MAX_BYTES:,}",
        "left/train/0001/2.jpg": "is not there",
    }

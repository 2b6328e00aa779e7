"""Folders of one's own."""

import numpy as np
import pytest
from conftest import encode
from reading import read_split, shard_bytes

from data_prep.plan import DataError
from tfmdl.data.records import DatasetInfo


def _fill(folder, count, seed=0):
    folder.mkdir(parents=True)
    random = np.random.default_rng([seed, count])
    for number in range(count):
        (folder / f"{number}.png").write_bytes(encode(random.integers(0, 256, (6, 8, 3), np.uint8), "PNG"))


def _labels(records, domain, split):
    return [r["class/label"] for r in read_split(records, domain, split)]


def test_named_splits_are_taken_as_they_are(tmp_path, convert_here):
    for split, count in (("train", 5), ("validation", 3), ("test", 2)):
        for name in ("cat", "dog"):
            _fill(tmp_path / "mine" / "pets" / split / name, count)
    (tmp_path / "mine" / "pets" / "train" / "cat" / ".DS_Store").touch()
    records = convert_here(tmp_path / "mine", source="folder")
    info = DatasetInfo.load(records, "pets")
    assert info.label_names == ["cat", "dog"]
    assert {s: i.per_class for s, i in info.splits.items()} == {
        "train": [5, 5],
        "val": [3, 3],
        "test": [2, 2],
    }
    record = read_split(records, "pets", "train")[0]
    files = list((tmp_path / "mine" / "pets" / "train" / record["class/text"].decode()).glob("*.png"))
    assert record["encoded"] in [path.read_bytes() for path in files]


def test_class_folders_are_split_by_class_and_seed(tmp_path, convert_here):
    _fill(tmp_path / "mine" / "pets" / "cat", 40)
    _fill(tmp_path / "mine" / "pets" / "dog", 20)
    records = convert_here(tmp_path / "mine", source="folder")
    info = DatasetInfo.load(records, "pets")
    # 15 % of each class to val, as many to test.
    assert {s: i.per_class for s, i in info.splits.items()} == {
        "train": [28, 14],
        "val": [6, 3],
        "test": [6, 3],
    }
    ids = [r["source_id"] for split in info.splits for r in read_split(records, "pets", split)]
    assert sorted(ids) == list(range(1, 61))
    assert shard_bytes(convert_here(tmp_path / "mine", "again", source="folder")) == shard_bytes(records)
    assert shard_bytes(convert_here(tmp_path / "mine", "seeded", source="folder", seed=1)) != shard_bytes(records)
    # The same images are held out, whichever splits are asked for.
    fewer = convert_here(tmp_path / "mine", "fewer", source="folder", splits=("train", "val"))
    assert {r["source_id"] for r in read_split(fewer, "pets", "train")} == {
        r["source_id"] for r in read_split(records, "pets", "train")
    }


def test_val_is_cut_from_train_where_there_is_a_test_split(tmp_path, convert_here):
    _fill(tmp_path / "mine" / "pets" / "train" / "cat", 20)
    _fill(tmp_path / "mine" / "pets" / "test", 4)
    records = convert_here(tmp_path / "mine", source="folder")
    info = DatasetInfo.load(records, "pets")
    assert {s: i.num_examples for s, i in info.splits.items()} == {"train": 17, "val": 3, "test": 4}
    assert "15%" in info.source["cut"]["val"]
    # Images without class folders have no labels.
    assert set(_labels(records, "pets", "test")) == {-1}


def test_a_split_that_cannot_be_had_is_an_error_with_a_way_out(tmp_path, convert_here):
    for split in ("train", "val"):
        _fill(tmp_path / "mine" / "pets" / split / "cat", 2)
    with pytest.raises(DataError, match="no split 'test'.*--splits=train,val"):
        convert_here(tmp_path / "mine", source="folder")
    convert_here(tmp_path / "mine", source="folder", splits=("train", "val"))


@pytest.mark.parametrize("level", ["pets", "pets/train"])
def test_one_level_too_deep_is_told(tmp_path, convert_here, level):
    _fill(tmp_path / "mine" / "pets" / "train" / "cat", 2)
    with pytest.raises(DataError, match="expected the folder above"):
        convert_here(tmp_path / "mine" / level, source="folder")


def test_faults_of_folders_are_named(tmp_path, convert_here):
    root = tmp_path / "mine" / "pets"
    _fill(root / "train" / "cat", 2)
    _fill(root / "val" / "dog", 2)
    with pytest.raises(DataError, match="val/dog: is no class of train"):
        convert_here(tmp_path / "mine", source="folder", splits=("train", "val"))
    (root / "val" / "dog").rename(root / "val" / "cat")
    (root / "train" / "cat" / "link.png").symlink_to(root / "val" / "cat" / "0.png")
    with pytest.raises(DataError, match="link.png: is a link"):
        convert_here(tmp_path / "mine", source="folder", splits=("train", "val"))
    with pytest.raises(DataError, match="unknown domain 'cars'.*pets"):
        convert_here(tmp_path / "mine", source="folder", domains=("cars",))


def _write_photos(folder, sizes):
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for split in ("train", "val", "test"):
            (folder / "pets" / split / name).mkdir(parents=True)
            for number, size in enumerate(sizes):
                pixels = random.integers(0, 256, (*size, 3), np.uint8)
                (folder / "pets" / split / name / f"{number}.png").write_bytes(encode(pixels, "PNG"))
    return folder


def test_photos_are_shrunk_to_256_pixels_and_smaller_images_keep_their_bytes(tmp_path, convert_here):
    sizes = [(512, 300), (256, 400), (20, 700)]
    folder = _write_photos(tmp_path / "mine", sizes)
    found = read_split(convert_here(folder, source="folder"), "pets", "train")
    assert sorted({(r["height"], r["width"], r["format"]) for r in found}) == [
        (20, 700, b"png"),
        (256, 400, b"png"),
        (437, 256, b"jpeg"),
    ]
    originals = [path.read_bytes() for path in folder.rglob("*.png")]
    assert all(r["encoded"] in originals for r in found if r["format"] == b"png")


@pytest.mark.parametrize(("asked", "expected"), [(0, [(20, 24), (300, 280)]), (32, [(32, 38), (34, 32)])])
def test_a_given_shorter_side_is_that_of_all_and_0_keeps_theirs(asked, expected, tmp_path, convert_here):
    folder = _write_photos(tmp_path / "mine", [(20, 24), (300, 280)])
    found = read_split(convert_here(folder, source="folder", resize_shorter=asked), "pets", "train")
    assert sorted({(r["height"], r["width"]) for r in found}) == expected


def test_records_of_another_size_are_refused_with_what_made_them(tmp_path, convert_here):
    folder = _write_photos(tmp_path / "mine", [(20, 24), (30, 28)])
    convert_here(folder, "kept", source="folder", resize_shorter=0)
    with pytest.raises(DataError, match="--resize_shorter=0 there, --resize_shorter=at most 256 now"):
        convert_here(folder, "kept", source="folder")
    convert_here(folder, "default", source="folder")
    convert_here(folder, "default", source="folder")
    with pytest.raises(DataError, match="--resize_shorter=at most 256 there, --resize_shorter=256 now"):
        convert_here(folder, "default", source="folder", resize_shorter=256)


def test_other_sources_keep_all_images_by_default(decathlon, convert_here):
    by_default = shard_bytes(convert_here(decathlon.root, domains=("left",)))
    assert shard_bytes(convert_here(decathlon.root, domains=("left",), resize_shorter=0)) == by_default

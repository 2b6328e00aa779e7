"""The drawn domains are in the converter's layout, the same every time, and their test labels lie apart."""

import dataclasses
import json

import numpy as np
import pytest

from data_prep.demo.domains import DOMAINS
from data_prep.demo.layout import make_demo
from data_prep.plan import DataError
from tfmdl.data.records import DatasetInfo

SMALL = {name: dataclasses.replace(domain, sizes=(30, 26, 27)) for name, domain in DOMAINS.items()}


def _files(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_demo_is_deterministic_converts_and_keeps_its_test_labels_apart(tmp_path, convert_here):
    make_demo(tmp_path / "demo", 0, SMALL)
    make_demo(tmp_path / "again", 0, SMALL)
    make_demo(tmp_path / "seeded", 1, SMALL)
    assert _files(tmp_path / "demo") == _files(tmp_path / "again") != _files(tmp_path / "seeded")
    with pytest.raises(DataError, match="is not empty"):
        make_demo(tmp_path / "demo", 0, SMALL)
    records = convert_here(tmp_path / "demo")
    for name, domain in SMALL.items():
        info = DatasetInfo.load(records, name)
        assert tuple(split.num_examples for split in info.splits.values()) == domain.sizes
        assert info.label_names == list(domain.label_names)
        assert not info.splits["test"].labelled
        labels = json.loads((tmp_path / "demo" / "labels" / f"{name}_test.json").read_text())
        categories = [annotation["category_id"] for annotation in labels["annotations"]]
        assert len(categories) == 27 and set(categories) <= set(info.category_ids)
        # Neither order nor file name tells the label.
        assert categories != sorted(categories)


def test_images_of_a_class_differ():
    for domain in DOMAINS.values():
        random = np.random.default_rng(0)
        first, second = (np.asarray(domain.draw(0, number, random)) for number in range(2))
        assert first.shape == second.shape == (36, 36, 3)
        assert np.abs(first.astype(int) - second).mean() > 5

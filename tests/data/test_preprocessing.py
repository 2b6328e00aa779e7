"""Preprocessing survives its JSON, reads what older versions wrote, and refuses sizes that cannot be."""

import dataclasses
import json

import pytest

from tfmdl.data.preprocessing import Preprocessing


def test_preprocessing_json_round_trip():
    preprocessing = Preprocessing(18, 36, 16, 32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 20, 40)
    assert Preprocessing.from_json(json.loads(json.dumps(dataclasses.asdict(preprocessing)))) == preprocessing


def test_preprocessing_from_before_evaluation_saw_less_than_all():
    fields = dataclasses.asdict(Preprocessing(18, 36, 16, 32, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)))
    del fields["cover_height"], fields["cover_width"]
    assert Preprocessing.from_json(fields).cover_size == (18, 36)


@pytest.mark.parametrize("sizes", [(0, 8, 8, 8, 8, 8), (8, 8, 8, 9, 8, 8), (8, 9, 8, 8, 8, 8)])
def test_an_image_is_not_larger_than_what_it_is_cut_out_of(sizes):
    height, width, train_height, train_width, cover_height, cover_width = sizes
    with pytest.raises(ValueError, match="must be positive and at most `cover_"):
        Preprocessing(height, width, train_height, train_width, (0.5,) * 3, (0.2,) * 3, cover_height, cover_width)

"""Labels of pixels out of records: colours, ink, whole images."""

import shutil

import numpy as np
import pytest

from data_prep.colours import TERMS, colour_terms
from data_prep.concepts import CLEAR_INK, ink, make_concepts
from data_prep.plan import DataError
from tfmdl.dissection.broden import ConceptSet


@pytest.mark.parametrize(
    ("rgb", "term"),
    [
        ((5, 5, 5), "black"),
        ((30, 60, 200), "blue"),
        ((101, 55, 0), "brown"),
        ((128, 128, 128), "grey"),
        ((30, 150, 40), "green"),
        ((249, 115, 6), "orange"),
        ((255, 140, 190), "pink"),
        ((110, 30, 140), "purple"),
        ((220, 10, 10), "red"),
        ((250, 250, 250), "white"),
        ((255, 250, 30), "yellow"),
    ],
)
def test_a_colour_has_the_name_that_people_give_it(rgb, term):
    pixels = np.full((2, 3, 3), rgb, "uint8")
    assert [TERMS[number] for number in np.unique(colour_terms(pixels))] == [term]


def drawn(ground, stroke, noise, rng):
    pixels = np.full((20, 20), ground, float)
    mask = np.zeros((20, 20), bool)
    mask[4:16, 8:11] = True
    pixels[mask] = stroke
    pixels += rng.normal(0, noise, pixels.shape)
    return np.repeat(np.clip(pixels, 0, 255).astype("uint8")[..., None], 3, axis=-1), mask


@pytest.mark.parametrize(("ground", "stroke"), [(20, 220), (220, 20), (90, 130)])
def test_ink_is_what_the_border_has_less_of(ground, stroke, rng):
    pixels, mask = drawn(ground, stroke, 3, rng)
    assert np.array_equal(ink(pixels, light=None), mask)
    assert np.array_equal(ink(pixels, light=stroke > ground), mask)


def test_ink_that_cannot_be_told_is_not_guessed(rng):
    assert ink(drawn(100, 110, 40, rng)[0], light=None) is None
    assert ink(np.full((8, 8, 3), 9, "uint8"), light=None) is None
    assert 0.5 < CLEAR_INK < 1


def test_records_become_labelled_images(data_dir, tmp_path, capsys):
    make_concepts(data_dir, tmp_path / "out", ["tiny", "base"], most=6)
    assert capsys.readouterr().out.splitlines()[0].startswith("tiny: 6 images, object for the whole image")
    concepts = ConceptSet(tmp_path / "out")
    assert len(concepts.images) == 12
    named = [{concepts.concepts[id].name for id in concepts.masks(image)} for image in concepts.images]
    assert all(len(names & {"tiny 0", "tiny 1"}) == 1 for names in named[:6])
    assert all(names & set(TERMS) for names in named)
    whole = concepts.masks(concepts.images[0])
    assert [whole[id].all() for id in whole if concepts.concepts[id].category == "object"] == [True]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"domains": ["tiny"], "split": "test"}, "--split: domain 'tiny' has no labelled split 'test'"),
        ({"domains": ["other"]}, "other"),
        ({}, "holds none of dtd"),
    ],
)
def test_what_cannot_be_labelled_is_named(data_dir, tmp_path, settings, told):
    with pytest.raises(DataError, match=told):
        make_concepts(data_dir, tmp_path / "out", **settings)


def test_a_record_that_cannot_be_read_is_of_the_file_that_is_named(data_dir, tmp_path):
    folder = shutil.copytree(data_dir, tmp_path / "data")
    *_, last = sorted((folder / "base").glob("base-val-*"))
    content = bytearray(last.read_bytes())
    content[-20] ^= 1
    last.write_bytes(content)
    with pytest.raises(DataError, match=f"{last}: a record of split 'val' cannot be read"):
        make_concepts(folder, tmp_path / "out", ["base"])


def test_concepts_are_not_written_over(data_dir, tmp_path):
    (tmp_path / "index.csv").write_text("")
    with pytest.raises(DataError, match="holds concepts already"):
        make_concepts(data_dir, tmp_path, ["tiny"])

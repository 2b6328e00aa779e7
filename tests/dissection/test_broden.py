"""Folders in Broden's layout: what is read, and what is refused by name."""

import csv

import numpy as np
import pytest
from PIL import Image

from tfmdl.dissection.broden import ConceptSet, ConceptWriter


def write_table(path, *rows):
    path.write_text("".join(f"{row}\n" for row in rows))


def write_mask(path, numbers):
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = np.array(numbers)
    codes = np.stack([numbers % 256, numbers // 256, np.full_like(numbers, 9)], axis=-1)
    Image.fromarray(codes.astype("uint8")).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two images: one with a colour mask, two overlapping masks of parts and a texture; one with a scene only."""
    images = tmp_path / "images"
    write_mask(images / "a/color.png", [[1, 1, 0], [300, 300, 300]])
    write_mask(images / "a/part0.png", [[4, 4, 0], [0, 0, 0]])
    write_mask(images / "a/part1.png", [[0, 5, 4], [0, 0, 0]])
    for name, colour in (("a/one.jpg", 200), ("two.jpg", 30)):
        Image.fromarray(np.full((4, 6, 3), colour, "uint8")).save(images / name)
    write_table(tmp_path / "category.csv", "name,first,last,count,frequency", *(f"{c},1,9,2,1" for c in CATEGORIES))
    names = ("1,red", "4,wheel", "5,door", "7,striped", "300,blue", "8,kitchen")
    write_table(tmp_path / "label.csv", "number,name", *names)
    for category, numbers in zip(CATEGORIES, ((1, 300), (4, 5), (7,), (8,)), strict=True):
        rows = (f"{code},{number},name" for code, number in enumerate(numbers, start=1))
        write_table(tmp_path / f"c_{category}.csv", "code,number,name", *rows)
    write_table(
        tmp_path / "index.csv",
        "image,split,ih,iw,sh,sw,color,object,part,texture,scene",
        "a/one.jpg,train,4,6,2,3,a/color.png,,a/part0.png;a/part1.png,7,",
        "two.jpg,val,4,6,2,3,,,,,8",
        "unlabelled.jpg,val,4,6,2,3,,,,,",
    )
    return tmp_path


CATEGORIES = ("color", "part", "texture", "scene")


def test_masks_are_numbers_of_red_and_green_and_labels_of_whole_images(folder):
    concepts = ConceptSet(folder)
    assert concepts.categories == CATEGORIES
    one, two = concepts.images
    found = {concepts.concepts[id].name: mask.tolist() for id, mask in concepts.masks(one).items()}
    assert found == {
        "red": [[True, True, False], [False] * 3],
        "blue": [[False] * 3, [True] * 3],
        "wheel": [[True, True, True], [False] * 3],
        "door": [[False, True, False], [False] * 3],
        "striped": [[True] * 3] * 2,
    }
    assert [concepts.concepts[id].name for id in concepts.masks(two)] == ["kitchen"]
    assert set(one.labels) == {"color", "part", "texture"} and set(two.labels) == {"scene"}
    assert concepts.pixels(one).shape == (4, 6, 3)


def spoil(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("index.csv", ",texture,", ",textures,", r"index\.csv: has no column 'texture'"),
        ("index.csv", "image,split", "file,split", r"index\.csv: has no column 'image'"),
        ("label.csv", "number,name", "number,title", r"label\.csv: has no column 'name'"),
        ("c_part.csv", "number", "nr", r"c_part\.csv: has no column 'number'"),
        ("c_part.csv", "1,4,name", "1,77,name", r"c_part\.csv: number 77 is not in label\.csv"),
        ("index.csv", "4,6,2,3", "4,6,two,3", r"column 'sh' must be a number .* 'two' in the row of 'a/one\.jpg'"),
        ("index.csv", "4,6,2,3", "4,6,0,3", r"image a/one\.jpg has a size of 0"),
        ("index.csv", "two.jpg", "../two.jpg", r"'\.\./two\.jpg' names no file in images/"),
        ("index.csv", ",7,\n", "\n", r"index\.csv: has a row with more or fewer fields"),
        ("category.csv", "part,", "color,", r"category\.csv: categories are words, each once; received 'color'"),
    ],
)
def test_a_table_that_is_not_right_is_named(folder, file, old, new, told):
    spoil(folder / file, old, new)
    with pytest.raises(ValueError, match=told):
        ConceptSet(folder)


@pytest.mark.parametrize("file", ["index.csv", "category.csv", "label.csv", "c_scene.csv"])
def test_a_table_that_is_not_there_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=file):
        ConceptSet(folder)


def test_a_mask_that_is_not_there_is_named_with_its_image(folder):
    (folder / "images/a/part1.png").unlink()
    concepts = ConceptSet(folder)
    with pytest.raises(FileNotFoundError, match=r"part1\.png: not there, but in index\.csv with image a/one\.jpg"):
        concepts.masks(concepts.images[0])


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ([[1, 1, 1, 1]], r"color\.png: has 1 x 4 pixels; expected 2 x 3, as index\.csv says of a/one\.jpg"),
        ([[1, 1, 0], [0, 4, 0]], r"color\.png: has number 4, which c_color\.csv does not list"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(folder, numbers, told):
    write_mask(folder / "images/a/color.png", numbers)
    concepts = ConceptSet(folder)
    with pytest.raises(ValueError, match=told):
        concepts.masks(concepts.images[0])


def test_what_is_no_image_is_named(folder):
    (folder / "images/a/one.jpg").write_text("no image")
    concepts = ConceptSet(folder)
    with pytest.raises(ValueError, match=r"one\.jpg: cannot be read as an image"):
        concepts.pixels(concepts.images[0])


def test_what_is_written_is_read_again(tmp_path, rng):
    pixels = rng.integers(0, 256, (5, 7, 3), "uint8")
    left, all_but_a_row = np.zeros((5, 7), bool), np.ones((5, 7), bool)
    left[:, :3], all_but_a_row[0] = True, False
    writer = ConceptWriter(tmp_path, ("object", "part", "texture"))
    # Parts that overlap need a mask each; "bolt" is an object and a part.
    writer.add("x/1", "val", pixels, {"part": {"left": left, "bolt": all_but_a_row}, "texture": {"woven": None}})
    assert not (tmp_path / "index.csv").exists()  # what has an index is whole
    writer.add("x/2", "val", pixels, {"object": {"bolt": left}})
    writer.close()
    concepts = ConceptSet(tmp_path)
    first, second = concepts.images
    assert np.array_equal(concepts.pixels(first), pixels)
    found = {concepts.concepts[id].name: mask for id, mask in concepts.masks(first).items()}
    assert {name: mask.tolist() for name, mask in found.items()} == {
        "left": left.tolist(),
        "bolt": all_but_a_row.tolist(),
        "woven": np.ones((5, 7), bool).tolist(),
    }
    assert [concepts.concepts[id].category for id in concepts.masks(second)] == ["object"]
    with open(tmp_path / "label.csv", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert rows["bolt"]["category"] == "part(1);object(1)" and rows["bolt"]["frequency"] == "2"
    assert float(rows["bolt"]["coverage"]) == pytest.approx(4 / 5 + 3 / 7, abs=1e-3)

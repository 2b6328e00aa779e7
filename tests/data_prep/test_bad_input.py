"""Each fault of the input, through the real command: one line that names it, and nothing left."""

import io
import os
import struct
import tarfile

import numpy as np
import pytest
from conftest import conversion, encode
from reading import read_split

from data_prep.conversion import convert
from data_prep.verification import verify
from tfmdl.data.records import DatasetInfo, converted_domains


def _edit(fake, split, change):
    contents = fake.annotations("left", split)
    change(contents)
    fake.write_annotations("left", split, contents)


def _missing(fake, flags):
    path = fake.image("left", "train", 2)
    path.unlink()
    return path.name, "is not there"


def _truncated(fake, flags):
    path = fake.image("left", "train", 2)
    path.write_bytes(path.read_bytes()[:-200])
    return path.name, "truncated or damaged"


def _no_image(fake, flags):
    path = fake.image("left", "val", 1)
    path.write_bytes(b"<html>404</html>")
    return path.name, "is no image"


def _huge(fake, flags):
    path = fake.image("left", "train", 0)
    encoded = bytearray(path.read_bytes())
    start = encoded.index(b"\xff\xc0") + 5
    encoded[start : start + 4] = struct.pack(">HH", 20_000, 10_000)
    path.write_bytes(bytes(encoded))
    return path.name, "claims 10000x20000 pixels", "100,000,000"


def _label_outside(fake, flags):
    _edit(fake, "train", lambda c: c["annotations"][0].update(category_id=10_000_099))
    return "left_train.json", "10000099", "outside the 3 categories"


def _id_twice(fake, flags):
    _edit(fake, "train", lambda c: c["images"][1].update(id=c["images"][0]["id"]))
    return "left_train.json", "image_id 10200001 occurs twice"


def _id_in_two_splits(fake, flags):
    def change(contents):
        contents["images"][0]["id"] = contents["annotations"][0]["image_id"] = 10_200_001

    _edit(fake, "val", change)
    return "image_id 10200001 occurs twice", "train/left/train", "val/left/val"


def _escaping_name(fake, flags):
    _edit(fake, "train", lambda c: c["images"][0].update(file_name="data/left/../../secret.jpg"))
    return "left_train.json", "data/left/../../secret.jpg", "leaves the folder"


def _absolute_name(fake, flags):
    _edit(fake, "train", lambda c: c["images"][0].update(file_name="/etc/passwd"))
    return "left_train.json", "/etc/passwd", "leaves the folder"


def _symbolic_link(fake, flags):
    path = fake.image("left", "train", 0)
    target = path.rename(fake.root / "elsewhere.jpg")
    path.symlink_to(target)
    return path.name, "is a link"


def _empty_split(fake, flags):
    _edit(fake, "val", lambda c: c.update(images=[], annotations=[]))
    return "left", "split 'val' is empty"


def _tar_with(member, contents=b""):
    def spoil(fake, flags):
        with tarfile.open(fake.root / "data" / "left.tar", "w") as tar:
            tar.add(fake.root / "data" / "left", "left")
            member.size = len(contents)
            tar.addfile(member, io.BytesIO(contents))
        os.rename(fake.root / "data" / "left", fake.root / "unpacked")
        what = "is a link" if member.linkname else "leaves the folder"
        return "left.tar", member.name, what

    return spoil


def _member(name, kind=tarfile.REGTYPE, linkname=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, linkname
    return member


def _claim(fake, flags):
    member = _member("left/claims.jpg")
    member.size = 10**20
    archive = fake.tar_of("left")[:-1024]
    (fake.root / "data" / "left.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + archive)
    os.rename(fake.root / "data" / "left", fake.root / "unpacked")
    return "left.tar", "left/claims.jpg", "claims 100,000,000,000,000,000,000 bytes"


def _checksum(fake, flags):
    release = fake.to_release(fake.root / "release", nested=True)
    flags["input_dir"] = release.root
    archive = release.root / "decathlon-1.0-data.tar.gz"
    spoiled = bytearray(archive.read_bytes())
    spoiled[-5] ^= 1
    archive.write_bytes(spoiled)
    return "decathlon-1.0-data.tar.gz", "damaged", "CRC"


def _json(split, change, *words):
    """Edits the contents of an annotation file, or puts a text in its place."""

    def spoil(fake, flags):
        if callable(change):
            _edit(fake, split, change)
        else:
            fake.annotation_path("left", split).write_bytes(change)
        return f"left_{split}.json", *words

    return spoil


def _annotations_are(make, *words):
    def spoil(fake, flags):
        path = fake.annotation_path("left", "train")
        path.unlink()
        make(path)
        return path.name, *words

    return spoil


def _endless(path):
    with open(path, "wb") as file:
        file.truncate(1 << 40)


def _first(key, **values):
    return lambda contents: contents[key][0].update(values)


def _own_folder(name, *words):
    """Has a folder of one's own converted, whose image is called `name`."""

    def spoil(fake, flags):
        flags |= {"source": "folder", "input_dir": fake.root / "own"}
        del flags["domains"]
        path = fake.root / "own" / os.fsdecode(name)
        path.parent.mkdir(parents=True)
        path.write_bytes(fake.image("left", "train", 0).read_bytes())
        return words

    return spoil


def _flag(name, value, *words):
    def spoil(fake, flags):
        flags[name] = os.fsdecode(value)
        return words

    return spoil


def _member_not_utf8(fake, flags):
    return _tar_with(_member("left/\udcff.jpg"), b"x")(fake, flags)[0], "left/\\udcff.jpg", "is not UTF-8"


def _info(change, *words):
    """Puts a spoiled dataset_info.json in the place of the output."""

    def spoil(fake, flags):
        path = flags["output_dir"] / "left" / "dataset_info.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(change)
        return str(path), *words, "--overwrite"

    return spoil


def _one_colour(fake, flags):
    for number in range(9):
        fake.image("left", "train", number).write_bytes(encode(np.full((8, 8, 3), 7, np.uint8), "PNG"))
    return "left", "all pixels of train are alike"


def _full_disk(file, room):
    """Lets no file grow larger than the train shard will be, less `room` bytes."""

    def spoil(fake, flags):
        other = fake.root / "other"
        convert(conversion(fake.root, other, domains=("left",)))
        shard = DatasetInfo.load(other, "left").splits["train"].shards[0]
        flags["max_file_bytes"] = shard.num_bytes - room
        return file, "File too large"

    return spoil


FAULTS = {
    "missing file": _missing,
    "truncated image": _truncated,
    "not an image": _no_image,
    "more than 100 megapixels": _huge,
    "label outside the categories": _label_outside,
    "image_id twice in a split": _id_twice,
    "image_id in two splits": _id_in_two_splits,
    "file_name with ..": _escaping_name,
    "absolute file_name": _absolute_name,
    "symbolic link": _symbolic_link,
    "empty split": _empty_split,
    "tar member with ..": _tar_with(_member("left/../../secret.jpg"), b"x"),
    "absolute tar member": _tar_with(_member("/etc/cron.d/x"), b"x"),
    "symbolic link in tar": _tar_with(_member("left/link.jpg", tarfile.SYMTYPE, "/etc/passwd")),
    "hard link in tar": _tar_with(_member("left/link.jpg", tarfile.LNKTYPE, "left/test/000001.jpg")),
    "tar member of 10**20 bytes": _claim,
    "tar member not in UTF-8": _member_not_utf8,
    "gzip with another checksum": _checksum,
    "JSON cut off": _json("train", b"{", "is no JSON"),
    "JSON not in UTF-8": _json("train", b'{"images": ["\xff"]}', "is no JSON"),
    "JSON too deep": _json("val", b"[" * 100_000, "is no JSON", "nests too deep"),
    "JSON with NaN": _json("val", _first("images", width=float("nan")), "received NaN"),
    "JSON with a key twice": _json("val", b'{"images": [], "images": []}', "the key 'images' stands twice"),
    "a pipe for annotations": _annotations_are(os.mkfifo, "is not a file"),
    "annotations without end": _annotations_are(_endless, "expected at most 1,073,741,824 bytes"),
    "JSON that is a list": _json("train", b"[]", "a list 'images'"),
    "annotations: 5": _json("train", lambda c: c.update(annotations=5), "a list 'annotations'", "received 5"),
    "annotations: {}": _json("test_stripped", lambda c: c.update(annotations={}), "a list 'annotations'"),
    "no categories": _json("val", lambda c: c.update(categories=[]), "lists no categories"),
    "image: null": _json("train", lambda c: c.update(images=[None]), "'images'", "id None; expected int"),
    "id a text": _json("train", _first("images", id="1"), "'images'", "id '1'; expected int"),
    "id a fraction": _json("train", _first("annotations", image_id=1.5), "image_id 1.5; expected int"),
    "id of 65 bits": _json("train", _first("images", id=2**64), "id 18446744073709551616", "64 bits"),
    "category_id of 64 bits": _json("val", _first("categories", id=2**63), "id 9223372036854775808", "64 bits"),
    "file_name a number": _json("train", _first("images", file_name=5), "file_name 5; expected str"),
    "file_name not in UTF-8": _json("train", _first("images", file_name="data/left/\ud800"), "\\ud800", "UTF-8"),
    "class a list": _json("train", _first("categories", name=["x"]), "name ['x']; expected str"),
    "class not in UTF-8": _json("train", _first("categories", name="\ud800"), "name '\\ud800'", "UTF-8"),
    "a class of val renamed": _json(
        "val", _first("categories", name="x"), "category_id 10000002 is 'x' here, and 'class 9'", "left_train.json"
    ),
    "a class of test missing": _json(
        "test_stripped", lambda c: c["categories"].pop(), "category_id 10000001 is not there here, and 'class 10'"
    ),
    "image's name not in UTF-8": _own_folder(b"pets/cat/\xff.jpg", "own/pets", "cat/\\udcff.jpg", "UTF-8"),
    "class folder not in UTF-8": _own_folder(b"pets/\xff/1.jpg", "own/pets", "\\udcff/1.jpg", "UTF-8"),
    "domain's folder not in UTF-8": _own_folder(b"\xff/cat/1.jpg", "domain's name", "\\udcff"),
    "domain's folder with markup": _own_folder(b"a[red]\n/cat/1.jpg", "domain's name", "received 'a[red]\\n'"),
    "image's name with markup": _own_folder(b"pets/cat/[red]\n.gif/1.jpg", "pets/cat/[red]\\n.gif: is not a file"),
    "--domains not in UTF-8": _flag("domains", b"\xff", "--domains", "\\udcff", "UTF-8"),
    "--input_dir not in UTF-8": _flag("input_dir", b"/tmp/\xff", "--input_dir", "/tmp/\\udcff", "UTF-8"),
    "--output_dir not in UTF-8": _flag("output_dir", b"/tmp/\xff", "--output_dir", "/tmp/\\udcff", "UTF-8"),
    "dataset_info.json cut off": _info(b'{"name": "le', "is no JSON"),
    "images of one colour": _one_colour,
    "no room for the spool": _full_disk("/train.spool", 1000),
    "no room for the shard": _full_disk("/left-train-00000-of-00001.tfrecord", 8),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_and_leaves_nothing(fault, decathlon, run_tool, tmp_path):
    records = tmp_path / "records"
    flags = {"source": "decathlon", "input_dir": decathlon.root, "output_dir": records, "domains": "left"}
    words = FAULTS[fault](decathlon, flags)
    limit = flags.pop("max_file_bytes", None)
    before = sorted(records.rglob("*"))
    done = run_tool("convert.py", *(f"--{name}={value}" for name, value in flags.items()), max_file_bytes=limit)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: "), done.stderr
    for word in words:
        assert word in done.stderr
    assert sorted(records.rglob("*")) == before


def test_an_unknown_domain_is_told_with_the_known_ones(decathlon, run_tool, tmp_path):
    done = run_tool(
        "convert.py",
        "--source=decathlon",
        f"--input_dir={decathlon.root}",
        f"--output_dir={tmp_path / 'records'}",
        "--domains=left,rihgt",
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "unknown domain 'rihgt'" in done.stderr and "imagenet12, left" in done.stderr
    assert not (tmp_path / "records").exists()


def test_skip_leaves_out_bad_images_and_lists_them_and_finished_domains_stay(decathlon, run_tool, tmp_path):
    decathlon.add_domain("all-bad", 7)
    for split, size in (("train", 9), ("val", 4)):
        for number in range(size):
            decathlon.image("all-bad", split, number).write_bytes(b"no image")
    spoiled = [decathlon.image("left", "train", i) for i in (2, 3, 6)]
    spoiled[0].unlink()
    spoiled[1].write_bytes(spoiled[1].read_bytes()[:-200])
    spoiled[2].write_bytes(b"RIFF0000WEBP")
    records = tmp_path / "records"
    flags = ("convert.py", "--source=decathlon", f"--input_dir={decathlon.root}", f"--output_dir={records}")
    done = run_tool(*flags, "--domains=left,all-bad", "--on_error=skip")
    # No image of the second domain is good, which no option can skip; the first one is whole.
    assert done.returncode == 1 and "split 'train' is empty" in done.stderr
    assert "left out 3 bad images" in done.stdout
    assert converted_domains(records) == os.listdir(records) == ["left"]
    info = DatasetInfo.load(records, "left")
    names = [path.relative_to(decathlon.root / "data").as_posix() for path in spoiled]
    assert sorted(image["file"] for image in info.skipped) == sorted(names)
    assert all(image["split"] == "train" and image["reason"] for image in info.skipped)
    assert info.splits["train"].num_examples == len(read_split(records, "left", "train")) == 6
    assert verify(records, ["left"], 1)
    done = run_tool(*flags, "--domains=left", "--on_error=fail")
    assert done.returncode == 1 and spoiled[0].name in done.stderr


def test_a_damaged_archive_is_named(decathlon, convert_here, tmp_path):
    release = decathlon.to_release(tmp_path / "release", nested=True)
    archive = release.root / "decathlon-1.0-data.tar.gz"
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(ValueError, match="decathlon-1.0-data.tar.gz.*damaged"):
        convert_here(release.root, domains=("left",))

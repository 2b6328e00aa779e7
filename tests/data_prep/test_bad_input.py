"""Each fault of the input, through the real command: one line that names it, and nothing left."""

import io
import os
import struct
import tarfile

import pytest
from reading import read_split

from data_prep.verification import verify
from tfmdl.data.records import DatasetInfo, converted_domains


def _edit(fake, split, change):
    contents = fake.annotations("left", split)
    change(contents)
    fake.write_annotations("left", split, contents)


def _missing(fake):
    path = fake.image("left", "train", 2)
    path.unlink()
    return path.name, "is not there"


def _truncated(fake):
    path = fake.image("left", "train", 2)
    path.write_bytes(path.read_bytes()[:-200])
    return path.name, "truncated or damaged"


def _no_image(fake):
    path = fake.image("left", "val", 1)
    path.write_bytes(b"<html>404</html>")
    return path.name, "is no image"


def _huge(fake):
    path = fake.image("left", "train", 0)
    encoded = bytearray(path.read_bytes())
    start = encoded.index(b"\xff\xc0") + 5
    encoded[start : start + 4] = struct.pack(">HH", 20_000, 10_000)
    path.write_bytes(bytes(encoded))
    return path.name, "claims 10000x20000 pixels", "100,000,000"


def _label_outside(fake):
    _edit(fake, "train", lambda c: c["annotations"][0].update(category_id=10_000_099))
    return "left_train.json", "10000099", "outside the 3 categories"


def _id_twice(fake):
    _edit(fake, "train", lambda c: c["images"][1].update(id=c["images"][0]["id"]))
    return "left_train.json", "image_id 10200001 occurs twice"


def _id_in_two_splits(fake):
    def change(contents):
        contents["images"][0]["id"] = contents["annotations"][0]["image_id"] = 10_200_001

    _edit(fake, "val", change)
    return "image_id 10200001 occurs twice", "train/left/train", "val/left/val"


def _escaping_name(fake):
    _edit(fake, "train", lambda c: c["images"][0].update(file_name="data/left/../../secret.jpg"))
    return "left_train.json", "data/left/../../secret.jpg", "leaves the folder"


def _absolute_name(fake):
    _edit(fake, "train", lambda c: c["images"][0].update(file_name="/etc/passwd"))
    return "left_train.json", "/etc/passwd", "leaves the folder"


def _symbolic_link(fake):
    path = fake.image("left", "train", 0)
    target = path.rename(fake.root / "elsewhere.jpg")
    path.symlink_to(target)
    return path.name, "is a link"


def _empty_split(fake):
    _edit(fake, "val", lambda c: c.update(images=[], annotations=[]))
    return "left", "split 'val' is empty"


def _tar_with(member, contents=b""):
    def spoil(fake):
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
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_and_leaves_nothing(fault, decathlon, run_tool, tmp_path):
    words = FAULTS[fault](decathlon)
    records = tmp_path / "records"
    done = run_tool(
        "convert.py",
        "--source=decathlon",
        f"--input_dir={decathlon.root}",
        f"--output_dir={records}",
        "--domains=left",
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr
    assert not records.exists() or os.listdir(records) == []


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


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ("{", "is no JSON"),
        ("[]", "a list 'images'"),
        ('{"images": [{"id": "1"}], "categories": [{"id": 1, "name": "a"}]}', "id '1'; expected int"),
        ('{"images": [], "categories": []}', "lists no categories"),
    ],
)
def test_a_malformed_annotation_file_is_named(contents, words, decathlon, convert_here):
    decathlon.annotation_path("left", "train").write_text(contents)
    with pytest.raises(ValueError, match=f"annotations/left_train.json.*{words}"):
        convert_here(decathlon.root, domains=("left",))


def test_a_damaged_archive_is_named(decathlon, convert_here, tmp_path):
    release = decathlon.to_release(tmp_path / "release", nested=True)
    archive = release.root / "decathlon-1.0-data.tar.gz"
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(ValueError, match="decathlon-1.0-data.tar.gz.*damaged"):
        convert_here(release.root, domains=("left",))

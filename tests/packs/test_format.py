"""Files say what they are; what is damaged, something else or not there is refused by name."""

import dataclasses
import json

import numpy as np
import pytest
from fleets import PREPROCESSING
from safetensors.numpy import load_file, save_file
from small_network import small

from tfmdl.files import fingerprint, read_tensors, write_tensors
from tfmdl.packs import compose, pack_path, read_packs, read_trunk


def test_the_header_says_what_a_pack_is(fleet):
    pack = fleet.pack("individual-added", "added")
    assert (pack.domain, pack.label_names, pack.category_ids) == ("added", ["added 0", "added 1"], [10, 11])
    assert (pack.preprocessing, pack.accuracy) == (PREPROCESSING, 0.5)
    assert pack.architecture == small("individual")
    assert pack.trunk_fingerprint == fleet.trunk().fingerprint


def test_where_a_run_writes_a_pack_all_packs_of_the_run_are_read(fleet):
    path = pack_path(fleet.folder / "individual-added", "added")
    assert path == fleet.folder / "individual-added" / "packs" / "added.safetensors"
    assert [pack.path for pack in read_packs(fleet.folder / "individual-added")] == [str(path)]


def test_masks_are_packed_as_bits(fleet):
    pack = fleet.pack("piggyback-added", "added")
    masks = {slot: value for slot, value in pack.tensors.items() if slot.endswith("/mask")}
    assert len(masks) == 7  # convolutions of the small network
    for slot, value in masks.items():
        weights = fleet.trunk("plain").tensors[slot.removesuffix("mask") + "kernel"].size
        assert (value.dtype, value.shape) == (np.uint8, (-(-weights // 8),))
    wrong = {**pack.tensors, "backbone/stem_conv/mask": np.zeros(3, "uint8")}
    with pytest.raises(ValueError, match=r"stem_conv/mask has shape \(3,\), the model needs \(7,\)"):
        compose(fleet.trunk("plain"), [dataclasses.replace(pack, tensors=wrong)])


def test_the_fingerprint_is_of_names_types_shapes_and_values():
    tensors = {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros(2)}
    changed = (
        {"a": tensors["a"], "c": tensors["b"]},
        {**tensors, "a": tensors["a"].astype("float32")},
        {**tensors, "a": tensors["a"].reshape(3, 2)},
        {**tensors, "b": np.array([0.0, 1e-9])},
    )
    assert fingerprint(dict(reversed(tensors.items()))) == fingerprint(tensors)
    assert len({fingerprint(tensors), *map(fingerprint, changed)}) == 5
    strided = np.arange(12.0).reshape(2, 6)[:, ::2]
    assert fingerprint({"a": strided}) == fingerprint({"a": strided.copy()})


@pytest.mark.parametrize("spoil", ["truncated", "flipped", "empty", "text", "foreign", "header"])
@pytest.mark.parametrize("file", ["base/trunk.safetensors", "individual-added/packs/added.safetensors"])
def test_a_damaged_file_is_refused_by_name(file, spoil, copied):
    path = copied.folder / file
    contents = bytearray(path.read_bytes())
    if spoil == "foreign":
        save_file(load_file(path), path)
    elif spoil == "header":
        tensors, header = read_tensors(path)
        del header["architecture"]
        write_tensors(path, tensors, header)
    else:
        contents[-100] ^= 4
        spoiled = {"truncated": contents[:-1], "flipped": contents, "empty": b"", "text": b"hello" * 99}
        path.write_bytes(spoiled[spoil])
    with pytest.raises(ValueError, match=str(path)) as caught:
        compose(copied.trunk(), [copied.pack("individual-added", "added")])
    assert "\n" not in str(caught.value)


def test_a_pack_is_no_trunk_and_a_trunk_no_pack(fleet):
    trunk, pack = fleet.folder / "base" / "trunk.safetensors", fleet.folder / "base" / "packs" / "base.safetensors"
    with pytest.raises(ValueError, match=f"{pack}: is a pack, not a trunk"):
        read_trunk(pack)
    with pytest.raises(ValueError, match=f"{trunk}: is a trunk, not a pack"):
        read_packs(trunk)


def test_what_is_not_there_is_named(fleet, tmp_path):
    added = fleet.folder / "individual-added"
    with pytest.raises(FileNotFoundError, match=f"{added}: has no trunk.safetensors"):
        read_trunk(added)
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}: has no packs"):
        read_packs(tmp_path)
    for read in (read_trunk, read_packs):
        with pytest.raises(FileNotFoundError, match=str(tmp_path / "nowhere")):
            read(tmp_path / "nowhere")


def test_a_write_that_was_cut_short_leaves_the_file_before_it(copied):
    path = copied.folder / "base" / "trunk.safetensors"
    path.with_name(path.name + ".partial").write_bytes(path.read_bytes()[:1000])
    before = copied.trunk().fingerprint
    assert read_trunk(copied.folder / "base").fingerprint == before
    assert [pack.domain for pack in read_packs(copied.folder / "base")] == ["base"]
    assert json.loads((copied.folder / "base" / "config.json").read_text())

"""Files are whole or refused: every byte of a file of tensors counts, and a full disk leaves what was there before."""

import fcntl
import json
import re

import numpy as np
import pytest
from full_disk import files_of_at_most
from safetensors.numpy import save_file

from tfmdl.files import fingerprint, is_locked, locked, naming, read_json, read_tensors, write_json, write_tensors

TENSORS = {"b": np.arange(6, dtype="float32").reshape(2, 3), "a": np.array(0.5, "float32"), "c": np.zeros(0, "uint8")}
HEADER = {"kind": "pack", "label_names": ["stop", "grün"], "accuracy": 0.5}


def test_tensors_and_header_come_back(tmp_path):
    path = tmp_path / "new" / "file.safetensors"
    write_tensors(path, TENSORS, HEADER)
    tensors, header = read_tensors(path)
    assert header == HEADER and list(tensors) == ["a", "b", "c"]
    for name, value in TENSORS.items():
        assert (tensors[name].dtype, tensors[name].shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(tensors[name], value)
    first = path.read_bytes()
    write_tensors(path, TENSORS, HEADER)
    assert path.read_bytes() == first and [file.name for file in path.parent.iterdir()] == [path.name]


def test_every_bit_of_a_file_is_vouched_for(tmp_path, rng):
    path = tmp_path / "file.safetensors"
    write_tensors(path, TENSORS, HEADER)
    whole = path.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_tensors(path)
    for changed in (whole[:-1], whole + b"\0", whole[:100], b""):
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_tensors(path)


def test_what_was_written_before_there_was_a_hash_is_read_with_a_warning(tmp_path):
    path = tmp_path / "file.safetensors"
    header = {**HEADER, "fingerprint": fingerprint(TENSORS)}
    save_file(TENSORS, path, {"tfmdl": json.dumps(header)})
    with pytest.warns(UserWarning, match=f"{path}: of an earlier version.* typed again, writes it anew"):
        tensors, found = read_tensors(path)
    assert found == HEADER and fingerprint(tensors) == header["fingerprint"]
    save_file({**TENSORS, "a": np.array(0.25, "float32")}, path, {"tfmdl": json.dumps(header)})
    with pytest.raises(ValueError, match=f"{path}: damaged, its tensors are not those"):
        read_tensors(path)


def test_a_large_file_of_other_origin_is_not_read(tmp_path):
    path = tmp_path / "video"
    with open(path, "wb") as file:
        file.write((30).to_bytes(8, "little") + b'{"__metadata__":{"other":"x"}}')
        file.truncate(1 << 40)  # takes no space, but would no memory hold
    with pytest.raises(ValueError, match=f"{path}: not a file of this tool"):
        read_tensors(path)


def test_what_goes_on_behind_its_tensors_is_not_read(tmp_path):
    path = tmp_path / "file.safetensors"
    write_tensors(path, TENSORS, HEADER)
    size = path.stat().st_size
    with open(path, "ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=f"{path}: damaged, it has 1,099,511,627,776 bytes .* tells of {size:,}"):
        read_tensors(path)


def test_a_header_that_says_two_things_is_refused(tmp_path):
    path = tmp_path / "file.safetensors"
    header = {**HEADER, "fingerprint": fingerprint(TENSORS)}
    save_file(TENSORS, path, {"tfmdl": json.dumps(header)[:-1] + ', "kind": "trunk"}'})
    with pytest.raises(ValueError, match=f"{path}: .*the key 'kind' stands twice"):
        read_tensors(path)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_tensors(path, {"a": np.zeros(9999)}, HEADER),
        lambda path: write_json(path, list(range(9999))),
    ],
)
def test_a_full_disk_leaves_what_was_there(write, tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with files_of_at_most(4096), pytest.raises(OSError, match=re.escape(f"File too large: '{path}'")):
        write(path)
    assert [file.name for file in tmp_path.iterdir()] == ["file"] and path.read_text() == "before"
    write(path)
    assert path.stat().st_size > 4096


@pytest.mark.parametrize("content", ["", "{", "[1]", "3", '{"a": NaN}', '{"a":' * 9999, "\udcff"])
def test_what_is_no_json_object_is_named(content, tmp_path):
    path = tmp_path / "file.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=f"^{path}: ") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def test_an_error_that_says_all_in_its_text_keeps_it(tmp_path):
    with pytest.raises(OSError, match="^1: exists already$"), naming(tmp_path / "1"):
        raise FileExistsError("1: exists already")


def test_a_lock_is_seen_and_those_who_look_are_not(tmp_path):
    assert not is_locked(tmp_path)
    with locked(tmp_path, "test"):
        assert is_locked(tmp_path)
    with open(tmp_path / ".lock") as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # another process, which looks at this moment
        assert not is_locked(tmp_path)

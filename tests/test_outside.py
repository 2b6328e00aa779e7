"""JSON that says two things is refused, and so are files that no memory could hold."""

import pytest

from tfmdl.files import read_json
from tfmdl.outside import parse_json


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', b'[{"b": {"x": 0, "a": 1, "a": 2}}]'])
def test_a_key_that_stands_twice_is_refused(text):
    with pytest.raises(ValueError, match="file.json: .*the key 'a' stands twice in one object"):
        parse_json(text, "file.json")


def test_a_file_without_end_is_not_read(tmp_path):
    path = tmp_path / "config.json"
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=f"{path}: expected at most 268,435,456 bytes; received 1,099,511,627,776"):
        read_json(path)

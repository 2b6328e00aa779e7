"""`dataset_info.json` is read only as it was written."""

import json

import pytest
from small_domains import write_domain

from tfmdl.data.records import DatasetInfo


@pytest.fixture
def info_file(tmp_path):
    write_domain(tmp_path, "tiny", {"train": 4, "val": 2})
    return tmp_path / "tiny" / "dataset_info.json"


def _load(path):
    return DatasetInfo.load(path.parents[1], path.parent.name)


def _leaves(value):
    """Yields a function for every number, string and truth value of a JSON content, which changes it in place."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, dict | list):
            yield from _leaves(inner)
        else:
            changed = f"{inner}x" if isinstance(inner, str) else not inner if isinstance(inner, bool) else inner + 0.125
            yield lambda key=key, changed=changed: value.__setitem__(key, changed)


def test_an_edit_of_any_value_is_refused(info_file):
    contents = json.loads(info_file.read_text())
    contents |= {"source": {"kind": "folder", "cut": {"val": "a half"}}, "inputs": {"a.tar": "0" * 64}}
    contents |= {"options": {"seed": 0, "splits": ["train"]}, "skipped": [{"split": "a", "file": "b", "reason": "c"}]}
    del contents["sha256"]
    info_file.write_text(json.dumps(contents))
    _load(info_file).save(info_file.parent)
    text = info_file.read_text()
    info_file.write_text(json.dumps(json.loads(text), indent=4))  # in another layout it is still the same
    assert _load(info_file).options["splits"] == ["train"]
    number = sum(1 for _ in _leaves(json.loads(text)))
    assert number > 40
    for index in range(number):
        contents = json.loads(text)
        list(_leaves(contents))[index]()
        info_file.write_text(json.dumps(contents))
        with pytest.raises(ValueError, match="dataset_info.json"):
            _load(info_file)
    contents = json.loads(text)
    contents["splits"] = dict(reversed(contents["splits"].items()))
    info_file.write_text(json.dumps(contents))
    with pytest.raises(ValueError, match="was edited or damaged"):
        _load(info_file)


def test_what_an_earlier_version_wrote_is_read(info_file):
    contents = json.loads(info_file.read_text())
    expected = _load(info_file)
    del contents["sha256"]
    info_file.write_text(json.dumps(contents))
    assert _load(info_file) == expected


# What an earlier version cannot have written, by the value that is put in and what the error must name.
BAD_FIELDS = [
    ("name", "other", "name: expected 'tiny', as the folder; received 'other'"),
    ("name", 7, "name: expected a string"),
    ("label_names", [], "label_names: expected at least one"),
    ("label_names", ["a", "\ud800"], "label_names: expected strings in UTF-8"),
    ("label_names", ["a", None], "label_names"),
    ("label_names", ["a", "b", "c"], "category_ids: expected 3 integers"),
    ("category_ids", [70], "category_ids: expected 2 integers"),
    ("category_ids", [80, 70], "ascending, one per class; received [80, 70]"),
    ("category_ids", [70, 70], "category_ids"),
    ("category_ids", [70, 2**63], "category_ids"),
    ("category_ids", [True, 70], "category_ids"),
    ("category_ids", 5, "category_ids: expected a list; received 5"),
    ("splits", {}, "splits: expected some of train, val, test"),
    ("splits", [], "splits: expected an object"),
    ("splits", {"dev": {}}, "received ['dev']"),
    ("splits.val", None, "splits: val: expected an object of num_examples"),
    ("splits.val.num_examples", 3, "splits: val: per_class: expected 3 images in all"),
    ("splits.val.num_examples", "2", "splits: val: num_examples: expected an integer"),
    ("splits.val.labelled", 1, "splits: val: labelled: expected true or false"),
    ("splits.val.labelled", False, "splits: val: per_class: expected no image"),
    ("splits.val.per_class", [2], "splits: val: per_class: expected 2 counts"),
    ("splits.val.per_class", [3, -1], "splits: val: per_class: expected 2 counts"),
    ("splits.val.shards", [], "splits: val: shards: expected at least one"),
    ("splits.val.shards.0", 5, "splits: val: shards: 0: expected an object of file"),
    ("splits.val.shards.0.file", "../base/tiny-val-00000-of-00002.tfrecord", "shards: 0: file: expected 'tiny-val-0"),
    ("splits.val.shards.0.file", "tiny-train-00000-of-00002.tfrecord", "shards: 0: file: expected 'tiny-val-0"),
    ("splits.val.shards.0.num_examples", -1, "shards: 0: num_examples: expected a positive integer"),
    ("splits.val.shards.0.num_examples", 2, "num_examples: expected 3, as in its shards; received 2"),
    ("splits.val.shards.0.num_bytes", 1.5, "shards: 0: num_bytes: expected a positive integer"),
    ("splits.val.shards.0.sha256", "0", "shards: 0: sha256: expected a SHA-256; received '0'"),
    ("pixel_mean", [0.5, float("nan"), 0.5], "is no JSON (expected numbers; received NaN)"),
    ("pixel_mean", [0.5, 0.5], "pixel_mean: expected three numbers"),
    ("pixel_mean", [0.5, 1.5, 0.5], "pixel_mean: expected three numbers from 0.0 to 1.0"),
    ("pixel_std", [0.5, 0.0, 0.5], "pixel_std: expected three numbers"),
    ("pixel_std", [0.5, "0.2", 0.5], "pixel_std: expected three numbers"),
    ("source", "folder", "source: expected an object"),
    ("inputs", {"a": 5}, "inputs: a: expected a SHA-256; received 5"),
    ("options", None, "options: expected an object"),
    ("skipped", [{"split": "val"}], "skipped: expected objects"),
    ("tool_version", 1, "tool_version: expected a string"),
    ("another", 1, "expected an object of name, label_names"),
]


@pytest.mark.parametrize(("field", "value", "words"), BAD_FIELDS)
def test_a_bad_field_is_named_with_or_without_a_hash(info_file, field, value, words):
    contents = json.loads(info_file.read_text())
    del contents["sha256"]
    *way, last = (int(part) if part.isdigit() else part for part in field.split("."))
    inner = contents
    for part in way:
        inner = inner[part]
    inner[last] = value
    info_file.write_text(json.dumps(contents))
    with pytest.raises(ValueError) as caught:
        _load(info_file)
    assert str(caught.value).startswith(f"{info_file}: ") and words in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[: len(text) // 2], "is no JSON"),
        (lambda text: b"", "is no JSON"),
        (lambda text: b"\xff" + text, "is no JSON"),
        (lambda text: b"[" * 100_000, "nests too deep"),
        (lambda text: b"[]", "expected an object; received []"),
        (lambda text: b"{}", "expected an object of name"),
        (lambda text: text.replace(b'"name": "tiny",', b""), "expected an object of name"),
    ],
)
def test_a_file_that_is_none_is_named(info_file, change, words):
    info_file.write_bytes(change(info_file.read_bytes()))
    with pytest.raises(ValueError) as caught:
        _load(info_file)
    assert str(caught.value).startswith(f"{info_file}: ") and words in str(caught.value)

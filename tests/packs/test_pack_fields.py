"""What a pack says of itself is checked field by field: a hash only tells that nobody but its writer has said it."""

import numpy as np
import pytest
from small_network import small

from tfmdl.data.preprocessing import MAX_SIDE, Preprocessing
from tfmdl.files import read_tensors, write_tensors
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import read_pack, read_trunk, write_pack, write_trunk

NAN = float("nan")


def save_pack(path, model, **change):
    fields = {
        "label_names": ["stop", "go"],
        "category_ids": [7, 3],
        "preprocessing": Preprocessing(18, 18, 16, 16, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        "trunk_fingerprint": "0" * 64,
        "accuracy": 0.5,
    }
    write_pack(path, model, "signs", **fields | change)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A model, its pack and its trunk."""
    folder = tmp_path_factory.mktemp("written")
    model = MultiDomainClassifier({"signs": 2}, small(width=2))
    save_pack(folder / "pack", model)
    write_trunk(folder / "trunk", model, "signs")
    return model, folder / "pack", folder / "trunk"


def changed(path, to, change=None, tensors=None):
    """Writes another file as this tool would, with an entry of the header or tensors that are others."""
    values, header = read_tensors(path)
    for keys, value in (change or {}).items():
        *outer, last = keys.split(".")
        inside = header
        for key in outer:
            inside = inside[key]
        inside[last] = value
    write_tensors(to, values | (tensors or {}), header)
    return to


EXPERT = {"domain": "dtd", "fingerprint": "0" * 64, "path": "pack"}
OF_BOTH = [
    ("kind", "a\nb"),
    ("kind", "x" * 5000),
    ("architecture.width", "4"),
    ("architecture.width", 2.0),
    ("architecture.width", 10**9),
    ("architecture.width", 3),
    ("architecture.blocks_per_stage", True),
    ("architecture.blocks_per_stage", 10**9),
    ("architecture.method", ["dan"]),
    ("architecture.method", "magic"),
    ("architecture.share_last_pointwise", 1),
    ("architecture.soft_layers", None),
    ("architecture.wings", 2),
    ("architecture", 5),
]
OF_PACKS = [
    ("domain", "../signs"),
    ("domain", 5),
    ("label_names", ["stop", "go", "turn"]),
    ("label_names", ["stop", 5]),
    ("label_names", ["stop", "\ud800"]),
    ("label_names", "no"),
    ("category_ids", [7, 7]),
    ("category_ids", [7]),
    ("category_ids", [7, 2**63]),
    ("category_ids", [7, "3"]),
    ("accuracy", 1.01),
    ("accuracy", NAN),
    ("accuracy", "high"),
    ("trunk_fingerprint", "0" * 63),
    ("trunk_fingerprint", None),
    ("experts", 5),
    ("experts", ""),
    ("experts", {}),
    ("experts", [EXPERT]),  # of a method that mixes none
    ("experts", [EXPERT | {"domain": "a/b"}]),
    ("experts", [EXPERT | {"fingerprint": "none"}]),
    ("experts", [EXPERT | {"path": 5}]),
    ("preprocessing.height", 60_000),
    ("preprocessing.cover_height", MAX_SIDE + 1),
    ("preprocessing.width", 0),
    ("preprocessing.train_width", "16"),
    ("preprocessing.mean", [0.1, 0.2]),
    ("preprocessing.mean", [0.1, 0.2, NAN]),
    ("preprocessing.mean", 0.5),
    ("preprocessing.std", [0.4, 0.5, 0.0]),
    ("preprocessing.std", [0.4, 0.5, 1e999]),
    ("preprocessing", None),
]
OF_TRUNKS = [("base_domain", "shared"), ("base_domain", 5), ("preprocessing", []), ("preprocessing", "")]


@pytest.mark.parametrize(("field", "value"), OF_BOTH + OF_PACKS)
def test_a_field_of_a_pack_that_cannot_be_true_is_refused_by_name(field, value, written, tmp_path):
    _, pack, _ = written
    path = changed(pack, tmp_path / "changed", {field: value})
    with pytest.raises(ValueError, match=f"^{path}: ") as caught:
        read_pack(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(("field", "value"), OF_BOTH + OF_TRUNKS)
def test_a_field_of_a_trunk_that_cannot_be_true_is_refused_by_name(field, value, written, tmp_path):
    *_, trunk = written
    path = changed(trunk, tmp_path / "changed", {field: value})
    with pytest.raises(ValueError, match=f"^{path}: ") as caught:
        read_trunk(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("value", [NAN, float("inf"), -float("inf")])
@pytest.mark.parametrize("slot", ["backbone/stem_norm/moving_variance", "backbone/stem_conv/pointwise/kernel"])
def test_what_is_not_finite_is_refused_by_file_and_slot(slot, value, written, tmp_path):
    for file, read in zip(written[1:], (read_pack, read_trunk), strict=True):
        tensors, _ = read_tensors(file)
        if slot in tensors:
            tensors[slot].flat[-1] = value
            path = changed(file, tmp_path / file.name, tensors={slot: tensors[slot]})
            with pytest.raises(ValueError, match=f"^{path}: {slot} has values that are not finite"):
                read(path)


def test_a_slot_of_another_type_is_refused(written, tmp_path):
    path = changed(written[1], tmp_path / "changed", tensors={"head/bias": np.zeros(2, "int64")})
    with pytest.raises(ValueError, match=f"^{path}: head/bias must be of float32 or uint8; received int64"):
        read_pack(path)


@pytest.mark.parametrize("change", [{"accuracy": NAN}, {"category_ids": [1, 1]}, {"label_names": ["stop"]}])
def test_what_could_not_be_read_is_not_written(change, written, tmp_path):
    with pytest.raises(ValueError, match=f"^{tmp_path}/pack: `{next(iter(change))}` must be"):
        save_pack(tmp_path / "pack", written[0], **change)
    assert not list(tmp_path.iterdir())

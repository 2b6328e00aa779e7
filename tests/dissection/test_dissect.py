"""The whole of a dissection: on drawn concepts, as function and as command."""

import json
import re

import numpy as np
import pytest
from small_network import small

from faults.commands import run_command
from tfmdl.data.preprocessing import Preprocessing
from tfmdl.dissection import measure, scoring
from tfmdl.dissection.broden import ConceptSet, ConceptWriter
from tfmdl.dissection.measure import RANDOM, TRAINED, DissectConfig, dissect
from tfmdl.dissection.page import page
from tfmdl.dissection.units import UnitLayer
from tfmdl.imported import write_packs
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import compose, read_parts

NAME = "spot & <b>ring</b>"
HOW = Preprocessing(16, 16, 16, 16, (0.4, 0.4, 0.4), (0.2, 0.2, 0.2))


@pytest.fixture(scope="module")
def concepts(tmp_path_factory):
    """Sixty grey images, each with a red spot somewhere, which is all that a unit of the stem needs to see."""
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("concepts")
    writer = ConceptWriter(folder, ("part", "texture"))
    for number in range(60):
        pixels = np.repeat(random.integers(90, 110, (16, 16, 1)), 3, axis=-1).astype("uint8")
        mask = np.zeros((16, 16), bool)
        row, column = random.integers(0, 13, 2)
        mask[row : row + 3, column : column + 3] = True
        pixels[mask] = (0, 20, 20)
        pixels[mask, 0] = random.integers(180, 256, 9)  # were they equal, none would be above the others
        parts = {NAME: mask, "rare": mask} if number < scoring.LEAST_IMAGES - 1 else {NAME: mask}
        writer.add(f"{number}", "val", pixels, {"part": parts, "texture": {f"t{number % 2}": None}})
    writer.close()
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trunk with two domains, the first unit of whose stem is red less green."""
    folder = tmp_path_factory.mktemp("run")
    model = MultiDomainClassifier({"a": 2, "b": 2}, small())
    stem = model.backbone.stem_conv
    kernel = np.zeros(stem.pointwise.kernel.variable("a").shape, "float32")
    kernel[0, 0, :2, 0] = 1, -1
    stem.pointwise.kernel.variable("a").assign(kernel)
    centre = np.zeros((3, 3, 3, 1), "float32")
    centre[1, 1] = 1
    for domain, scale in (("a", 1.0), ("b", 1.5)):
        stem.depthwise.kernel.variable(domain).assign(scale * centre)
    write_packs(model, folder, {"a": ["x", "y"], "b": ["x", "y"]}, HOW)
    return folder


@pytest.fixture(scope="module")
def found(run, concepts):
    trunk, packs, _ = read_parts([str(run)])
    return dissect(compose(trunk, packs), packs, DissectConfig(str(concepts), "a"))


def test_a_unit_that_sees_a_concept_detects_it(found):
    content, shown = found
    layers = {layer["name"]: layer for layer in content["networks"][TRAINED]["layers"]}
    stem = layers["stem_conv/pointwise"]
    (unit,) = [unit for unit in stem["of_units"] if unit["unit"] == 0]
    # The spots are 3.5% of the pixels, of which the threshold leaves 0.5%, all of them within.
    assert (unit["concept"], unit["category"]) == (NAME, "part")
    assert unit["iou"] == pytest.approx(0.005 * 256 / 9, rel=0.05)
    assert stem["detectors"] == len(stem["of_units"]) and stem["by_category"]["part"]["unique"] == 1
    assert any((one.layer, one.concept) == ("stem_conv/pointwise", NAME) for one in shown)
    for one in shown:
        assert len(one.images) == measure.TOP_IMAGES
        assert all(pixels.shape[:2] == above.shape for pixels, above in one.images)


def test_counts_are_those_of_the_layers_and_lie_within_their_intervals(found):
    content, _ = found
    assert set(content["networks"]) == {TRAINED, RANDOM} and content["images"] == 60
    for network in content["networks"].values():
        for kind, own in network["kinds"].items():
            layers = [layer for layer in network["layers"] if layer["kind"] == kind]
            assert own["units"] == sum(layer["units"] for layer in layers)
            assert own["detectors"]["value"] == sum(layer["detectors"] for layer in layers)
            assert own["share"]["value"] == pytest.approx(own["detectors"]["value"] / own["units"], abs=1e-5)
            for name in ("detectors", "share", "unique", "unique_among"):
                assert own[name]["low"] <= own[name]["value"] <= own[name]["high"]
        less = network["depthwise_less_pointwise"]["share"]["value"]
        assert all(one["low"] <= one["value"] <= one["high"] for one in network["depthwise_less_pointwise"].values())
        shares = [network["kinds"][kind]["share"]["value"] for kind in ("depthwise", "pointwise")]
        assert less == pytest.approx(shares[0] - shares[1], abs=1e-4)


def test_concepts_of_few_images_are_not_counted(found):
    content, _ = found
    assert content["concepts"] == {"part": 1, "texture": 2} and content["concepts_too_rare"] == 1
    layers = [layer for network in content["networks"].values() for layer in network["layers"]]
    assert not [unit for layer in layers for unit in layer["of_units"] if unit["concept"] == "rare"]


def test_concepts_that_are_all_of_few_images_are_an_error(run, tmp_path):
    writer = ConceptWriter(tmp_path, ("texture",))
    for number in range(scoring.LEAST_IMAGES - 1):
        writer.add(f"{number}", "val", np.zeros((8, 8, 3), "uint8"), {"texture": {"woven": None}})
    writer.close()
    trunk, packs, _ = read_parts([str(run)])
    with pytest.raises(ValueError, match="no concept is in 5 images; the most of one are 4"):
        dissect(compose(trunk, packs), packs, DissectConfig(str(tmp_path), "a"))


@pytest.fixture
def layers():
    """Layers whose units detect what they do without a network: 12 depthwise units, 20 pointwise and 4 plain ones."""
    random = np.random.default_rng(2)

    def layer(kind, units):
        score = random.choice([0.0, 0.1], units)
        shape = UnitLayer(f"{kind}{units}", kind, units, (4, 4))
        return measure._Found(shape, random.integers(0, 3, units), score, np.zeros(units), np.zeros((units, 4), int))

    return [layer("plain", 4), layer("depthwise", 8), layer("depthwise", 4), layer("pointwise", 20)]


def test_kinds_are_compared_as_if_of_as_many_units_and_plain_ones_are_not_compared(layers, concepts):
    result = measure._summary(layers, ConceptSet(concepts), np.random.default_rng(0))
    kinds = result["kinds"]
    assert {kind: own["units"] for kind, own in kinds.items()} == {"depthwise": 12, "pointwise": 20, "plain": 4}
    assert result["units_compared"] == 12
    assert kinds["depthwise"]["unique_among"]["value"] == kinds["depthwise"]["unique"]["value"]  # all are drawn
    assert "unique_among" not in kinds["plain"]


def test_a_seed_gives_the_same_intervals_and_they_contain_the_values(layers, concepts):
    one, other, another = (
        measure._summary(layers, ConceptSet(concepts), np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert one == other != another
    values = [own[name] for own in one["kinds"].values() for name in own if isinstance(own[name], dict)]
    intervals = [value for value in [*values, *one["depthwise_less_pointwise"].values()] if "low" in value]
    assert len(intervals) == 15 and all(own["low"] <= own["value"] <= own["high"] for own in intervals)
    share = one["kinds"]["pointwise"]["share"]
    assert share["low"] < share["value"] < share["high"]


def test_the_page_needs_nothing_else_and_shows_names_as_text(found):
    content, shown = found
    text = page({"run": "runs/<x>", "dissection": content, "kernels": {"distances": None}}, shown)
    assert "<b>ring</b>" not in text and "spot &amp; &lt;b&gt;ring&lt;/b&gt;" in text and "runs/&lt;x&gt;" in text
    assert not re.search(r'(src|href)="(?!data:image/jpeg;base64,)', text) and "url(" not in text
    assert "prefers-color-scheme: dark" in text
    assert text.count("<img") == sum(len(unit.images) for unit in shown) > 0


def command(*arguments):
    return run_command("-m", "tfmdl.dissect", *arguments)


def test_the_command_writes_distances_and_similarities_of_all_domains(run, concepts, tmp_path):
    stem = "--layers=stem_conv/depthwise,stem_conv/pointwise"
    done = command(f"--workdir={run}", f"--concepts={concepts}", f"--output={tmp_path}", stem, "--nocontrol")
    assert done.returncode == 0, done.stderr
    assert "depthwise, trained" in done.stdout and f"wrote {tmp_path}/dissection.json" in done.stdout
    content = json.loads((tmp_path / "dissection.json").read_text())
    distances = content["kernels"]["distances"]
    assert distances["moved"]["a"] == [0] * 7 and distances["moved"]["b"] == pytest.approx([0.5, *[0] * 6])
    assert distances["apart"][0][1] == pytest.approx(np.sqrt(0.25 / 7), abs=1e-4)
    pairs = {layer["name"]: layer["pairs"] for layer in content["kernels"]["cka"]["layers"]}
    assert pairs["stem_conv/depthwise"] == [["a", "b", 1.0]]
    assert "How far depthwise kernels have moved" in (tmp_path / "dissection.html").read_text()

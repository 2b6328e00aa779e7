"""The pictures of what was answered wrong: what is on them, and that none stays of an earlier evaluation."""

import dataclasses
import json
import warnings

import numpy as np
import pytest
from PIL import Image
from test_evaluate import write_runs

from tfmdl.data.pipeline import Source, evaluation_batches
from tfmdl.data.records import DatasetInfo
from tfmdl.evaluation.evaluate import EvaluationConfig, evaluate, load
from tfmdl.evaluation.picture import draw_mistakes
from tfmdl.evaluation.save import picture_folders, save, save_mistakes


@pytest.fixture(scope="module")
def runs(data_dir, tmp_path_factory):
    return write_runs(tmp_path_factory.mktemp("runs"), data_dir)


@pytest.fixture(scope="module")
def result(runs, data_dir):
    folders = tuple(str(runs / domain) for domain in ("base", "tiny"))
    return evaluate(EvaluationConfig(str(data_dir), "val", workdirs=folders, wrong=4, right=2))


def without_mistakes(result):
    return dataclasses.replace(result, wrong=dict.fromkeys(result.wrong, ()))


def texts_of(figure):
    return [text.get_text() for text in figure.texts]


def test_answers_come_with_what_the_network_saw(result, runs, data_dir):
    (_, (pack,)) = load(EvaluationConfig(str(data_dir), "val", workdirs=(str(runs / "base"),)))[0]
    info = DatasetInfo.load(data_dir, "base")
    seen = {}
    for batch in evaluation_batches([Source.of(data_dir, info, ("val",), pack.preprocessing)], 5):
        pixels = 255 * (batch["image"].numpy() * pack.preprocessing.std + pack.preprocessing.mean)
        rows = zip(batch["image_id"].numpy().tolist(), pixels, batch["label"].numpy(), strict=True)
        seen |= {image_id: (image, label) for image_id, image, label in rows}
    found = result.evaluations["base"]
    assert len(result.wrong["base"]) == min(4, found.total - found.correct) > 0
    assert len(result.right["base"]) == min(2, found.correct)
    for answer in (*result.wrong["base"], *result.right["base"]):
        pixels, label = seen[answer.image_id]
        np.testing.assert_allclose(answer.image, pixels, atol=1e-3)
        assert answer.image.dtype == np.uint8 and answer.label == label


def test_a_picture_has_each_image_with_its_class_the_answer_and_its_probability(result):
    figure = draw_mistakes(result, "base")
    mistakes = result.wrong["base"]
    assert len(figure.axes) == len(mistakes)
    for panel, mistake in zip(figure.axes, mistakes, strict=True):
        np.testing.assert_array_equal(panel.images[0].get_array(), mistake.image)
    wanted = [
        line
        for one in mistakes
        for line in (f"✓ base {one.label}", f"✗ base {one.answer} {100 * one.probability:.0f}%")
    ]
    assert texts_of(figure)[2:] == wanted


@pytest.mark.parametrize("name", ["$x_1$", "a_b^{", "\\frac{1}", "new\nline \x1b[31m", "猫", "n" * 300])
def test_names_of_classes_are_plain_text_on_one_line(name, result, tmp_path):
    infos = result.infos | {"base": dataclasses.replace(result.infos["base"], label_names=[name] * 3)}
    named = dataclasses.replace(result, infos=infos)
    figure = draw_mistakes(named, "base")
    shown = texts_of(figure)[2]
    assert shown.isprintable() and len(shown) < 30
    assert shown[2:] == name or not name.isprintable() or len(name) > 24
    assert not any(text.get_parse_math() for text in figure.texts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = save_mistakes(named, "base", tmp_path)
    assert path == tmp_path / "mistakes-base.png" and Image.open(path).format == "PNG"


def test_without_mistakes_there_is_no_file_and_none_stays(result, tmp_path):
    save_mistakes(result, "base", tmp_path)
    assert save_mistakes(without_mistakes(result), "base", tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_pictures_go_with_the_evaluation_they_belong_to(result, tmp_path):
    output = tmp_path / "evaluation.json"
    for domain in ("base", "tiny"):
        save_mistakes(result, domain, tmp_path)
    (tmp_path / "mistakes-mine.png").touch()
    save(result, output)
    assert (tmp_path / "mistakes-tiny.png").exists()  # of no evaluation that was written here
    save(result, output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evaluation.json", "mistakes-mine.png"]


@pytest.mark.parametrize("before", ["{", "[]", '{"domains": 3}', '{"domains": {"/../../mine": {}}}'])
def test_what_lies_there_before_is_not_believed(before, result, tmp_path):
    output = tmp_path / "below" / "evaluation.json"
    output.parent.mkdir()
    output.write_text(before)
    (tmp_path / "below" / "mistakes-").mkdir()
    (tmp_path / "mine.png").touch()
    save(result, output)
    assert (tmp_path / "mine.png").exists() and "split" in json.loads(output.read_text())


def test_the_place_is_beside_the_output_or_in_the_run(result, runs, data_dir):
    loaded = load(result.config)
    assert picture_folders(result, loaded, None) == {domain: runs / domain for domain in ("base", "tiny")}
    beside = picture_folders(result, loaded, "somewhere/evaluation.json")
    assert {str(folder) for folder in beside.values()} == {"somewhere"}
    composed = EvaluationConfig(str(data_dir), "val", trunk=str(runs / "base"), pack_paths=(str(runs / "base"),))
    assert picture_folders(dataclasses.replace(result, config=composed), load(composed), None) == {}

"""A small share of the load, and that it sees what it is there to see."""

import json
import pathlib
import subprocess

import numpy as np
import pytest

from faults.c_library import compiled
from faults.commands import run_command
from faults.load import COLUMNS, MOST_MIB, ROW, Rows, Tally
from faults.swapped import CLASSES, IMAGES, Version

ROOT = pathlib.Path(__file__).parents[2]
CASES = 1500  # one swap


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    try:
        compiled(ROOT / "faults" / "load.c", tmp_path_factory.mktemp("compiled") / "load")
    except FileNotFoundError:
        return ["stand-in"]
    return ["stand-in", "c-library"]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory, kinds):
    """What a small load printed, and the folder that it left."""
    folder = tmp_path_factory.mktemp("load")
    flags = (f"--workdir={folder}", f"--cases={CASES}", f"--kind={','.join(kinds)}", "--seed=1")
    return run_command("-m", "faults", "load", *flags, cwd=ROOT), folder


@pytest.mark.slow
def test_a_served_model_answers_right_while_a_version_takes_the_place_of_another(loaded, kinds):
    done, folder = loaded
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((folder / "report.json").read_text())
    assert list(report["kinds"]) == [f"{kind} 1" for kind in kinds] and report["defects"] == []
    for row in report["kinds"].values():
        assert row["predictions"] >= CASES and (row["swaps"], row["wrong"], row["lost"]) == (1, 0, 0)
        assert row["refused"] >= 1 and row["mib"] > 50 and 0 < row["50"] <= row["99"] <= row["100"]


@pytest.mark.slow
def test_the_c_program_sees_an_answer_that_is_another(loaded, kinds):
    if "c-library" not in kinds:
        pytest.skip("there is no C library")
    folder = loaded[1] / "c-library"
    expected = (folder / "expected.txt").read_text().split("\n")
    place = expected.index("base 4") + 1
    files = [str(folder / f"{number}.image") for number in range(IMAGES)]

    def faults(lines):
        (folder / "spoiled.txt").write_text("\n".join(lines))
        given = f"2 {loaded[1] / 'made-1/versions/2'} {folder / 'spoiled.txt'}\n"
        command = [str(folder / "load"), "0", "1", "1e-5", *files]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            process.stdin.write(given)
            process.stdin.flush()
            said = [process.stdout.readline() for _ in range(8)]
            process.communicate()
        return [line for line in said if line.startswith(("wrong", "lost"))]

    assert faults(expected) == []
    labels, values = expected[place : place + 4], expected[place + 4 : place + 4 + IMAGES]
    before, after = expected[:place], expected[place + 4 + IMAGES :]
    assert all("domain base" in fault for fault in faults([*before, *labels[::-1], *values, *after]) or [""])
    assert all("domain base" in fault for fault in faults([*before, *labels, *values[1:], values[0], *after]) or [""])


@pytest.fixture
def version():
    rng = np.random.default_rng(0)
    labels = {domain: [f"{domain}-{index}" for index in range(count)] for domain, count in CLASSES.items()}
    probabilities = {domain: rng.dirichlet(np.ones(count), IMAGES) for domain, count in CLASSES.items()}
    return Version(1, pathlib.Path(), labels, probabilities)


def answers_of(version, images, domains):
    answers = []
    for image, domain in zip(images, domains, strict=True):
        wanted = version.probabilities[domain][image]
        order = [int(index) for index in np.argsort(-wanted)[:5]]
        fill = 5 - len(order)
        labels = [version.labels[domain][index] for index in order] + [""] * fill
        answers.append(
            {"class_id": order + [-1] * fill, "label": labels, "probability": [*wanted[order], *[0.0] * fill]}
        )
    return answers


IMAGES_ASKED, DOMAINS_ASKED = [3, 5, 3], ["base", "coins", "birds"]


@pytest.mark.parametrize("change", ["none", "rows", "image", "label", "fill", "nan", "near", "cut", "short", "text"])
def test_what_is_a_wrong_answer(version, change):
    answers = answers_of(version, IMAGES_ASKED, DOMAINS_ASKED)
    first = answers[0]
    if change == "rows":
        answers[0], answers[2] = answers[2], answers[0]
    elif change == "image":
        answers[0] = answers_of(version, [4], ["base"])[0]
    elif change == "label":
        first["label"][:2] = first["label"][1::-1]
    elif change == "fill":
        answers[2]["class_id"][3] = 0
    elif change == "nan":
        first["probability"][0] = float("nan")
    elif change == "near":
        first["probability"][0] += 1e-4
    elif change == "cut":
        answers = [{key: value[:3] for key, value in answer.items()} for answer in answers]
    elif change == "short":
        first["label"] = first["label"][:4]
    elif change == "text":
        answers[1] = "none"
    fault = version.fault(IMAGES_ASKED, DOMAINS_ASKED, answers)
    assert (fault is None) == (change == "none"), fault


def tally_of(cases, memory):
    report = Rows("load", 0, "", COLUMNS)
    return report, Tally(report, "some", cases, lambda: memory.pop(0))


def test_a_row_tells_of_so_many_predictions_and_what_is_lost_is_a_defect():
    report, tally = tally_of(2 * ROW, [100.0])
    for number in range(4):
        tally.add("answered", ROW // 2, 0.001 * (number + 1), "")
    tally.add("refused", 0, 9.0, "")
    tally.add("lost", 3, 9.0, "nobody there")
    tally.swapped()
    tally.end(120.0, None)
    one, other = report.rows["some 1"], report.rows["some 2"]
    assert (one["predictions"], one["answered"], one["mib"], one["100"]) == (ROW, 2, 100.0, 2.0)
    assert (other["predictions"], other["refused"], other["lost"], other["swaps"]) == (ROW + 3, 1, 1, 1)
    assert other["100"] == 4.0 and [defect["kind"] for defect in report.defects] == ["some 2"]
    assert "nobody there" in report.table() + report.defects[0]["why"]
    assert report.total()["predictions"] == 2 * ROW + 3 and report.total()["mib"] == 120.0


def test_memory_that_grows_after_the_warm_up_is_a_defect():
    most = 300.0 + MOST_MIB
    report, tally = tally_of(5 * ROW, [100.0, 300.0, most, most + 1])
    for _ in range(5):
        tally.add("answered", ROW, 0.001, "")
    tally.end(most, None)
    assert [defect["kind"] for defect in report.defects] == ["some 4"]
    assert "memory has grown from 300 to 365 MiB" in report.defects[0]["why"]

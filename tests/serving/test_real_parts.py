"""An export is read by what is not ours: the C library, saved_model_cli, OpenVINO and LiteRT."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from made import ENCODERS, MIXED, NUM_CLASSES, picture

from faults.c_library import compiled
from tfmdl.data import records
from tfmdl.data.pipeline import Source as Records
from tfmdl.evaluation.predict import predict_alone
from tfmdl.serving.litert import write_litert
from tfmdl.serving.source import from_runs
from tfmdl.serving.writer import Options, write_export

HERE = pathlib.Path(__file__).parent
FIVE = [domain for domain in NUM_CLASSES if domain != "upright"]


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory):
    """Two JPEG files for each of five domains, by path."""
    folder, rng = tmp_path_factory.mktemp("jpegs"), np.random.default_rng(7)
    made = {}
    for domain in FIVE:
        for number, (height, width) in enumerate(((16, 16), (31, 40))):
            path = folder / f"{domain}-{number}.jpg"
            path.write_bytes(ENCODERS["jpeg"](picture(rng, height, width)))
            made[path] = (domain, height, width)
    return made


@pytest.fixture(scope="module")
def evaluated(source, jpegs, tmp_path_factory):
    """The label that eval.py gives each file, from records and by the domain's own tower."""
    labels = {}
    for pack in source.packs:
        own = [path for path, (domain, *_) in jpegs.items() if domain == pack.domain]
        if not own:
            continue
        record = str(tmp_path_factory.mktemp("records") / "some.tfrecord")
        with tf.io.TFRecordWriter(record) as writer:
            for number, path in enumerate(own):
                _, height, width = jpegs[path]
                content = {"encoded": path.read_bytes(), "image_format": "jpeg", "height": height, "width": width}
                writer.write(records.serialize_example(**content, label=0, text="", image_id=number))
        some = Records(pack.domain, (record,), len(own), pack.preprocessing)
        (answer,) = predict_alone(source.model.tower(pack.domain), some)
        best = answer.logits.argmax(axis=1)
        labels |= {path: pack.label_names[index] for path, index in zip(own, best, strict=True)}
    return labels


@pytest.fixture(scope="module")
def folded(runs, tmp_path_factory):
    source = from_runs(trunk=str(runs), pack_paths=[str(runs / "packs" / "fourth.safetensors")])
    return write_export(source, tmp_path_factory.mktemp("folded"), Options(fold=True)).path


@pytest.mark.slow
def test_a_c_program_classifies_five_domains_in_one_batch(exported, jpegs, evaluated, tmp_path):
    try:
        program = compiled(HERE / "classify.c", tmp_path / "classify")
    except FileNotFoundError as error:
        pytest.skip(str(error))

    arguments = [argument for path, (domain, *_) in jpegs.items() for argument in (domain, str(path))]
    done = subprocess.run(
        [program, exported, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"TF_CPP_MIN_LOG_LEVEL": "2", "PATH": os.environ["PATH"]},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    listed = {line.split()[1]: line for line in lines if line.startswith("signature ")}
    assert sorted(listed["serving_default"].split("(")[1].split(")")[0].split(", ")) == ["domain", "image_bytes"]
    assert {"tf_example", "features", "serve_images", "classify_base"} <= set(listed)
    answers = [line.split("\t") for line in lines if not line.startswith("signature ")]
    assert [answer[:2] for answer in answers] == [[jpegs[path][0], evaluated[path]] for path in jpegs]

    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"\xff\xd8\xff")
    done = subprocess.run([program, exported, "base", damaged], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "row 0: the image of 3 bytes for domain [base] is damaged" in done.stderr


@pytest.mark.slow
def test_saved_model_cli_shows_and_runs_it(exported, signatures, tmp_path):
    tool = pathlib.Path(sys.executable).with_name("saved_model_cli")

    def saved_model_cli(*arguments):
        return subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True, check=True).stdout

    shown = saved_model_cli("show", "--dir", exported, "--all")
    for name in signatures:
        assert f"signature_def['{name}']:" in shown
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), "uint8")
    np.save(tmp_path / "pixels.npy", pixels)
    np.save(tmp_path / "ids.npy", np.array([0, 1], "int32"))
    saved_model_cli(
        *("run", "--dir", exported, "--tag_set", "serve", "--signature_def", "serve_images_uint8"),
        *("--inputs", f"image={tmp_path / 'pixels.npy'};domain_id={tmp_path / 'ids.npy'}", "--outdir", tmp_path),
    )
    wanted = signatures["serve_images_uint8"](image=tf.constant(pixels), domain_id=tf.constant([0, 1]))
    for name, value in wanted.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), value)


@pytest.mark.slow
def test_openvino_answers_alike(folded, runs, tmp_path):
    openvino = pytest.importorskip("openvino")
    rng = np.random.default_rng(0)
    # Two domains: its conversion takes as long for each as the export.
    packs = [str(runs / "packs" / f"{domain}.safetensors") for domain in MIXED]
    mixed = write_export(from_runs(trunk=str(runs), pack_paths=packs), tmp_path).path
    for path, ids, fixed in ((folded, [0], None), (mixed, [0, 1, 1], 3)):
        loaded = tf.saved_model.load(str(path))
        signature = loaded.signatures["serve_images"]
        model = openvino.convert_model(signature)
        if fixed:  # its depthwise convolution wants to know how many kernels there are
            model.reshape({"image": [fixed, 16, 16, 3], "domain_id": [fixed]})
        compiled = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for rows in (fixed,) if fixed else (1, 4):
            image = rng.integers(0, 256, (rows, 16, 16, 3)).astype("float32")
            domain_id = np.resize(np.array(ids, "int32"), rows)
            answer = compiled({"image": image, "domain_id": domain_id})
            wanted = signature(image=tf.constant(image), domain_id=tf.constant(domain_id))
            np.testing.assert_array_equal(answer["class_id"], wanted["class_id"])
            np.testing.assert_allclose(answer["probability"], wanted["probability"], atol=1e-4)


def test_litert_answers_alike(runs, tmp_path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    source = from_runs(trunk=str(runs), pack_paths=[str(runs / "packs" / "fourth.safetensors")])
    whole, small = write_litert(source, tmp_path)
    names = ["fourth.json", "fourth.tflite", "fourth_int8.tflite"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert whole.difference < 1e-5 and small.difference < 0.1
    run = interpreter.Interpreter(str(whole.path)).get_signature_runner()
    (probability,) = run(image=np.zeros((1, 16, 16, 3), "float32")).values()
    assert probability.shape == (1, 9) and abs(probability.sum() - 1) < 1e-5
    with pytest.raises(ValueError, match="the float32 file does not answer as the model does.*at most 1e-12"):
        write_litert(source, tmp_path / "other", Options(tolerance=1e-12))
    assert not list((tmp_path / "other").iterdir())
    with pytest.raises(ValueError, match="--format=litert wants one domain; received base, "):
        write_litert(from_runs(trunk=str(runs), pack_paths=[str(runs)]), tmp_path)


@pytest.mark.parametrize(
    ("flag", "option"),
    [
        ("version=7", {"version": 7}),
        ("keep=1", {"keep": 1}),
        ("precision=bfloat16", {"precision": "bfloat16"}),
        ("license=CC0", {"license_line": "CC0"}),
    ],
)
def test_litert_refuses_what_only_a_saved_model_has(runs, tmp_path, flag, option):
    source = from_runs(trunk=str(runs), pack_paths=[str(runs / "packs" / "fourth.safetensors")])
    with pytest.raises(ValueError, match=f"--format=litert does not take --{flag}"):
        write_litert(source, tmp_path / "litert", Options(**option))
    assert not (tmp_path / "litert").exists()

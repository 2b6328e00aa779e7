"""An export answers as evaluation does, refuses by name, and appears whole or not at all."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from small_network import small

from tfmdl import export as exporting
from tfmdl.config import Preprocessing
from tfmdl.data import records
from tfmdl.data.pipeline import Source, evaluation_batches
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import load_model, write_pack, write_trunk

ROOT = pathlib.Path(__file__).parent.parent
# More classes than are named, fewer and a name with signs, and a domain that is evaluated at a size of its own.
NUM_CLASSES = {"base": 7, "vgg-flowers_2.0": 2, "upright": 3}
SIZES = {"base": (16, 16), "vgg-flowers_2.0": (16, 16), "upright": (24, 12)}
PAIR = "vgg-flowers_2.0"
MIXED = ("base", PAIR)


def label_names(domain):
    return [f"{domain} {index}é" for index in range(NUM_CLASSES[domain])]


def preprocessing(domain, offset=0.0):
    height, width = SIZES[domain]
    return Preprocessing(height, width, height, width, (0.4 + offset, 0.5, 0.6), (0.2, 0.25 + offset, 0.3))


@pytest.fixture(autouse=True)
def seeded():
    """In place of the fixture for all tests: after a seed is set, TensorFlow prepares a loaded graph anew."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a trunk and a pack for each domain, each domain with values of its own."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    model = MultiDomainClassifier(NUM_CLASSES, small())
    for variable in model.variables:
        moved = rng.uniform(0.8, 1.2, variable.shape) * np.asarray(variable)
        variable.assign(moved + 0.05 * rng.normal(size=variable.shape) * ("moving_var" not in variable.path))
    fingerprint = write_trunk(folder / "trunk.safetensors", model, "base")
    for index, domain in enumerate(NUM_CLASSES):
        write_pack(
            folder / "packs" / f"{domain}.safetensors",
            model,
            domain,
            label_names=label_names(domain),
            category_ids=list(range(NUM_CLASSES[domain])),
            preprocessing=preprocessing(domain, 0.02 * index),
            trunk_fingerprint=fingerprint,
            accuracy=None,
        )
    return folder


@pytest.fixture(scope="module")
def live(runs):
    packs = [str(runs / "packs" / f"{domain}.safetensors") for domain in NUM_CLASSES]
    return load_model(trunk=str(runs), pack_paths=packs)


@pytest.fixture(scope="module")
def exported(live, tmp_path_factory):
    done = exporting.export(*live, tmp_path_factory.mktemp("exports"))
    assert 0 <= done.difference <= 1e-5
    return done.path


@pytest.fixture(scope="module")
def signatures(exported):
    loaded = tf.saved_model.load(str(exported))
    return {name: keep(loaded, signature) for name, signature in loaded.signatures.items()}


def keep(loaded, signature):
    """Returns the signature as a function from values to numpy; `loaded` must live as long."""

    def call(**inputs):
        assert loaded is not None
        return {name: value.numpy() for name, value in signature(**inputs).items()}

    call.spec = signature
    return call


def picture(rng, height, width):
    coarse = rng.integers(0, 256, (3, 3, 3), "uint8")
    return np.asarray(tf.cast(tf.image.resize(coarse, (height, width), "bicubic"), tf.uint8))


ENCODERS = {
    "jpeg": lambda image: tf.io.encode_jpeg(image, quality=90).numpy(),
    "png": lambda image: tf.io.encode_png(image).numpy(),
}


@pytest.fixture(scope="module")
def files():
    """Image files, (format, height, width, bytes): larger and smaller than the network sees, and as large."""
    rng = np.random.default_rng(1)
    made = []
    for name, encode in ENCODERS.items():
        for height, width in ((16, 16), (16, 37), (41, 23), (9, 30), (24, 12)):
            made.append((name, height, width, encode(picture(rng, height, width))))
    return made


@pytest.fixture(scope="module")
def evaluated(live, files, tmp_path_factory):
    """The probabilities of all files by domain, through TFRecords, the evaluation pipeline and the tower."""
    model, packs = live
    path = str(tmp_path_factory.mktemp("records") / "all.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for index, (name, height, width, encoded) in enumerate(files):
            writer.write(
                records.serialize_example(
                    encoded=encoded,
                    image_format=name,
                    height=height,
                    width=width,
                    label=0,
                    text="",
                    image_id=index,
                )
            )
    probabilities = {}
    for pack in packs:
        (batch,) = evaluation_batches([Source(pack.domain, (path,), len(files), pack.preprocessing)], 99)
        logits = np.asarray(model.tower(pack.domain)(batch["image"]), "float64")
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities[pack.domain] = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def assert_row(answer, row, domain, wanted):
    """The row names the best classes of `domain`, best first, and nothing more."""
    classes, top = NUM_CLASSES[domain], answer["class_id"].shape[1]
    own = min(classes, 5)
    ids, probability, labels = (answer[name][row] for name in ("class_id", "probability", "label"))
    np.testing.assert_allclose(probability[:own], np.sort(wanted)[::-1][:own], atol=1e-5)
    np.testing.assert_allclose(probability[:own], wanted[ids[:own]], atol=1e-5)
    assert len(set(ids[:own])) == own
    assert [label.decode() for label in labels[:own]] == [label_names(domain)[index] for index in ids[:own]]
    padding = top - own
    assert (ids[own:] == -1).all() and (probability[own:] == 0).all() and list(labels[own:]) == [b""] * padding


def serve(signatures, encoded, domains):
    return signatures["serving_default"](
        image_bytes=tf.constant(encoded, tf.string, (len(encoded),)),
        domain=tf.constant(domains, tf.string, (len(domains),)),
    )


# Answers


@pytest.mark.parametrize("domain", MIXED)
def test_serving_default_answers_as_evaluation_does(domain, signatures, files, evaluated):
    answer = serve(signatures, [encoded for *_, encoded in files], [domain] * len(files))
    assert answer["class_id"].shape == (len(files), 5)
    for row in range(len(files)):
        assert_row(answer, row, domain, evaluated[domain][row])


def test_each_row_may_be_of_another_domain(signatures, files, evaluated):
    rows = [(row, domain) for row in range(len(files)) for domain in MIXED]
    np.random.default_rng(2).shuffle(rows)
    rows = [(int(row), str(domain)) for row, domain in rows]
    answer = serve(signatures, [files[row][3] for row, _ in rows], [domain for _, domain in rows])
    for at, (row, domain) in enumerate(rows):
        assert_row(answer, at, domain, evaluated[domain][row])


@pytest.mark.parametrize("domain", NUM_CLASSES)
def test_pixels_answer_as_image_files_do(domain, signatures, files, evaluated):
    for row, (image_format, *_, encoded) in enumerate(files):
        if image_format == "jpeg":  # whose pixels depend a little on how much of it is decoded
            continue
        pixels = tf.io.decode_image(encoded)[None]
        for name, dtype in ((f"classify_{domain}", tf.float32), (f"classify_{domain}_uint8", tf.uint8)):
            answer = signatures[name](image=tf.cast(pixels, dtype))
            assert answer["class_id"].shape == (1, min(5, NUM_CLASSES[domain]))
            assert_row(answer, 0, domain, evaluated[domain][row])


def test_a_batch_of_pixels_is_its_images(signatures, rng):
    pixels = rng.integers(0, 256, (3, 33, 21, 3), "uint8")
    together = signatures["classify_base_uint8"](image=tf.constant(pixels))
    for row, image in enumerate(pixels):
        alone = signatures["classify_base_uint8"](image=tf.constant(image[None]))
        np.testing.assert_array_equal(together["class_id"][row], alone["class_id"][0])
        np.testing.assert_allclose(together["probability"][row], alone["probability"][0], atol=1e-6)


@pytest.mark.parametrize("sides", [(20, 20), (0, 0)])
def test_no_rows_give_no_rows(sides, signatures):
    answers = [serve(signatures, [], [])]
    answers += [signatures[f"classify_{domain}"](image=tf.zeros((0, *sides, 3))) for domain in ("base", "upright")]
    for answer, top in zip(answers, (5, 5, 3), strict=True):
        assert {name: (value.shape, value.dtype.kind) for name, value in answer.items()} == {
            "label": ((0, top), "O"),
            "probability": ((0, top), "f"),
            "class_id": ((0, top), "i"),
        }


# Names and variables


def test_names_types_and_shapes_are_those_promised(signatures):
    assert set(signatures) == {"serving_default"} | {
        f"classify_{domain}{suffix}" for domain in NUM_CLASSES for suffix in ("", "_uint8")
    }

    def spec(part):
        return {name: (tuple(value.shape), value.dtype.name) for name, value in part.items()}

    for name, signature in signatures.items():
        inputs, outputs = signature.spec.structured_input_signature[1], signature.spec.structured_outputs
        if name == "serving_default":
            assert spec(inputs) == {"image_bytes": ((None,), "string"), "domain": ((None,), "string")}
            top = 5
        else:
            dtype = "uint8" if name.endswith("_uint8") else "float32"
            assert spec(inputs) == {"image": ((None, None, None, 3), dtype)}
            top = min(5, NUM_CLASSES[name.removeprefix("classify_").removesuffix("_uint8")])
        assert spec(outputs) == {
            "label": ((None, top), "string"),
            "probability": ((None, top), "float32"),
            "class_id": ((None, top), "int32"),
        }


def test_variables_are_stored_once_whatever_the_number_of_signatures(exported, live):
    reader = tf.train.load_checkpoint(str(exported / "variables" / "variables"))
    stored = {name: shape for name, shape in reader.get_variable_to_shape_map().items() if "OBJECT_GRAPH" not in name}
    wanted = sum(int(np.prod(variable.shape)) for variable in live[0].variables)
    assert sum(int(np.prod(shape)) for shape in stored.values()) == wanted


def test_two_domains_that_want_one_signature_are_refused(live, tmp_path):
    model = MultiDomainClassifier({"a": 2, "a_uint8": 2}, small())
    packs = [
        type(pack)(**{**vars(pack), "domain": domain, "label_names": ["x", "y"]})
        for domain, pack in zip(model.domains, live[1], strict=False)
    ]
    with pytest.raises(ValueError, match="'a_uint8'.*'classify_a_uint8'"):
        exporting.export(model, packs, tmp_path)
    assert not list(tmp_path.iterdir())


# Refusals


def assert_refused(signatures, encoded, domains, *parts):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        serve(signatures, encoded, domains)
    for part in parts:
        assert part in str(caught.value)


GOOD = ENCODERS["jpeg"](np.full((20, 20, 3), 90, "uint8"))
GOOD_PNG = ENCODERS["png"](np.random.default_rng(0).integers(0, 255, (20, 20, 3), "uint8"))


def test_an_unknown_domain_is_refused_by_row_and_name(signatures):
    assert_refused(signatures, [GOOD] * 3, ["base", PAIR, "gtsrb"], "row 2", "[gtsrb]", f"base, {PAIR}, upright")
    assert_refused(signatures, [GOOD], [""], "row 0", "unknown domain []")


def test_a_domain_of_another_size_is_refused_and_sent_to_its_own_signature(signatures):
    assert_refused(signatures, [GOOD] * 2, ["base", "upright"], "row 1", "[upright]", "24x12", "classify_upright")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"", f"0 bytes for domain [{PAIR}] is no JPEG, PNG, GIF or BMP file"),
        (b"hello", f"5 bytes for domain [{PAIR}] is no JPEG, PNG, GIF or BMP file"),
        (GOOD[:4], "is damaged"),
        (GOOD[: len(GOOD) // 2], "is damaged"),
        (GOOD_PNG[:20], "is damaged"),
        (GOOD_PNG[: len(GOOD_PNG) // 2], "is damaged"),
        (b"BM", "is damaged"),
        (b"GIF89a", "is damaged"),
    ],
    ids=["empty", "text", "jpeg start", "half jpeg", "png start", "half png", "bmp start", "gif start"],
)
def test_a_bad_image_is_refused_by_row_domain_and_reason(bad, reason, signatures):
    assert_refused(signatures, [GOOD, bad, GOOD], ["base", PAIR, "base"], "row 1", f"[{PAIR}]", reason)


def test_rows_that_do_not_pair_up_are_refused(signatures):
    assert_refused(signatures, [GOOD], ["base", PAIR], "received 1 and 2")


def test_images_without_pixels_are_refused(signatures):
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"\[{PAIR}\]: images have no pixels"):
        signatures[f"classify_{PAIR}"](image=tf.zeros((2, 0, 4, 3)))


# The command


def command(*flags):
    done = subprocess.run(
        [sys.executable, "-m", "tfmdl.export", *flags], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


ALONE = """
import importlib.abc, json, sys

class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tfmdl", "data_prep"):
            raise ImportError(name)

sys.meta_path.insert(0, Hide())
import tensorflow as tf

version, *paths = sys.argv[1:]
serve = tf.saved_model.load(version).signatures["serving_default"]
files = tf.constant([open(path, "rb").read() for path in paths])
answer = serve(image_bytes=files, domain=tf.fill(files.shape, "upright"))
answer = {name: value.numpy().tolist() for name, value in answer.items()}
answer["label"] = [[label.decode() for label in row] for row in answer["label"]]
print(json.dumps(answer))
"""


def test_the_command_writes_a_version_that_loads_without_the_project(runs, tmp_path, files, evaluated):
    """One domain alone, which is then served at its own size."""
    base = tmp_path / "served"
    for other in ("6", "notes", "0x9"):  # only the first is a version
        (base / other).mkdir(parents=True)
        (base / other / "file").write_text(other)
    pack = runs / "packs" / "upright.safetensors"
    code, out, err = command(f"--trunk={runs}", f"--packs={pack}", f"--export_dir={base}")
    assert (code, err) == (0, "")
    for part in ("serving_default", "image_bytes string (?,)", "label string (?, 3)", f"{base}/7", "docker run"):
        assert part in out
    assert sorted(entry.name for entry in base.iterdir()) == ["0x9", "6", "7", "notes"]
    assert all([file.name for file in (base / other).iterdir()] == ["file"] for other in ("6", "notes", "0x9"))

    paths = []
    for index, (*_, encoded) in enumerate(files):
        paths.append(tmp_path / f"{index}.image")
        paths[-1].write_bytes(encoded)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(base / "7"), *map(str, paths)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = {name: np.array(value) for name, value in json.loads(done.stdout).items()}
    answer["label"] = [[label.encode() for label in row] for row in answer["label"]]
    for row in range(len(files)):
        assert_row(answer, row, "upright", evaluated["upright"][row])


def test_a_version_that_exists_is_refused(live, tmp_path):
    (tmp_path / "6").mkdir()
    with pytest.raises(FileExistsError, match=f"--version: {tmp_path}/6 exists"):
        exporting.export(*live, tmp_path, version=6)
    assert [entry.name for entry in tmp_path.iterdir()] == ["6"]


def test_the_command_names_what_is_wrong(runs, tmp_path):
    code, out, err = command(f"--workdir={tmp_path / 'nowhere'}", f"--export_dir={tmp_path / 'served'}")
    assert code == 1 and err.startswith("error: ") and err.count("\n") == 1 and "nowhere" in err
    assert not (tmp_path / "served").exists()


def test_an_export_that_fails_its_check_leaves_nothing(runs, tmp_path, monkeypatch):
    """The live model changes after the graph was written: its probabilities are others."""
    model, packs = load_model(trunk=str(runs), pack_paths=[str(runs / "packs" / f"{PAIR}.safetensors")])
    save = tf.saved_model.save

    def save_then_change(*args, **kwargs):
        save(*args, **kwargs)
        model.head.biases[PAIR].variable(PAIR).assign_add([0.5, -0.5])

    monkeypatch.setattr(tf.saved_model, "save", save_then_change)
    with pytest.raises(ValueError, match="differ by 0.*expected at most 1e-05"):
        exporting.export(model, packs, tmp_path)
    assert not list(tmp_path.iterdir())

"""An export answers as evaluation does, and refuses by row and reason."""

import dataclasses
import struct

import numpy as np
import pytest
import tensorflow as tf
from made import ALL, ENCODERS, MIXED, NUM_CLASSES, PAIR, label_names
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from tfmdl.architecture import Architecture
from tfmdl.data import records
from tfmdl.data.decode import decode_window
from tfmdl.data.pipeline import Source, evaluation_batches
from tfmdl.model import MultiDomainClassifier
from tfmdl.serving.signatures import Served, all_signatures


@pytest.fixture(scope="module")
def evaluated(source, files, tmp_path_factory):
    """The probabilities of all files by domain, through TFRecords, the evaluation pipeline and the tower."""
    model, packs = source.model, source.packs
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


# Answers


@pytest.mark.parametrize("domain", MIXED)
def test_serving_default_answers_as_evaluation_does(domain, serve, files, evaluated):
    answer = serve([encoded for *_, encoded in files], [domain] * len(files))
    assert answer["class_id"].shape == (len(files), 5)
    for row in range(len(files)):
        assert_row(answer, row, domain, evaluated[domain][row])


def test_each_row_may_be_of_another_domain(serve, files, evaluated):
    rows = [(row, domain) for row in range(len(files)) for domain in MIXED]
    np.random.default_rng(2).shuffle(rows)
    rows = [(int(row), str(domain)) for row, domain in rows]
    answer = serve([files[row][3] for row, _ in rows], [domain for _, domain in rows])
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


def test_the_other_signatures_of_mixed_rows_answer_as_the_default_one_does(source, signatures, serve, files):
    rows = [(row, domain) for row in range(len(files)) for domain in MIXED]
    domains = [domain for _, domain in rows]
    wanted = serve([files[row][3] for row, _ in rows], domains)

    examples = [example(*files[row]) for row, _ in rows]
    answer = signatures["tf_example"](examples=tf.constant(examples), domain=tf.constant(domains))
    for name, value in answer.items():
        np.testing.assert_array_equal(value, wanted[name])

    pack_of = {pack.domain: pack for pack in source.packs}
    pixels = np.stack([window(files[row], pack_of[domain]) for row, domain in rows])
    ids = np.array([source.ids[domain] for domain in domains], "int32")
    for name, dtype in (("serve_images", "float32"), ("serve_images_uint8", "uint8")):
        answer = signatures[name](image=tf.constant(pixels.astype(dtype)), domain_id=tf.constant(ids))
        np.testing.assert_array_equal(answer["class_id"], wanted["class_id"])
        np.testing.assert_array_equal(answer["probability"], wanted["probability"])


@pytest.mark.parametrize("domain", MIXED)
def test_features_are_those_that_the_head_sees(domain, source, signatures, files):
    (pack,) = (pack for pack in source.packs if pack.domain == domain)
    images = np.stack([window(file, pack) for file in files]) / 255.0
    images = (images - np.array(pack.preprocessing.mean)) / np.array(pack.preprocessing.std)
    wanted = np.asarray(source.model.features(images.astype("float32"), domain))
    encoded = tf.constant([file[3] for file in files])
    answer = signatures["features"](image_bytes=encoded, domain=tf.fill(len(files), domain))
    assert set(answer) == {"features"}
    np.testing.assert_allclose(answer["features"], wanted, rtol=1e-4, atol=1e-5)


def window(file, pack):
    """Returns the pixels of an image file that evaluation of the pack's domain sees."""
    _, height, width, encoded = file
    how = pack.preprocessing
    return decode_window(tf.constant(encoded), height, width, how.cover_size, how.size, how.centre).numpy()


def example(image_format, height, width, encoded):
    return records.serialize_example(
        encoded=encoded, image_format=image_format, height=height, width=width, label=0, text="", image_id=0
    )


@pytest.mark.parametrize("sides", [(20, 20), (0, 0)])
def test_no_rows_give_no_rows(sides, signatures):
    no_text, no_ids = tf.constant([], tf.string), tf.constant([], tf.int32)
    answers = {
        "serving_default": signatures["serving_default"](image_bytes=no_text, domain=no_text),
        "tf_example": signatures["tf_example"](examples=no_text, domain=no_text),
        "serve_images": signatures["serve_images"](image=tf.zeros((0, 16, 16, 3)), domain_id=no_ids),
        "classify_base": signatures["classify_base"](image=tf.zeros((0, *sides, 3))),
        "classify_upright": signatures["classify_upright"](image=tf.zeros((0, *sides, 3))),
    }
    for name, answer in answers.items():
        top = 3 if name == "classify_upright" else 5
        wanted = {"label": ((0, top), "O"), "probability": ((0, top), "f"), "class_id": ((0, top), "i")}
        if name == "serve_images":
            del wanted["label"]
        assert {output: (value.shape, value.dtype.kind) for output, value in answer.items()} == wanted, name
    assert signatures["features"](image_bytes=no_text, domain=no_text)["features"].shape == (0, 32)


# Names and variables


def test_names_types_and_shapes_are_those_promised(exported):
    """Read from the file, as TensorFlow Serving does."""
    meta_graph = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes()).meta_graphs[0]
    assert list(meta_graph.meta_info_def.tags) == ["serve"]

    def specs(part):
        return {
            name: (
                types_pb2.DataType.Name(info.dtype),
                tuple(side.size for side in info.tensor_shape.dim),
                info.name,
            )
            for name, info in part.items()
        }

    def text(name, *inputs):
        return {argument: ("DT_STRING", (-1,), f"{name}_{argument}:0") for argument in inputs}

    def answer(top, labels=True):
        outputs = {"probability": ("DT_FLOAT", (-1, top)), "class_id": ("DT_INT32", (-1, top))}
        return outputs | ({"label": ("DT_STRING", (-1, top))} if labels else {})

    wanted = {
        "serving_default": (text("serving_default", "image_bytes", "domain"), answer(5)),
        "tf_example": (text("tf_example", "examples", "domain"), answer(5)),
        "features": (text("features", "image_bytes", "domain"), {"features": ("DT_FLOAT", (-1, 32))}),
        "domains": (
            {"index": ("DT_INT32", (-1,), "domains_index:0")},
            {"domain": ("DT_STRING", (-1,)), "domain_id": ("DT_INT32", (-1,))},
        ),
    }
    for suffix, dtype in (("", "DT_FLOAT"), ("_uint8", "DT_UINT8")):
        name = f"serve_images{suffix}"
        inputs = {
            "image": (dtype, (-1, 16, 16, 3), f"{name}_image:0"),
            "domain_id": ("DT_INT32", (-1,), f"{name}_domain_id:0"),
        }
        wanted[name] = inputs, answer(5, labels=False)
        for domain, classes in NUM_CLASSES.items():
            name = f"classify_{domain}{suffix}"
            wanted[name] = {"image": (dtype, (-1, -1, -1, 3), f"{name}_image:0")}, answer(min(5, classes))
    found = {name: signature for name, signature in meta_graph.signature_def.items() if name != "__saved_model_init_op"}
    assert set(found) == set(wanted)
    for name, (inputs, outputs) in wanted.items():
        assert specs(found[name].inputs) == inputs
        assert {output: spec[:2] for output, spec in specs(found[name].outputs).items()} == outputs
        assert found[name].method_name == "tensorflow/serving/predict"
        # TensorFlow Serving's REST API would send these in base64.
        assert not [output for output in outputs if output.endswith("_bytes")]


def test_domains_are_listed_by_name_and_id(signatures, source):
    answer = signatures["domains"](index=tf.constant([1, 0, len(NUM_CLASSES), -1, 5]))
    names = list(NUM_CLASSES)
    assert [name.decode() for name in answer["domain"]] == [names[1], names[0], "", "", names[5]]
    assert answer["domain_id"].tolist() == [source.ids[names[1]], source.ids[names[0]], -1, -1, source.ids[names[5]]]
    assert signatures["domains"](index=tf.zeros(0, tf.int32))["domain"].shape == (0,)


def test_of_many_domains_only_those_that_no_batch_mixes_have_signatures_of_their_own(source):
    served = Served(source.model, source.packs, source.ids, (16, 16), domain_signatures=False)
    assert {name for name in all_signatures(served) if name.startswith("classify_")} == {
        "classify_upright", "classify_upright_uint8",
    }
    assert all_signatures(dataclasses.replace(served, domain_signatures=True)).keys() > all_signatures(served).keys()


@pytest.mark.parametrize("name", ["serve_images", "serve_images_uint8"])
def test_serve_images_computes_no_strings(name, signatures):
    """But for the text of its refusals, which are constants."""
    graphs = [signatures[name].spec.graph.as_graph_def()]
    called = {function.signature.name: function for function in graphs[0].library.function}
    nodes = list(graphs[0].node)
    for function in called.values():
        nodes += function.node_def
    strings = [
        node for node in nodes for attribute in node.attr.values() if attribute.type == tf.string.as_datatype_enum
    ]
    assert {node.op for node in strings} <= {"Const"}


def test_variables_are_stored_once_whatever_the_number_of_signatures(exported, source):
    reader = tf.train.load_checkpoint(str(exported / "variables" / "variables"))
    stored = {name: shape for name, shape in reader.get_variable_to_shape_map().items() if "OBJECT_GRAPH" not in name}
    wanted = sum(int(np.prod(variable.shape)) for variable in source.model.variables)
    assert sum(int(np.prod(shape)) for shape in stored.values()) == wanted


def test_two_domains_that_want_one_signature_are_refused(source):
    model = MultiDomainClassifier({"a": 2, "a_uint8": 2}, Architecture(width=2, blocks_per_stage=1))
    two = {"label_names": ["x", "y"], "category_ids": [0, 1], "tensors": {}}
    packs = [dataclasses.replace(source.packs[0], domain=domain, **two) for domain in model.domains]
    with pytest.raises(ValueError, match="'a_uint8'.*'classify_a_uint8'"):
        all_signatures(Served(model, tuple(packs), {"a": 0, "a_uint8": 1}, (16, 16)))


# Refusals


def assert_refused(ask, *parts, **inputs):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        ask(**{name: tf.constant(value) for name, value in inputs.items()})
    for part in parts:
        assert part in str(caught.value)


GOOD = ENCODERS["jpeg"](np.full((20, 20, 3), 90, "uint8"))
GOOD_PNG = ENCODERS["png"](np.random.default_rng(0).integers(0, 255, (20, 20, 3), "uint8"))


def test_an_unknown_domain_is_refused_by_row_and_name(signatures):
    domains = ["base", PAIR, "gtsrb"]
    in_example = example("jpeg", 20, 20, GOOD)
    for name, argument, row in (("serving_default", "image_bytes", GOOD), ("tf_example", "examples", in_example)):
        assert_refused(signatures[name], "row 2", "[gtsrb]", ALL, **{argument: [row] * 3, "domain": domains})
    assert_refused(signatures["features"], "row 0", "unknown domain []", image_bytes=[GOOD], domain=[""])


def test_an_unknown_domain_id_is_refused_by_row_and_id(signatures, source):
    for name, dtype in (("serve_images", "float32"), ("serve_images_uint8", "uint8")):
        pixels = np.zeros((3, 16, 16, 3), dtype)
        for ids in ([0, 1, 9], [1, 0, source.ids["upright"]], [0, 0, -1]):
            parts = ("[row] [2]", f"[{ids[2]}]", f"0 base, 1 {PAIR}")
            assert_refused(signatures[name], *parts, image=pixels, domain_id=np.array(ids, "int32"))


def test_a_domain_of_another_size_is_refused_and_sent_to_its_own_signature(signatures):
    ask = signatures["serving_default"]
    assert_refused(
        ask, "row 1", "[upright]", "24x12", "classify_upright", image_bytes=[GOOD] * 2, domain=["base", "upright"]
    )


def headed(width, height, image_format="png"):
    """Returns a small file whose header speaks of a large image."""
    if image_format == "png":
        return GOOD_PNG[:16] + struct.pack(">II", width, height) + GOOD_PNG[24:]
    if image_format == "gif":
        return b"GIF89a" + struct.pack("<HH", width, height) + bytes(20)
    if image_format == "bmp":
        return b"BM" + bytes(12) + struct.pack("<iiihhi", 40, width, height, 1, 24, 0) + bytes(40)
    frame = GOOD.index(b"\xff\xc0")
    return GOOD[: frame + 5] + struct.pack(">HH", height, width) + GOOD[frame + 9 :]


BAD = {
    "empty": (b"", f"0 bytes for domain [{PAIR}] is no JPEG, PNG, GIF or BMP file"),
    "text": (b"hello", f"5 bytes for domain [{PAIR}] is no JPEG, PNG, GIF or BMP file"),
    "jpeg start": (GOOD[:4], "is damaged"),
    "half jpeg": (GOOD[: len(GOOD) // 2], "is damaged"),
    "png start": (GOOD_PNG[:20], "is damaged"),
    "half png": (GOOD_PNG[: len(GOOD_PNG) // 2], "is damaged"),
    "bmp start": (b"BM", "is damaged"),
    "gif start": (b"GIF89a", "is damaged"),
    "no pixels": (headed(0, 10), "is damaged"),
    "bmp of no height": (headed(10, -(2**31), "bmp"), "is damaged"),
    "100 megapixels, png": (headed(10000, 10001), "has 10001x10000 pixels (height x width), to be resized to cover 1"),
    "100 megapixels, jpeg": (headed(10000, 10001, "jpeg"), "has 10001x10000 pixels"),
    "100 megapixels, gif": (headed(10000, 10001, "gif"), "has 10001x10000 pixels"),
    "100 megapixels, bmp": (headed(10000, 10001, "bmp"), "has 10001x10000 pixels"),
    "no end of pixels": (headed(2**31 - 1, 2**31 - 1), "has 2147483647x2147483647 pixels"),
    "a line": (headed(200000, 1), "resized to cover 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_refused_by_row_domain_and_reason(name, signatures):
    bad, reason = BAD[name]
    domains = ["base", PAIR, "base"]
    parts = ("row 1", f"[{PAIR}]", reason)
    assert_refused(signatures["serving_default"], *parts, image_bytes=[GOOD, bad, GOOD], domain=domains)
    if bad:
        examples = [example("jpeg", 20, 20, encoded) for encoded in (GOOD, bad, GOOD)]
        assert_refused(signatures["tf_example"], *parts, examples=examples, domain=domains)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"nonsense", "is no tf.train.Example"),
        (tf.train.Example().SerializeToString(), "has no image/encoded"),
        (
            tf.train.Example(
                features=tf.train.Features(
                    feature={"image/encoded": tf.train.Feature(int64_list=tf.train.Int64List(value=[1]))}
                )
            ).SerializeToString(),
            "is no tf.train.Example",
        ),
    ],
    ids=["no example", "no image", "a number"],
)
def test_a_bad_example_is_refused_by_row(bad, reason, signatures):
    good = example("jpeg", 20, 20, GOOD)
    assert_refused(signatures["tf_example"], "row 1", reason, examples=[good, bad], domain=["base", "base"])


def test_a_damaged_image_does_not_hide_the_limit_of_size(signatures):
    """The row that is named first is right, whatever else is wrong with others."""
    images = [headed(10000, 10001), GOOD, GOOD[:4]]
    assert_refused(signatures["serving_default"], "row 2", "is damaged", image_bytes=images, domain=["base"] * 3)


def test_rows_that_do_not_pair_up_are_refused(signatures):
    assert_refused(signatures["serving_default"], "received 1 and 2", image_bytes=[GOOD], domain=["base", PAIR])
    assert_refused(signatures["tf_example"], "examples and domain", examples=[GOOD] * 2, domain=["base"])
    pixels = np.zeros((2, 16, 16, 3), "float32")
    assert_refused(signatures["serve_images"], "[2]", "[1]", image=pixels, domain_id=np.zeros(1, "int32"))


def test_images_without_pixels_or_too_long_are_refused(signatures):
    ask = signatures[f"classify_{PAIR}"]
    assert_refused(ask, f"[{PAIR}]: images have no pixels", image=np.zeros((2, 0, 4, 3), "float32"))
    assert_refused(ask, f"[{PAIR}]", "has 1x200000 pixels", image=np.zeros((1, 1, 200000, 3), "float32"))


def test_what_is_not_a_number_is_refused_by_row(signatures):
    pixels = np.zeros((3, 16, 16, 3), "float32")
    pixels[1, 2, 3, 0] = np.nan
    pixels[2, 2, 3, 0] = np.inf
    assert_refused(signatures["classify_base"], "row 1", "[base]", "not finite", image=pixels)
    assert_refused(signatures["serve_images"], "[row] [1]", "not finite", image=pixels, domain_id=np.zeros(3, "int32"))

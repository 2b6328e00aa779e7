"""What lies beside the graph of an export: labels, preprocessing, a model card, and requests to warm up with.

assets/export.json              what the export is made of: `python -m tfmdl.export --from_export` reads it again
assets/domains/<domain>.json    labels and preprocessing of a domain
assets/MODEL_CARD.md
assets.extra/tf_serving_warmup_requests
"""

import dataclasses
import pathlib

import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

import tfmdl
from tfmdl.counts import count
from tfmdl.data.records import DatasetInfo, converted_domains
from tfmdl.files import file_sha256, write_json
from tfmdl.serving.limits import RULES
from tfmdl.serving.samples import SampleRequest
from tfmdl.serving.signatures import SERVING_DEFAULT

GRAPH = "saved_model.pb"
VALUES = "variables"
MANIFEST = "assets/export.json"
WARMUP = "assets.extra/tf_serving_warmup_requests"


def write_assets(folder: pathlib.Path, manifest: dict, packs, ids: dict[str, int]) -> None:
    """Writes `assets/export.json`, with the hashes of graph and values, and `assets/domains/`.

    Args:
        folder: Of the SavedModel.
        manifest: What the export is made of.
        packs: The packs of its domains.
        ids: By domain, what serve_images calls it.
    """
    hashes = {path: file_sha256(folder / path) for path in _read_by_tensorflow(folder)}
    write_json(folder / MANIFEST, {**manifest, "files": hashes, "tool_version": tfmdl.__version__})
    for pack in packs:
        facts = {"domain_id": ids[pack.domain], **domain_facts(pack)}
        write_json(facts_path(folder, pack.domain), facts)


def check_files(folder: pathlib.Path, hashes: dict[str, str]) -> None:
    """Compares graph and values of the SavedModel in `folder` with the hashes that `assets/export.json` has of them.

    Raises:
        ValueError: if there are other files, or one is not as it was written, naming it.
    """
    found = _read_by_tensorflow(folder)
    if found != sorted(hashes):
        raise ValueError(
            f"{folder}: damaged, it has {', '.join(found)}; {MANIFEST} tells of {', '.join(sorted(hashes))}"
        )
    for path in found:
        if file_sha256(folder / path) != hashes[path]:
            raise ValueError(f"{folder / path}: damaged, its SHA-256 is not that in {MANIFEST}")


def _read_by_tensorflow(folder):
    """Returns the paths in `folder` of the files that TensorFlow makes a model of, in order."""
    found = [folder / GRAPH, *(folder / VALUES).iterdir()]
    return sorted(str(path.relative_to(folder)) for path in found)


def facts_path(folder: pathlib.Path, domain: str) -> pathlib.Path:
    """Returns where an export in `folder` keeps what it knows of a domain."""
    return folder / "assets" / "domains" / f"{domain}.json"


def domain_facts(pack) -> dict:
    """Returns labels, preprocessing and what else is known of a pack's domain, for JSON."""
    return {
        "domain": pack.domain,
        "label_names": pack.label_names,
        "category_ids": pack.category_ids,
        "accuracy": pack.accuracy,
        "preprocessing": dataclasses.asdict(pack.preprocessing),
        "architecture": pack.architecture.to_json(),
    }


def write_model_card(
    folder: pathlib.Path, model, packs, manifest: dict, difference: float, data_dir=None, license_line=None
) -> None:
    """Writes `assets/MODEL_CARD.md`.

    Args:
        folder: Of the SavedModel.
        model: The live model.
        packs, manifest: As in `write_assets`.
        difference: Of the export's probabilities from the live model's.
        data_dir: Folder of converted domains, or None: it knows how many images there were.
        license_line: What the user says of the licence, or None.
    """
    counted = count(model, (manifest["base_domain"],))
    known = converted_domains(data_dir) if data_dir else ()
    rows = ["| domain | classes | training images | accuracy on val | seen at | parameters of its own |"]
    rows.append("|---|---|---|---|---|---|")
    for pack in packs:
        images = "not known here"
        if pack.domain in known:
            splits = DatasetInfo.load(data_dir, pack.domain).splits
            images = f"{splits['train'].num_examples:,}" if "train" in splits else "none"
        accuracy = "not measured" if pack.accuracy is None else f"{100 * pack.accuracy:.1f} %"
        own = counted.own[pack.domain] + counted.classifier[pack.domain]
        height, width = pack.preprocessing.size
        rows.append(
            f"| {pack.domain} | {len(pack.label_names):,} | {images} | {accuracy} | {height}x{width} | {own:,} |"
        )
    architecture = model.architecture
    depth = f"{architecture.backbone}, width {architecture.width}, {architecture.blocks_per_stage} blocks per stage"
    methods = list(dict.fromkeys(model.architecture_of(pack.domain).method_and_options for pack in packs))
    shared_by = f"sharing method{'s' if len(methods) > 1 else ''} {', '.join(methods)}"
    form = ", normalisation folded" if manifest["folded"] else ""
    base = manifest["base_domain"]
    table = "\n".join(rows)
    limits = "\n".join(f"* {rule[0].upper()}{rule[1:]}." for rule in RULES.values())
    many = f"{len(packs)} visual domains" if len(packs) > 1 else "one visual domain"
    text = f"""# Model card

One image classifier for {many}, made by tfmdl {tfmdl.__version__} after "Depthwise Convolution is
All You Need for Learning Multiple Visual Domains" (Guo et al., AAAI 2019).

License: {license_line or "not stated"}

* Network: {depth}; {shared_by}.
* Trained on: the trunk on {base}, then each domain on its own training images, everything shared frozen.
* Parameters: {counted.total:,} in all, of which {counted.shared:,} are shared by all domains.
* Served in {manifest["precision"]}{form}. Probabilities differ from the trained model's by at most {difference:.1e}.

{table}

It answers for images of its domains only, and the domain has to be known: asked for a picture of anything else, it
still names one of the domain's classes. Accuracies are those of the training runs on their val split.

An image file that could cost more than a photo does is refused before it is decoded:

{limits}
"""
    (folder / "assets" / "MODEL_CARD.md").write_text(text)


def write_warmup(folder: pathlib.Path, requests: list[SampleRequest]) -> list[SampleRequest]:
    """Writes requests for every signature, which TensorFlow Serving sends itself when it loads the export.

    Args:
        folder: Of the SavedModel.
        requests: At least one for each signature.

    Returns:
        Those that were written: one of one row per signature, and one of many rows for the default one.
    """
    first = {request.signature: request for request in reversed(requests)}
    chosen = [*(request.rows([0]) for request in first.values()), first[SERVING_DEFAULT]]
    path = folder / WARMUP
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in chosen:
            log = prediction_log_pb2.PredictLog(request=predict_request(request.signature, request.inputs))
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
    return chosen


def predict_request(signature: str, inputs: dict, model_name: str = "") -> predict_pb2.PredictRequest:
    """Returns a request of TensorFlow Serving's gRPC API."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def read_warmup(folder: pathlib.Path) -> list[predict_pb2.PredictRequest]:
    """Returns the requests that TensorFlow Serving would send when it loads the SavedModel in `folder`."""
    logs = tf.data.TFRecordDataset(str(folder / WARMUP)).as_numpy_iterator()
    return [prediction_log_pb2.PredictionLog.FromString(log).predict_log.request for log in logs]

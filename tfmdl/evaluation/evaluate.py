"""Evaluates runs, or one composed model: nothing is printed or written here."""

import dataclasses
import itertools
from collections import Counter

from tfmdl import packs
from tfmdl.counts import ParameterCount, count
from tfmdl.data.pipeline import Source, evaluation_images
from tfmdl.data.records import INFO_FILE, DatasetInfo
from tfmdl.evaluation.accuracy import Evaluation, Tally
from tfmdl.evaluation.answers import Answer, AnswerPicker
from tfmdl.evaluation.predict import predict_alone, predict_mixed
from tfmdl.evaluation.submission import join_labels, read_labels
from tfmdl.model import MultiDomainClassifier

Loaded = list[tuple[MultiDomainClassifier, list[packs.Pack]]]


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """What to evaluate, and on which images.

    Attributes:
        data_dir: Folder of the converted domains.
        split: "val" or "test".
        workdirs: Runs whose domains are evaluated by their own towers.
        trunk, pack_paths: Instead: one composed model, evaluated on batches that mix the domains.
        expert_paths: Packs that these mix the kernels of, if they are no longer where they were.
        labels_dir: Folder of `<domain>_test.json` files, for a test split without labels.
        wrong, right: How many wrong and right answers of each domain to keep with their images.
        batches: Evaluate only so many batches of each domain of `workdirs`, the first; None: all.
    """

    data_dir: str
    split: str
    workdirs: tuple[str, ...] = ()
    trunk: str | None = None
    pack_paths: tuple[str, ...] = ()
    expert_paths: tuple[str, ...] = ()
    labels_dir: str | None = None
    wrong: int = 0
    right: int = 0
    batches: int | None = None


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """What was found.

    Attributes:
        config: What was evaluated.
        infos: What is known of each domain's data, by name.
        evaluations: Accuracy, loss and confusion by domain; empty where images have no labels.
        predictions: {"image_id", "category_id"} for each image, as the Decathlon's server takes them.
        counts: Parameters of each model: one per run, or the one that was composed.
        gates: Mean gates by domain, layer and expert; empty where no layer mixes any.
        wrong, right: By domain as many answers as were asked for, and there are: the most wrong ones first, and right
            ones as if by chance; empty where images have no labels.
    """

    config: EvaluationConfig
    infos: dict[str, DatasetInfo]
    evaluations: dict[str, Evaluation]
    predictions: list[dict[str, int]]
    counts: list[ParameterCount]
    gates: dict[str, dict[str, dict[str, float]]]
    wrong: dict[str, tuple[Answer, ...]]
    right: dict[str, tuple[Answer, ...]]


def evaluate(config: EvaluationConfig, labels_required: bool = True, loaded: Loaded | None = None) -> EvaluationResult:
    """Evaluates what `config` says.

    Args:
        config: What, and on which images.
        labels_required: Otherwise predictions are enough where images have no labels.
        loaded: What `load` returned for `config`, where that was called already.

    Raises:
        FileNotFoundError, ValueError: if runs, data or labels are missing or do not belong together.
        FloatingPointError: if an answer is not finite, naming domain, image and what was evaluated.
    """
    loaded = loaded or load(config)
    domains = [pack.domain for _, members in loaded for pack in members]
    infos = {domain: DatasetInfo.load(config.data_dir, domain) for domain in domains}
    for _, members in loaded:
        for pack in members:
            if pack.label_names != infos[pack.domain].label_names:
                raise ValueError(
                    f"{pack.path} was trained on other classes than {config.data_dir} has for {pack.domain!r}"
                )
    label_of = _labels(config, infos)
    if label_of is None and labels_required:
        raise ValueError(
            f"the {config.split} split of {', '.join(_unlabelled(config, infos))} has no labels, so there is no "
            "accuracy: give --labels_dir, or ask for predictions only, with --submission"
        )

    tallies = {domain: Tally(info.num_classes) for domain, info in infos.items()}
    pickers = {domain: AnswerPicker(config.wrong, config.right) for domain in infos}
    entries = []
    for model, members in loaded:
        for predictions in _predict(config, model, members, infos):
            domain, info = predictions.domain, infos[predictions.domain]
            if label_of is not None:
                labels = predictions.labels
                if domain in label_of:
                    labels = join_labels(predictions.image_ids, label_of[domain], domain)
                tallies[domain].add(predictions.logits, labels, predictions.gates)
                pickers[domain].add(predictions.image_ids, predictions.logits, labels)
            categories = (info.category_ids[index] for index in predictions.logits.argmax(axis=1))
            pairs = zip(predictions.image_ids.tolist(), categories, strict=True)
            entries += [{"image_id": image, "category_id": category} for image, category in pairs]

    evaluations = {} if label_of is None else {domain: tally.result() for domain, tally in tallies.items()}
    return EvaluationResult(
        config=config,
        infos=infos,
        evaluations=evaluations,
        predictions=entries,
        counts=[count(model, packs.domains_without_additions(model, members)) for model, members in loaded],
        gates={
            pack.domain: model.named_gates(evaluations[pack.domain].gates)
            for model, members in loaded
            for pack in members
            if evaluations and model.gated_layers()
        },
        **_with_images(config, loaded, infos, pickers if evaluations else {}),
    )


def load(config: EvaluationConfig) -> Loaded:
    """Returns pairs of a model and its packs: one for each run, or the one that was composed.

    Raises:
        FileNotFoundError, ValueError: if a file is missing or damaged, or what was asked for does not go together.
    """
    if config.workdirs and (config.trunk or config.pack_paths):
        raise ValueError("give either --workdir, or --trunk and --packs; received both")
    if config.batches and not config.workdirs:
        raise ValueError(f"`batches` is for `workdirs`; received batches={config.batches} for a composed model")
    if not config.workdirs:
        return [packs.load_model(None, config.trunk, list(config.pack_paths), expert_paths=config.expert_paths)]
    loaded = [packs.load_model([workdir], expert_paths=config.expert_paths) for workdir in config.workdirs]
    for domain, times in Counter(pack.domain for _, members in loaded for pack in members).items():
        if times > 1:
            raise ValueError(f"--workdir names {times} runs of domain {domain!r}: evaluate them one after the other")
    return loaded


def _unlabelled(config, infos):
    return [domain for domain, info in infos.items() if not info.splits[config.split].labelled]


def _labels(config, infos):
    """Returns the labels to join, by domain and image id; None if a split has none and no folder was given."""
    for info in infos.values():
        info.shard_paths(config.data_dir, config.split)  # an absent split is named before anything is computed
    if not config.labels_dir:
        return None if _unlabelled(config, infos) else {}
    if config.split != "test":
        raise ValueError(f"--labels_dir is for --split=test; received --split={config.split}")
    return {domain: read_labels(config.labels_dir, domain, info.category_ids) for domain, info in infos.items()}


def _source(config, infos, pack):
    return Source.of(config.data_dir, infos[pack.domain], (config.split,), pack.preprocessing)


def _with_images(config, loaded, infos, pickers):
    """Returns the answers that were picked, wrong and right, by domain, each with its image."""
    answers = {"wrong": {}, "right": {}}
    for pack in (pack for _, members in loaded for pack in members if pack.domain in pickers):
        picker = pickers[pack.domain]
        ids = [answer.image_id for answer in (*picker.wrong, *picker.right)]
        images = evaluation_images(_source(config, infos, pack), ids)
        for kind, found in answers.items():
            picked = getattr(picker, kind)
            found[pack.domain] = tuple(dataclasses.replace(one, image=images[one.image_id]) for one in picked)
    return answers


def _predict(config, model, members, infos):
    sources = [_source(config, infos, pack) for pack in members]
    try:
        if config.trunk:
            yield from predict_mixed(model, sources)
        else:
            for source in sources:
                predictions = predict_alone(model.tower(source.domain, gates=True), source)
                yield from itertools.islice(predictions, config.batches)
    except FloatingPointError as error:
        which = ", ".join(filter(None, (config.trunk, *(pack.path for pack in members))))
        raise FloatingPointError(
            f"{error}: the images, or the weights of {which}, are too large for float32: look at these and at "
            f"pixel_std in {INFO_FILE}"
        ) from error

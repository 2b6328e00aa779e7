"""One evaluation, from runs to a table, evaluation.json and a submission."""

import dataclasses
from collections import Counter

from rich.table import Table

from tfmdl import packs
from tfmdl.cli import table_console
from tfmdl.counts import count
from tfmdl.data.pipeline import Source
from tfmdl.data.records import DatasetInfo
from tfmdl.domains import published
from tfmdl.evaluation.accuracy import Evaluation, Tally
from tfmdl.evaluation.decathlon import decathlon_scores, score_table, title_of
from tfmdl.evaluation.predict import predict_alone, predict_mixed
from tfmdl.evaluation.submission import join_labels, read_labels, write_submission
from tfmdl.files import write_json


@dataclasses.dataclass(frozen=True)
class Request:
    """What `eval.py` was asked for.

    Attributes:
        workdirs: Runs whose domains are evaluated by their own towers.
        trunk, pack_paths: Instead: one composed model, evaluated on batches that mix the domains.
        expert_paths: Packs that these mix the kernels of, if they are no longer where they were.
        data_dir: Folder of the converted domains.
        split: "val" or "test".
        labels_dir: Folder of `<domain>_test.json` files, for a test split without labels.
        output: File for the evaluation, or None.
        submission: File for the predictions in the Decathlon's format, or None.
    """

    data_dir: str
    split: str
    workdirs: tuple[str, ...] = ()
    trunk: str | None = None
    pack_paths: tuple[str, ...] = ()
    expert_paths: tuple[str, ...] = ()
    labels_dir: str | None = None
    output: str | None = None
    submission: str | None = None


def evaluate(request: Request) -> dict[str, Evaluation]:
    """Evaluates, prints a table, writes what was asked for, and returns the evaluations by domain.

    Raises:
        FileNotFoundError, ValueError: if runs, data or labels are missing or do not belong together.
    """
    loaded = _load(request)
    domains = [pack.domain for _, members in loaded for pack in members]
    infos = {domain: DatasetInfo.load(request.data_dir, domain) for domain in domains}
    for _, members in loaded:
        for pack in members:
            if pack.label_names != infos[pack.domain].label_names:
                raise ValueError(
                    f"{pack.path} was trained on other classes than {request.data_dir} has for {pack.domain!r}"
                )
    label_of = _labels(request, infos)
    scored = label_of is not None
    if not scored and (request.output or not request.submission):
        raise ValueError(
            f"the {request.split} split of {', '.join(_unlabelled(request, infos))} has no labels, so there is no "
            "accuracy: give --labels_dir, or ask for predictions only, with --submission"
        )

    tallies = {domain: Tally(infos[domain].num_classes) for domain in domains}
    entries = []
    for model, members in loaded:
        for predictions in _predict(request, model, members, infos):
            domain, info = predictions.domain, infos[predictions.domain]
            if scored:
                labels = predictions.labels
                if domain in label_of:
                    labels = join_labels(predictions.image_ids, label_of[domain], domain)
                tallies[domain].add(predictions.logits, labels, predictions.gates)
            categories = (info.category_ids[index] for index in predictions.logits.argmax(axis=1))
            pairs = zip(predictions.image_ids.tolist(), categories, strict=True)
            entries += [{"image_id": image, "category_id": category} for image, category in pairs]

    console = table_console()
    if request.submission:
        write_submission(request.submission, entries)
        wrote = f"wrote {request.submission}: {len(entries):,} predictions of {len(domains)} domains"
        console.print(wrote, soft_wrap=True)
    if not scored:
        return {}
    evaluations = {domain: tally.result() for domain, tally in tallies.items()}
    counts = [count(model, packs.domains_without_additions(model, members)) for model, members in loaded]
    _print_table(console, request, evaluations, counts)
    gates = {
        pack.domain: model.named_gates(evaluations[pack.domain].gates)
        for model, members in loaded
        for pack in members
        if model.gated_layers()
    }
    if gates:
        _print_gates(console, gates)
    if request.output:
        write_json(request.output, _as_json(request, evaluations, infos, counts, gates))
        console.print(f"wrote {request.output}", soft_wrap=True)
    return evaluations


def _load(request):
    """Returns pairs of a model and its packs: one for each run, or the one that was composed."""
    if request.workdirs and (request.trunk or request.pack_paths):
        raise ValueError("give either --workdir, or --trunk and --packs; received both")
    if not request.workdirs:
        return [packs.load_model(None, request.trunk, list(request.pack_paths), expert_paths=request.expert_paths)]
    loaded = [packs.load_model([workdir], expert_paths=request.expert_paths) for workdir in request.workdirs]
    for domain, times in Counter(pack.domain for _, members in loaded for pack in members).items():
        if times > 1:
            raise ValueError(f"--workdir names {times} runs of domain {domain!r}: evaluate them one after the other")
    return loaded


def _unlabelled(request, infos):
    return [domain for domain, info in infos.items() if not info.splits[request.split].labelled]


def _labels(request, infos):
    """Returns the labels to join, by domain and image id; None if a split has none and no folder was given."""
    for info in infos.values():
        info.shard_paths(request.data_dir, request.split)  # an absent split is named before anything is computed
    if not request.labels_dir:
        return None if _unlabelled(request, infos) else {}
    if request.split != "test":
        raise ValueError(f"--labels_dir is for --split=test; received --split={request.split}")
    return {domain: read_labels(request.labels_dir, domain, info.category_ids) for domain, info in infos.items()}


def _predict(request, model, members, infos):
    sources = [
        Source.of(request.data_dir, infos[pack.domain], (request.split,), pack.preprocessing) for pack in members
    ]
    if request.trunk:
        yield from predict_mixed(model, sources)
    else:
        for source in sources:
            yield from predict_alone(model.tower(source.domain, gates=True), source)


def _print_table(console, request, evaluations, counts):
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column(f"{request.split} split")
    for column in ("accuracy %", "correct", "images", "loss", "own parameters", "classifier"):
        table.add_column(column, justify="right")
    own = {domain: number for count in counts for domain, number in count.own.items()}
    classifier = {domain: number for count in counts for domain, number in count.classifier.items()}
    for domain, result in evaluations.items():
        table.add_row(
            domain,
            f"{100 * result.accuracy:.2f}",
            f"{result.correct:,}",
            f"{result.total:,}",
            f"{result.loss:.3f}",
            f"{own[domain]:,}",
            f"{classifier[domain]:,}",
        )
    mean = sum(result.accuracy for result in evaluations.values()) / len(evaluations)
    table.add_row("mean", f"{100 * mean:.2f}")
    console.print(table)
    if request.split == "test":
        _print_score(console, evaluations)
    if request.trunk:
        console.print(f"one model, mixed batches: {counts[0].total:,} parameters, {counts[0].shared:,} of them shared")


def _print_gates(console, gates):
    """Prints by domain how much it uses the kernels of each expert, in the mean over its layers that mix any."""
    experts = list(dict.fromkeys(expert for layers in gates.values() for row in layers.values() for expert in row))
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("mean gate in %")
    for column in (*experts, "layers"):
        table.add_column(column, justify="right")
    for domain, layers in gates.items():
        means = (sum(row.get(expert, 0.0) for row in layers.values()) / len(layers) for expert in experts)
        table.add_row(domain, *(f"{100 * mean:.1f}" for mean in means), str(len(layers)))
    console.print(table)


def _print_score(console, evaluations):
    """Prints the points of those domains that are the Visual Decathlon's, by name and number of classes."""
    known = {
        domain: result for domain, result in evaluations.items() if published(domain, len(result.confusion))
    }
    if known:
        accuracies = {domain: result.accuracy for domain, result in known.items()}
        scores = decathlon_scores(accuracies, {domain: result.total for domain, result in known.items()})
        console.print(score_table(accuracies, scores, title_of(scores)))


def _as_json(request, evaluations, infos, counts, gates):
    domains = {}
    for domain, result in evaluations.items():
        names, ids = infos[domain].label_names, infos[domain].category_ids
        unique = len(set(names)) == len(names)
        keys = names if unique else [f"{name} ({category})" for name, category in zip(names, ids, strict=True)]
        domains[domain] = {
            "accuracy": result.accuracy,
            "correct": result.correct,
            "total": result.total,
            "loss": result.loss,
            "per_class": {
                key: {"correct": correct, "total": total}
                for key, (correct, total) in zip(keys, result.per_class, strict=True)
            },
        }
    parameters = counts[0].as_dict() if len(counts) == 1 else {"runs": [count.as_dict() for count in counts]}
    content = {"split": request.split, "domains": domains, "parameters": parameters}
    if gates:
        content["gates"] = {
            domain: [{"layer": layer, "experts": row} for layer, row in layers.items()]
            for domain, layers in gates.items()
        }
    return content

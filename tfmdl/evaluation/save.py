"""Writes an evaluation as JSON."""

import os

from tfmdl.evaluation.evaluate import EvaluationResult
from tfmdl.files import write_json


def save(result: EvaluationResult, path: str | os.PathLike) -> None:
    """Writes accuracies, those of classes among them, losses, parameters and gates, for images with labels."""
    write_json(path, _as_json(result))


def _as_json(result):
    domains = {}
    for domain, found in result.evaluations.items():
        names, ids = result.infos[domain].label_names, result.infos[domain].category_ids
        unique = len(set(names)) == len(names)
        keys = names if unique else [f"{name} ({category})" for name, category in zip(names, ids, strict=True)]
        domains[domain] = {
            "accuracy": found.accuracy,
            "correct": found.correct,
            "total": found.total,
            "loss": found.loss,
            "per_class": {
                key: {"correct": correct, "total": total}
                for key, (correct, total) in zip(keys, found.per_class, strict=True)
            },
        }
    counts = [count.as_dict() for count in result.counts]
    parameters = counts[0] if len(counts) == 1 else {"runs": counts}
    content = {"split": result.config.split, "domains": domains, "parameters": parameters}
    if result.gates:
        content["gates"] = {
            domain: [{"layer": layer, "experts": row} for layer, row in layers.items()]
            for domain, layers in result.gates.items()
        }
    return content

"""Writes an evaluation: as JSON, and as pictures of what was answered wrong."""

import contextlib
import io
import os
import pathlib

from tfmdl.domains import check_name
from tfmdl.evaluation.evaluate import EvaluationResult, Loaded
from tfmdl.evaluation.picture import any_script, draw_mistakes
from tfmdl.files import read_json, write_bytes, write_json


def save(result: EvaluationResult, path: str | os.PathLike) -> None:
    """Writes accuracies, those of classes among them, losses, parameters and gates, for images with labels.

    The pictures of the evaluation that was there before, which lie beside it, are removed with it.
    """
    for domain in _domains_of(path):
        _picture(pathlib.Path(path).parent, domain).unlink(missing_ok=True)
    write_json(path, _as_json(result))


def picture_folders(result: EvaluationResult, loaded: Loaded, output: str | None) -> dict[str, pathlib.Path]:
    """Returns where the picture of each domain belongs: beside `output`, or into the run that was evaluated.

    Without either, as of a composed model, there is no place, and no picture.

    Args:
        result: Of the evaluation.
        loaded: What was evaluated.
        output: File that the evaluation is written to, if it is.
    """
    if output:
        return dict.fromkeys(result.evaluations, pathlib.Path(output).parent)
    runs = zip(result.config.workdirs, loaded, strict=False)
    return {pack.domain: pathlib.Path(workdir) for workdir, (_, members) in runs for pack in members}


def save_mistakes(result: EvaluationResult, domain: str, folder: str | os.PathLike) -> pathlib.Path | None:
    """Writes `mistakes-<domain>.png` of the wrong answers that were kept, in place of an earlier one.

    Returns:
        Its path, or None where there is none to write: then there is no earlier one any more, either.
    """
    path = _picture(folder, domain)
    if not result.wrong[domain]:
        path.unlink(missing_ok=True)
        return None
    content = io.BytesIO()
    with any_script():
        draw_mistakes(result, domain).savefig(content, format="png", dpi=110)
    write_bytes(path, content.getvalue())
    return path


def _picture(folder, domain):
    return pathlib.Path(folder, f"mistakes-{domain}.png")


def _domains_of(path):
    """Returns the domains of an evaluation that was written before, none where there is none."""
    with contextlib.suppress(OSError, ValueError):
        domains = read_json(path).get("domains")
        for domain in domains if isinstance(domains, dict) else ():
            check_name(domain)  # no other file's path
            yield domain


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

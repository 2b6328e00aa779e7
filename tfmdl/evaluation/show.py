"""Shows an evaluation: accuracies, the Visual Decathlon's score, and what helps what."""

import statistics

from rich.console import Console

from tfmdl.cli import number_table
from tfmdl.domains import published
from tfmdl.evaluation.decathlon import decathlon_scores, score_table, title_of
from tfmdl.evaluation.evaluate import EvaluationResult


def show(result: EvaluationResult, console: Console) -> None:
    """Prints the tables of an evaluation of images with labels."""
    _print_accuracies(console, result)
    config = result.config
    if config.split == "test":
        _print_score(console, result.evaluations)
    if config.trunk:
        (count,) = result.counts
        console.print(f"one model, mixed batches: {count.total:,} parameters, {count.shared:,} of them shared")
    if result.gates:
        _print_gates(console, result.gates)


def _print_accuracies(console, result):
    columns = ("accuracy %", "correct", "images", "loss", "own parameters", "classifier")
    table = number_table(f"{result.config.split} split", *columns)
    own = {domain: number for count in result.counts for domain, number in count.own.items()}
    classifier = {domain: number for count in result.counts for domain, number in count.classifier.items()}
    for domain, found in result.evaluations.items():
        table.add_row(
            domain,
            f"{100 * found.accuracy:.2f}",
            f"{found.correct:,}",
            f"{found.total:,}",
            f"{found.loss:.3f}",
            f"{own[domain]:,}",
            f"{classifier[domain]:,}",
        )
    mean = statistics.fmean(found.accuracy for found in result.evaluations.values())
    table.add_row("mean", f"{100 * mean:.2f}")
    console.print(table)


def _print_gates(console, gates):
    """Prints by domain how much it uses the kernels of each expert, in the mean over its layers that mix any."""
    experts = list(dict.fromkeys(expert for layers in gates.values() for row in layers.values() for expert in row))
    table = number_table("mean gate in %", *experts, "layers")
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

"""What a run shows in TensorBoard."""

import dataclasses
import json
import shlex
import time

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, summary, summary_v2
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from tfmdl import counts
from tfmdl.cli import typed
from tfmdl.data.pipeline import evaluation_images
from tfmdl.dissection.kernels import distance, folded_kernels
from tfmdl.domains import SHARED
from tfmdl.evaluation.confusion import draw_confusion
from tfmdl.evaluation.picture import draw_answers
from tfmdl.model import slot_and_owner
from tfmdl.sharing import OPTIONS
from tfmdl.training.board import Board
from tfmdl.training.events import EventsFile
from tfmdl.training.history import History
from tfmdl.training.optimization import learning_rate_by_step
from tfmdl.training.pictures import draw_gates, draw_moved, pixels_of
from tfmdl.training.run_folder import RunFolder
from tfmdl.training.settings import command
from tfmdl.training.setup import Job
from tfmdl.training.steps import Steps

IMAGES = 64
FLUSH_SECONDS = 10.0
STILL = 1e-6  # a kernel that has moved less has not

# Columns of the table of runs: those that are shown unless others are asked for, then the rest.
_KINDS_OF_OPTIONS = {name: option.metadata["kind"] for name, option in OPTIONS.items()}
_SHOWN = {"domain": str, "method": str, **_KINDS_OF_OPTIONS, "parameters": int, "seed": int}
_NUMBERS = ("epochs", "batch_size", "learning_rate", "weight_decay", "image_size")
_OTHERS = {**dict.fromkeys(("trunk", "backbone", "recipe"), str), **dict.fromkeys(_NUMBERS, float)}
_TYPES = {str: api_pb2.DATA_TYPE_STRING, bool: api_pb2.DATA_TYPE_BOOL}
_RESULTS = {"result/accuracy": "accuracy on val", "result/loss": "loss on val"}


class TensorBoard(Board):
    """Writes a run's command, settings and results, its numbers by step and by epoch, and a few pictures.

    Pictures are drawn at the first epoch, at powers of two, and at the end.

    Args:
        job: What is trained, as it begins.
        folder: Where it is trained.

    Raises:
        OSError: here and in all methods, if events cannot be written.
    """

    mistakes = 24

    def __init__(self, job: Job, folder: RunFolder):
        self._job = job
        self._workdir = folder.path
        self._run = EventsFile(folder.path)
        self._train = EventsFile(folder.train_events)
        self._val = EventsFile(folder.val_events)
        self._profile_dir = str(folder.train_events)
        self._profiling = False
        self._history = History(folder.history)
        self._start = {domain: _trained_kernels(job.model, domain) for domain in job.config.domains}
        rate = learning_rate_by_step(job.recipe, job.steps_per_epoch)
        self._steps = Steps(rate, job.recipe.batch_size, job.steps_per_epoch)
        self._points = []
        self._written = time.monotonic()

    def begin(self, step):
        if step:
            self._history.go_on(step)
            return
        with self._run.at(0):
            tf.summary.text("about", self._about())
            tf.summary.text("configuration", _block(_configuration(self._job)))
            tf.summary.experimental.write_raw_pb(_columns().SerializeToString(), step=0)
            workdir = self._workdir.absolute()
            summary_v2.hparams(self._settings(), trial_id=f"{workdir.name} ({workdir.parent})")
        with self._train.at(0):
            tf.summary.image("augmented_images", _augmented(self._job)[None])

    def watched(self, batches):
        # Features lie in memory, and a step of theirs is shorter than what it takes to watch it.
        return batches if self._job.features else self._steps.watched(batches)

    def before_step(self, step):
        profile = self._job.config.profile_steps
        if profile and step == profile[0]:
            tf.profiler.experimental.start(self._profile_dir)
            self._profiling = True
        self._steps.before(step)

    def after_step(self, step, logs):
        point = self._steps.after(step, logs)
        if point:
            self._points.append((step, point))
        if self._profiling and step >= self._job.config.profile_steps[1]:
            self._end_profile()
        if time.monotonic() - self._written > FLUSH_SECONDS:
            self._write_points()

    def epoch(self, line, evaluations):
        self._write_points()
        epoch, step = line["epoch"], line["step"]
        self._history.add(epoch, step, self._rows(evaluations))
        with self._train.at(step):
            for name in ("loss", "accuracy"):
                tf.summary.scalar(f"by_epoch/{name}", line[f"train/{name}"])
        if evaluations:
            with self._val.at(step):
                for name in ("loss", "accuracy"):
                    tf.summary.scalar(f"by_epoch/{name}", line[f"val/{name}"])
                self._write_domains(evaluations)
        if epoch & (epoch - 1) == 0 and step < self._job.total_steps:
            self._write_pictures(step, evaluations)

    def end(self, step, evaluations):
        self._write_pictures(step, evaluations, self._rows(evaluations) if self._job.recipe.goes_back else None)
        if evaluations:
            found = evaluations.values()
            with self._run.at(step):
                for tag, value in zip(
                    _RESULTS, ([one.accuracy for one in found], [one.loss for one in found]), strict=True
                ):
                    tf.summary.scalar(tag, float(np.mean(value)))

    def close(self):
        if self._profiling:
            self._end_profile()
        self._write_points()
        for file in (self._run, self._train, self._val):
            file.close()

    def _end_profile(self):
        tf.profiler.experimental.stop()
        self._profiling = False

    def _write_points(self):
        self._written = time.monotonic()
        if self._points:
            with self._train.at(self._points[-1][0]):
                for step, point in self._points:
                    _write_numbers({f"by_step/{name}": value for name, value in point.items()}, step)
            self._points = []

    def _write_domains(self, evaluations):
        """Writes what several domains, or several experts, differ in."""
        for domain, evaluation in evaluations.items():
            if len(evaluations) > 1:
                tf.summary.scalar(f"by_domain/accuracy/{domain}", evaluation.accuracy)
                tf.summary.scalar(f"by_domain/loss/{domain}", evaluation.loss)
            if evaluation.gates is not None:
                means = evaluation.gates.mean(axis=0)
                for expert, gate in zip(self._job.model.method.experts, means, strict=True):
                    tf.summary.scalar(f"gates/{domain}/{expert}", gate)

    def _write_pictures(self, step, evaluations, kept=None):
        """Writes the pictures of the network as it is now; `kept` are rows that come behind those of the epochs."""
        epochs = [*map(str, self._history.epochs), *(["kept"] if kept else [])]

        def over_epochs(name):
            return np.stack([*self._history.rows(name), *([kept[name]] if kept else [])])

        moved = self._moved(over_epochs) if epochs else {}
        if moved:
            with self._train.at(step):
                tf.summary.image("kernels_moved", pixels_of(draw_moved(epochs, moved))[None])
        gates = self._gates(over_epochs, evaluations) if epochs else {}
        if gates:
            with self._val.at(step):
                tf.summary.image("gates", pixels_of(draw_gates(epochs, gates))[None])
        for source in self._job.val_sources:
            with self._val.at(step):
                self._write_answers(source, evaluations[source.domain])

    def _moved(self, over_epochs):
        """Returns the panels of `draw_moved`, of kernels that have moved."""
        panels = {}
        for domain, kinds in self._start.items():
            for kind, layers in kinds.items():
                values = over_epochs(f"moved/{domain}/{kind}")
                # What several domains share is in the panel of the first.
                seen = any(np.array_equal(values, one) for _, one in panels.values())
                if values.max() > STILL and not seen:
                    panels[f"{domain}: {kind}"] = (list(layers), values)
        return panels

    def _gates(self, over_epochs, evaluations):
        """Returns the panels of `draw_gates`, of domains that mix experts."""
        model = self._job.model
        layers = list(model.gated_layers())
        return {
            f"{domain}: kernels of {expert}": (layers, over_epochs(f"gates/{domain}")[..., index])
            for domain, evaluation in evaluations.items()
            if evaluation.gates is not None
            for index, expert in enumerate(model.method.experts)
        }

    def _write_answers(self, source, evaluation):
        """Writes what a domain's classes are taken for, and the images that are most wrong."""
        names, told = self._job.infos[source.domain].label_names, f"{source.domain}, val"
        confusion = draw_confusion(told, evaluation, names)
        tf.summary.image(f"confusion/{source.domain}", pixels_of(confusion)[None])
        if evaluation.wrong:
            images = evaluation_images(source, [answer.image_id for answer in evaluation.wrong])
            answers = [dataclasses.replace(one, image=images[one.image_id]) for one in evaluation.wrong]
            sheet = draw_answers(told, evaluation, answers, names)
            tf.summary.image(f"most_wrong/{source.domain}", pixels_of(sheet)[None])

    def _rows(self, evaluations):
        """Returns what the history has of the network as it is now."""
        rows = {}
        for domain, kinds in self._start.items():
            now = folded_kernels(self._job.model, domain, kinds) if kinds else {}
            for kind, start in kinds.items():
                moved = [distance(now[kind][layer], kernel, kernel) for layer, kernel in start.items()]
                rows[f"moved/{domain}/{kind}"] = np.array(moved)
        for domain, evaluation in evaluations.items():
            if evaluation.gates is not None:
                rows[f"gates/{domain}"] = evaluation.gates
        return rows

    def _about(self):
        """Returns, in Markdown, the command of the run, those that come next, and what it trains."""
        config = self._job.config
        rows = "".join(f"| {owner} | {count:,} |\n" for owner, count in _trained(self._job.model).items())
        run = f"--workdir={config.workdir}"
        evaluation = shlex.join([run, f"--data_dir={config.data_dir}", "--split=val"])
        export = shlex.join([run, f"--export_dir={config.workdir.rstrip('/')}-served"])
        next_ones = f"{typed('tfmdl.evaluation')} {evaluation}\n{typed('tfmdl.export')} {export}"
        return (
            f"### The run\n\n{_block(_on_lines(command(config)))}\n\nThe same command goes on where it was stopped.\n\n"
            f"### Next\n\n{_block(next_ones)}\n\n### What it trains\n\n| whose | parameters |\n|---|---|\n{rows}"
        )

    def _settings(self):
        """Returns the run's columns in the table of runs."""
        job = self._job
        counted = counts.count(job.model)
        settings = {
            "domain": ", ".join(job.config.domains),
            "trunk": job.trunk.base_domain if job.trunk else "",
            "parameters": sum(counted.own.values()) + (0 if job.trunk else counted.shared),
            "epochs": job.recipe.schedule.epochs,
            **{name: getattr(job.recipe, name) for name in ("batch_size", "learning_rate", "weight_decay")},
            **{name: getattr(job.config, name) for name in ("seed", "recipe", "image_size")},
            **{name: getattr(job.config.architecture, name) for name in ("method", "backbone")},
            **dataclasses.asdict(job.config.architecture.options),
        }
        return {name: value for name, value in settings.items() if value not in (None, "")}


def tile(images: np.ndarray, border: int = 2) -> np.ndarray:
    """Returns (count, height, width, channels) as one picture, near square, with white borders."""
    count, height, width, channels = images.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    picture = np.ones((rows * (height + border), columns * (width + border), channels), "float32")
    for index, image in enumerate(images):
        top, left = index // columns * (height + border), index % columns * (width + border)
        picture[top : top + height, left : left + width] = image
    return picture


def _write_numbers(values, step):
    """Writes numbers by tag as `tf.summary.scalar` does, all at once: one by one they take as long each."""
    written = Summary()
    for tag, value in values.items():
        written.MergeFrom(scalar_pb(tag, value))
    tf.summary.experimental.write_raw_pb(written.SerializeToString(), step=step)


def _augmented(job):
    """Returns a grid of images of the first training batch, as the network sees them but for their statistics."""
    batch = next(iter(job.pipeline.epoch(0)))
    domains = [job.preprocessing[source.domain] for source in job.pipeline.sources]
    mean, std = (
        np.array([getattr(domain, name) for domain in domains], "float32")[batch["domain"].numpy()][:, None, None]
        for name in ("mean", "std")
    )
    pixels = batch["image"].numpy() * std + mean
    return tile(np.clip(pixels[:IMAGES], 0, 1))


def _trained_kernels(model, domain):
    """Returns the kernels of the layers where something is trained, by kind and layer, as they are now."""
    if not model.backbone.trainable_variables:
        return {}
    return {
        kind: {layer: kernel.astype("float32") for layer, kernel in kernels.items() if kernel.any()}
        for kind, kernels in folded_kernels(model, domain).items()
        if any(kernel.any() for kernel in kernels.values())
    }


def _configuration(job):
    described = job.describe()
    if job.config.architecture.network:  # hundreds of steps
        described["run"]["architecture"]["network"] = job.config.architecture.network.name
    return json.dumps(described, indent=1)


def _columns():
    """Returns what all runs say of the table of runs, the same in each."""
    return summary.experiment_pb(
        [
            # TensorBoard shows those first that are said to differ.
            api_pb2.HParamInfo(name=name, type=_TYPES.get(kind, api_pb2.DATA_TYPE_FLOAT64), differs=name in _SHOWN)
            for name, kind in (_SHOWN | _OTHERS).items()
        ],
        [summary_v2.Metric(tag, display_name=name).as_proto() for tag, name in _RESULTS.items()],
    )


def _trained(model):
    """Returns the numbers of trained parameters by owner."""
    found = {}
    for variable in model.trainable_variables:
        owner = slot_and_owner(variable)[1]
        found[owner] = found.get(owner, 0) + int(np.prod(variable.shape))
    return dict(sorted(found.items(), key=lambda item: item[0] != SHARED))


def _on_lines(words):
    """Returns a command on lines that need no scrolling, as a shell takes it."""
    lines = [[]]
    for word in map(shlex.quote, words):
        if lines[-1] and len(" ".join([*lines[-1], word])) > 100:
            lines.append([])
        lines[-1].append(word)
    return " \\\n  ".join(map(" ".join, lines))


def _block(text):
    return f"```\n{text}\n```"

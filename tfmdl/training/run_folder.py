"""The folder of a run: what lies where, and how a run leaves it so that the same command goes on."""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable

import keras
import numpy as np

from tfmdl import packs
from tfmdl.cli import typed
from tfmdl.config import CONFIG_FILE, RunConfig, differences, load_config
from tfmdl.evaluation.accuracy import Evaluation
from tfmdl.files import locked, read_json, read_tensors, write_json, write_tensors
from tfmdl.imported import IMPORTED_FILE
from tfmdl.training.checkpoints import Checkpoint, Checkpoints, collect, restore
from tfmdl.training.metrics import append_metrics, truncate_metrics
from tfmdl.training.setup import Job
from tfmdl.typed import naming_file

# What config.json says beside the configuration and may not change either.
_FOLLOWED = {
    "data": "records in --data_dir",
    "trunk_fingerprint": "trunk in --init_from",
    "experts": "experts in --packs",
}


@dataclasses.dataclass(frozen=True)
class ResumeState:
    """Where a run goes on.

    Attributes:
        step: How many steps were taken.
        epoch_seconds: What the epoch that it is in has taken so far.
        metrics: That epoch's running metrics, as `collect` returned them; None where an epoch begins.
        checkpoint: The file that this is from; None for a run that begins.
    """

    step: int = 0
    epoch_seconds: float = 0.0
    metrics: dict[str, np.ndarray] | None = None
    checkpoint: pathlib.Path | None = None


class RunFolder:
    """What a run writes.

    Args:
        workdir: The folder.
        writes: Whether it is written here: of several processes that train together, one does, and all read.

    Attributes:
        path: The folder.
        writes: As given.
        config: What was asked for, and what followed from it.
        metrics: A line per epoch.
        train_events, val_events: Folders of TensorBoard's events; those of the whole run are in `path`.
        history: What its pictures show of all epochs.
        checkpoints: What the run goes on from.
        start: The weights that the steps began with, where they are needed at the end.
        trunk: The trunk, of a run that trains one.
        packs: Folder of a pack per domain, which are written last.
    """

    def __init__(self, workdir: str | os.PathLike, writes: bool = True):
        self.path = pathlib.Path(workdir)
        self.writes = writes
        self.config = self.path / CONFIG_FILE
        self.metrics = self.path / "metrics.jsonl"
        self.train_events = self.path / "train"
        self.val_events = self.path / "val"
        self.history = self.train_events / "history.safetensors"
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self.start = self.path / "start.safetensors"
        self.trunk = self.path / packs.TRUNK_FILE
        self.packs = self.path / packs.PACKS_DIR

    def locked(self):
        """Returns a context in which no other run may work here; errors as `tfmdl.files.locked`."""
        return locked(self.path, "run") if self.writes else contextlib.nullcontext()

    def claim(self, config: RunConfig, described: dict, note: Callable[[str], None]) -> None:
        """Writes config.json, or checks that the one that is there says the same.

        A run that is not finished, as one that diverged, may go on with another learning rate: metrics.jsonl tells
        which one an epoch ended with.

        Args:
            config: The configuration of the run.
            described: As `Job.describe` returned it.
            note: Called with a line that says so.

        Raises:
            ValueError: if it is of another run, naming what differs.
        """
        if not self.writes:
            return
        described = json.loads(json.dumps(described))
        if (self.path / IMPORTED_FILE).exists():
            raise ValueError(f"--workdir={self.path} holds an imported trunk; a run wants another folder")
        if self.config.is_file():
            asked = load_config(self.path)
            rates = (asked.learning_rate, config.learning_rate)
            if not self.trunk.exists() and not any(self.packs.glob("*.safetensors")):
                asked = dataclasses.replace(asked, learning_rate=config.learning_rate)
            changed = differences(asked, config)
            before = read_json(self.config)
            for key, what in _FOLLOWED.items():
                if (before.get(key) or None) != (described[key] or None):
                    changed.append(f"the {what}: was {before.get(key)!r}, now {described[key]!r}")
            if changed:
                raise ValueError(
                    f"--workdir={self.path} holds a run of another configuration:\n  " + "\n  ".join(changed)
                    + "\nuse another --workdir, or remove that one"
                )
            backends = [content.get("versions", {}).get("backend") for content in (before, described)]
            if backends[0] != backends[1]:
                note(f"the run goes on with Keras on {backends[1]}, was {backends[0]}: that changes the last digits")
            if rates[0] != rates[1]:
                was, now = ("the recipe's" if rate is None else f"{rate:g}" for rate in rates)
                note(f"the learning rate was {was}; from now on it is {now}")
        write_json(self.config, described)  # again too: data or trunk may have moved

    def save_start(self, network: keras.Model) -> None:
        """Writes the weights that the steps of a run begin with.

        Raises:
            OSError: if they cannot be written.
        """
        if self.writes:
            tensors = {variable.path: np.asarray(variable) for variable in network.trainable_variables}
            write_tensors(self.start, tensors, {"kind": "start"})

    def add_metrics(self, line: dict) -> None:
        """Adds the line of an epoch to metrics.jsonl; errors as `append_metrics`."""
        if self.writes:
            append_metrics(self.metrics, line)

    def read_start(self, network: keras.Model) -> dict[str, np.ndarray]:
        """Returns what `save_start` wrote, by the variables' paths.

        Raises:
            FileNotFoundError: if it is not there.
            ValueError: if it is damaged, or of another network.
        """
        tensors, header = read_tensors(self.start)
        wanted = {variable.path: tuple(variable.shape) for variable in network.trainable_variables}
        if header.get("kind") != "start" or {path: value.shape for path, value in tensors.items()} != wanted:
            raise ValueError(f"{self.start}: not the weights that this run began with; use another --workdir")
        return tensors

    def save_checkpoint(
        self, network: keras.Model, step: int, mid_epoch_seconds: float | None = None
    ) -> pathlib.Path | None:
        """Writes a checkpoint and returns its path, None where nothing is written.

        Args:
            network: The compiled network that is fitted.
            step: How many steps were taken.
            mid_epoch_seconds: What the epoch that goes on has taken so far; None at its end.

        Raises:
            OSError: if it cannot be written.
        """
        if not self.writes:
            return None
        mid_epoch = mid_epoch_seconds is not None
        groups = _groups(network)
        if mid_epoch:
            groups["metrics"] = metric_variables(network)
        return self.checkpoints.save(Checkpoint(step, mid_epoch, mid_epoch_seconds or 0.0, collect(groups)))

    def resume(self, network: keras.Model, note: Callable[[str], None]) -> ResumeState:
        """Restores the network of the newest checkpoint, and drops what metrics.jsonl has of later steps.

        Args:
            network: As in `save_checkpoint`.
            note: Called with a line for each checkpoint that is damaged.

        Raises:
            ValueError: if no checkpoint is whole, or it is of another network.
        """
        checkpoint, damages = self.checkpoints.newest()
        for damage in damages:
            note(f"{damage}: goes on from {checkpoint.path}")
        if self.writes:
            truncate_metrics(self.metrics, checkpoint.step if checkpoint else 0)
        if not checkpoint:
            return ResumeState()
        tensors, metrics = checkpoint.tensors, None
        if checkpoint.mid_epoch:
            metrics = {name: tensors.pop(name) for name in list(tensors) if name.startswith("metrics:")}
        groups = _groups(network)
        for variable in groups["optimizer"]:
            if variable.path.endswith("/learning_rate"):  # as it is asked for now
                tensors[f"optimizer:{variable.path}"] = np.asarray(variable)
        with naming_file(checkpoint.path):
            restore(groups, tensors)
        return ResumeState(checkpoint.step, checkpoint.epoch_seconds, metrics, checkpoint.path)

    def write_results(self, job: Job, evaluations: dict[str, Evaluation]) -> None:
        """Writes the trunk, if the job trains one, and the packs.

        Args:
            job: What was trained.
            evaluations: By domain, of those that were measured.
        """
        if not self.writes:
            return
        trunk_fingerprint = job.trunk.fingerprint if job.trunk else packs.write_trunk(self.trunk, job.model, job.base)
        for domain, info in job.infos.items():
            packs.write_pack(
                packs.pack_path(self.path, domain),
                job.model,
                domain,
                label_names=info.label_names,
                category_ids=info.category_ids,
                preprocessing=job.preprocessing[domain],
                trunk_fingerprint=trunk_fingerprint,
                accuracy=evaluations[domain].accuracy if domain in evaluations else None,
                base=job.trunk is None and domain == job.base,
                experts=[packs.Expert(pack.domain, pack.fingerprint, pack.path) for pack in job.expert_packs],
            )

    def what_next(self, job: Job) -> str:
        """Returns what a finished run says: what it wrote, and the next commands to type."""
        made = [] if job.trunk else [self.trunk]
        made += sorted(self.packs.glob("*.safetensors"))
        next_ones = [f"{typed('tfmdl.evaluation')} --workdir={self.path} --data_dir={job.config.data_dir} --split=val"]
        if job.config.tensorboard:
            next_ones.append(f"tensorboard --logdir={self.path}")
        return f"wrote {', '.join(map(str, made))}\nnext:  " + "\n       ".join(next_ones)


def metric_variables(network: keras.Model) -> list[keras.Variable]:
    """Returns the variables of a network's running metrics."""
    return [variable for metric in network.metrics for variable in metric.variables]


def _groups(network):
    return {"network": network.variables, "optimizer": network.optimizer.variables}

"""One training run, from configuration to packs."""

import dataclasses
import json
import pathlib
import time

import keras
import numpy as np

import tfmdl
from tfmdl import packs
from tfmdl.config import CONFIG_FILE, RunConfig, differences, load_config
from tfmdl.data import records
from tfmdl.data.features import FeaturePipeline
from tfmdl.data.pipeline import Source, TrainPipeline, map_in_order, naming_bad_records
from tfmdl.data.preprocessing import Preprocessing
from tfmdl.domains import published
from tfmdl.evaluation.accuracy import Evaluation, Tally
from tfmdl.evaluation.predict import predict_alone
from tfmdl.files import locked, read_json, write_json
from tfmdl.model import MultiDomainClassifier
from tfmdl.recipes import Recipe, recipe_for
from tfmdl.sharing import METHODS
from tfmdl.training import devices, optimization
from tfmdl.training.callbacks import CheckpointAndWatch, RestoreMetrics
from tfmdl.training.checkpoints import Checkpoint, Checkpoints, collect, restore
from tfmdl.training.features import KeptFeatures
from tfmdl.training.metrics import append_metrics, truncate_metrics
from tfmdl.training.progress import Progress
from tfmdl.training.tensorboard import TensorBoard
from tfmdl.typed import naming_file

MOST_FEATURES = 2**29  # numbers that are kept in memory: 4 GiB, as batches are taken from a copy


def train(config: RunConfig) -> None:
    """Trains what `config` asks for, going on from the last checkpoint of its workdir, and writes trunk and packs.

    Raises:
        FileNotFoundError: if data or trunk are not there.
        ValueError: if the configuration cannot be run, or the workdir holds a run of another one or one at work.
        FloatingPointError: if the loss is no longer finite.
        Terminated: on SIGTERM, after a checkpoint was written.
    """
    devices.set_up(config.seed)
    with devices.strategy_scope():
        Run(config).train()


class Run:
    """A run of `train.py`: what is read, built and written for one `RunConfig`."""

    def __init__(self, config: RunConfig):
        self.config = config
        self.workdir = pathlib.Path(config.workdir)
        self.infos = {domain: records.DatasetInfo.load(config.data_dir, domain) for domain in config.domains}
        self.recipes = {domain: self._recipe(info) for domain, info in self.infos.items()}
        self.base = config.domains[0]
        self.recipe = self.recipes[self.base]
        devices.check_batch_size(self.recipe.batch_size)
        self.trunk = packs.read_trunk(config.init_from) if config.init_from else None
        if self.trunk and len(config.domains) > 1:
            raise ValueError(
                f"--init_from adds one domain at a time; received --domain={','.join(config.domains)}"
            )
        self._check_labelled()
        self.expert_packs = self._expert_packs()
        self.model = MultiDomainClassifier(
            {domain: info.num_classes for domain, info in self.infos.items()},
            config.architecture,
            config.precision,
            (self.trunk.base_domain, *(pack.domain for pack in self.expert_packs)) if self.expert_packs else (),
        )
        if self.trunk:
            packs.initialize(self.model, self.trunk, self.expert_packs)
        self.model.train_only(config.domains, shared=self.trunk is None)
        self.preprocessing = {domain: self._preprocessing(info) for domain, info in self.infos.items()}
        self.train_sources = [self._source(domain, config.train_splits) for domain in config.domains]
        self.val_sources = [self._source(domain, ("val",)) for domain in config.domains if self._measures(domain)]
        self.features = KeptFeatures(self.model, self.base) if self._features_stay() else None
        self.pipeline = TrainPipeline(
            self.train_sources, self.recipe.batch_size, config.seed, config.cache and not self.features
        )
        self.steps_per_epoch = self.pipeline.steps_per_epoch
        self.total_steps = self.recipe.schedule.epochs * self.steps_per_epoch
        if config.max_steps is not None:
            self.total_steps = min(self.total_steps, config.max_steps)
        if not self.features:
            self.towers = {domain: self.model.tower(domain, gates=True) for domain in config.domains}
        self.network = self._compiled()
        self.checkpoints = Checkpoints(self.workdir / "checkpoints")

    def train(self) -> None:
        """Runs the epochs that are left, then writes trunk and packs; errors as the function `train`."""
        with locked(self.workdir, "run"):
            self._claim_workdir()  # not before: what cannot be run leaves no config.json behind
            self._train()

    def _train(self):
        progress = Progress(self.total_steps, self.recipe.schedule.epochs)
        state = self._resume(progress)
        pipeline = self._feature_pipeline() if self.features and state["step"] < self.total_steps else self.pipeline
        board = TensorBoard(self.workdir, self.model, self.config.profile_steps)
        watch = CheckpointAndWatch(self, progress, board, state["step"], state["checkpoint"])
        evaluations = None
        with progress, watch.sigterm(), naming_bad_records(self.train_sources):
            if state["step"] == 0:
                board.configuration(self.describe())
                board.images(self.pipeline, self.preprocessing)
            while state["step"] < self.total_steps:
                epoch = state["step"] // self.steps_per_epoch
                logs, seconds = self._fit_epoch(pipeline, epoch, state, watch)
                state = {"step": watch.step, "epoch_seconds": 0.0, "metrics": None}
                evaluations = self.evaluate()
                line = self._metrics_line(epoch, watch.step, logs, seconds, evaluations)
                append_metrics(self.workdir, line)
                board.epoch(line, evaluations, self.infos, last=watch.step >= self.total_steps)
                progress.epoch(line)
                watch.checkpoint()
        self._write_results(evaluations or self.evaluate())
        board.close()
        self._say_what_next(progress)

    def evaluate(self) -> dict[str, Evaluation]:
        """Evaluates every domain that has labelled val images it was not trained on."""
        result = {}
        for source in self.val_sources:
            tally = Tally(self.infos[source.domain].num_classes)
            for predictions in self._predict(source):
                tally.add(predictions.logits, predictions.labels, predictions.gates)
            result[source.domain] = tally.result()
        return result

    def ends_epoch(self, step: int) -> bool:
        """Returns whether `step` is the last of its epoch, or of the run."""
        return step % self.steps_per_epoch == 0 or step == self.total_steps

    def describe(self) -> dict:
        """Returns what config.json holds: the configuration, and what followed from it."""
        return {
            "run": self.config.to_json(),
            "recipes": {domain: dataclasses.asdict(recipe) for domain, recipe in self.recipes.items()},
            "preprocessing": {name: dataclasses.asdict(value) for name, value in self.preprocessing.items()},
            "data": {domain: info.fingerprint for domain, info in self.infos.items()},
            "trunk_fingerprint": self.trunk and self.trunk.fingerprint,
            "experts": {pack.domain: pack.fingerprint for pack in self.expert_packs},
            "versions": {"tfmdl": tfmdl.__version__, "keras": keras.__version__, "backend": keras.backend.backend()},
        }

    def save_checkpoint(self, step: int, epoch_seconds: float) -> pathlib.Path:
        """Writes a checkpoint after `step` steps and returns its path; mid-epoch it holds the running metrics too."""
        groups = {"network": self.network.variables, "optimizer": self.network.optimizer.variables}
        mid_epoch = step % self.steps_per_epoch != 0
        if mid_epoch:
            groups["metrics"] = self._metric_variables()
        return self.checkpoints.save(
            Checkpoint(step, mid_epoch, epoch_seconds if mid_epoch else 0.0, collect(groups))
        )

    def _recipe(self, info) -> Recipe:
        config = self.config
        num_train = info.num_examples(config.train_splits)
        recipe = recipe_for(
            config.recipe,
            info.name,
            info.num_classes,
            num_train,
            config.init_from is None,
            config.architecture.method,
        )
        if len(config.domains) > 1:  # images of a mixed batch have one size
            recipe = dataclasses.replace(recipe, crop="random")
        overrides = {
            name: getattr(config, name)
            for name in ("batch_size", "learning_rate", "weight_decay")
            if getattr(config, name) is not None
        }
        if config.epochs is not None:
            overrides["schedule"] = recipe.schedule.scaled(config.epochs)
        return dataclasses.replace(recipe, **overrides)

    def _preprocessing(self, info) -> Preprocessing:
        sizes = self.recipes[info.name].sizes(self.config.image_size, self.model.backbone.total_stride)
        facts = published(info.name, info.num_classes)
        mean, std = (facts.mean, facts.std) if facts else (tuple(info.pixel_mean), tuple(info.pixel_std))
        return Preprocessing(*sizes.evaluation, *sizes.train, mean, std, *sizes.cover)

    def _source(self, domain, splits) -> Source:
        return Source.of(self.config.data_dir, self.infos[domain], splits, self.preprocessing[domain])

    def _measures(self, domain):
        """Returns whether the domain has labelled val images that it is not trained on."""
        split = self.infos[domain].splits.get("val")
        return bool(split) and split.labelled and "val" not in self.config.train_splits

    def _features_stay(self):
        """Returns whether an image has the same features in every epoch, and memory holds those of all images."""
        if self.model.backbone.trainable_variables or self.preprocessing[self.base].crops:
            return False
        images = sum(source.num_examples for source in (*self.train_sources, *self.val_sources))
        return images * self.model.num_features <= MOST_FEATURES

    def _feature_pipeline(self):
        """Computes the features of all images that the run sees, and returns the batches to train on."""
        for source in self.val_sources:
            self.features.of(source)
        (source,) = self.train_sources
        return FeaturePipeline(self.features.of(source), self.recipe.batch_size, self.config.seed)

    def _predict(self, source):
        if self.features:
            return self.features.predict(source)
        return predict_alone(self.towers[source.domain], source)

    def _check_labelled(self):
        for domain, info in self.infos.items():
            for split in self.config.train_splits:
                if split in info.splits and not info.splits[split].labelled:
                    raise ValueError(f"the {split} split of {domain!r} has no labels to train on")

    def _expert_packs(self) -> list[packs.Pack]:
        """Reads the packs whose kernels the method mixes; none for most methods."""
        config, trained_by = self.config, METHODS[self.config.architecture.method].experts_by
        if not trained_by:
            if config.packs:
                raise ValueError(
                    f"--packs are for a method that mixes them; received --method={config.architecture.method}"
                )
            return []
        if not self.trunk or not config.packs:
            raise ValueError(
                f"--method={config.architecture.method} goes on from domains that --method={trained_by} has trained: "
                "give --init_from, the run of their trunk, and --packs, their runs"
            )
        expert_packs = packs.read_expert_packs(config.packs, self.trunk, config.architecture, self.base)
        own = next(pack for pack in expert_packs if pack.domain == self.base)
        if own.label_names != self.infos[self.base].label_names:
            raise ValueError(f"{own.path} was trained on other classes than {config.data_dir} has for {self.base!r}")
        return expert_packs

    def _claim_workdir(self):
        """Writes config.json, or checks that the one that is there says the same."""
        described = json.loads(json.dumps(self.describe()))
        path = self.workdir / CONFIG_FILE
        if path.is_file():
            changed = differences(load_config(self.workdir), self.config)
            before = read_json(path)
            for key, what in (
                ("data", "records in --data_dir"),
                ("trunk_fingerprint", "trunk in --init_from"),
                ("experts", "experts in --packs"),
            ):
                if (before.get(key) or None) != (described[key] or None):
                    changed.append(f"the {what}: was {before.get(key)!r}, now {described[key]!r}")
            if changed:
                raise ValueError(
                    f"--workdir={self.workdir} holds a run of another configuration:\n  " + "\n  ".join(changed)
                    + "\nuse another --workdir, or remove that one"
                )
        write_json(path, described)  # again too: data or trunk may have moved

    def _compiled(self):
        """Returns the network to fit: the classifier or the tower of a single domain, or the mixed graph."""
        if self.features:
            network = self.model.classifier(self.base, self.recipe.dropout)
        elif len(self.config.domains) > 1:
            network = self.model.mixed(self.recipe.dropout)
        else:
            network = self.model.tower(self.base, self.recipe.dropout)
        optimization.compile_network(
            network, self.model, self.recipes, self.steps_per_epoch, self.config.jit_compile
        )
        # Keras makes the variables of metrics at their first update; to be restored they must be there before.
        network.compute_metrics(None, np.zeros(1, "int32"), np.zeros((1, network.output.shape[-1]), "float32"))
        network.reset_metrics()
        return network

    def _batches(self, pipeline, epoch, first_step):
        """Returns what Keras fits: (image or features, label), or {"image", "domain"} and joint labels if mixed."""
        batches = pipeline.epoch(epoch, first_step)
        if len(self.config.domains) == 1:
            given = self.network.input.name
            return map_in_order(batches, lambda batch: (batch[given], batch["label"]))
        offsets = np.array(list(self.model.head.offsets.values()), "int32")

        def to_joint(batch):
            inputs = {"image": batch["image"], "domain": batch["domain"]}
            return inputs, batch["label"] + keras.ops.take(offsets, batch["domain"])

        return map_in_order(batches, to_joint)

    def _fit_epoch(self, pipeline, epoch, state, watch):
        first = state["step"] - epoch * self.steps_per_epoch
        steps = min(self.steps_per_epoch, self.total_steps - epoch * self.steps_per_epoch) - first
        watch.begin_epoch(state["epoch_seconds"])
        started = time.perf_counter()
        history = self.network.fit(
            self._batches(pipeline, epoch, first).take(steps),
            initial_epoch=epoch,
            epochs=epoch + 1,
            verbose=0,
            shuffle=False,  # the pipeline has shuffled
            callbacks=[RestoreMetrics(self._metric_variables(), state["metrics"]), watch],
        )
        seconds = state["epoch_seconds"] + time.perf_counter() - started
        return {name: values[-1] for name, values in history.history.items()}, seconds

    def _metric_variables(self):
        return [variable for metric in self.network.metrics for variable in metric.variables]

    def _resume(self, progress) -> dict:
        """Restores the newest checkpoint; returns the step, and what the epoch it is in had gathered so far."""
        checkpoint, damages = self.checkpoints.newest()
        for damage in damages:
            progress.note(f"{damage}: goes on from {checkpoint.path}")
        step = checkpoint.step if checkpoint else 0
        truncate_metrics(self.workdir, step)
        if not checkpoint:
            return {"step": 0, "epoch_seconds": 0.0, "metrics": None, "checkpoint": None}
        tensors, metrics = checkpoint.tensors, None
        if checkpoint.mid_epoch:
            metrics = {name: tensors.pop(name) for name in list(tensors) if name.startswith("metrics:")}
        with naming_file(checkpoint.path):
            restore({"network": self.network.variables, "optimizer": self.network.optimizer.variables}, tensors)
        return {
            "step": step,
            "epoch_seconds": checkpoint.epoch_seconds,
            "metrics": metrics,
            "checkpoint": checkpoint.path,
        }

    def _metrics_line(self, epoch, step, logs, seconds, evaluations):
        steps = step - epoch * self.steps_per_epoch
        line = {
            "epoch": epoch + 1,
            "step": step,
            "train/loss": logs["cross_entropy"],
            "train/accuracy": logs["accuracy"],
            "learning_rate": self.recipe.learning_rate_in(epoch),
            "images_per_second": steps * self.recipe.batch_size / seconds,
        }
        if evaluations:
            values = evaluations.values()
            line["val/loss"] = float(np.mean([evaluation.loss for evaluation in values]))
            line["val/accuracy"] = float(np.mean([evaluation.accuracy for evaluation in values]))
        if len(evaluations) > 1:
            for domain, evaluation in evaluations.items():
                line[f"val/loss/{domain}"] = evaluation.loss
                line[f"val/accuracy/{domain}"] = evaluation.accuracy
        return line

    def _write_results(self, evaluations):
        if self.trunk:
            trunk_fingerprint = self.trunk.fingerprint
        else:
            trunk_fingerprint = packs.write_trunk(self.workdir / packs.TRUNK_FILE, self.model, self.base)
        for domain, info in self.infos.items():
            packs.write_pack(
                self.workdir / packs.PACKS_DIR / f"{domain}.safetensors",
                self.model,
                domain,
                label_names=info.label_names,
                category_ids=info.category_ids,
                preprocessing=self.preprocessing[domain],
                trunk_fingerprint=trunk_fingerprint,
                accuracy=evaluations[domain].accuracy if domain in evaluations else None,
                base=self.trunk is None and domain == self.base,
                experts=[packs.Expert(pack.domain, pack.fingerprint, pack.path) for pack in self.expert_packs],
            )

    def _say_what_next(self, progress):
        made = [str(path) for path in sorted((self.workdir / packs.PACKS_DIR).glob("*.safetensors"))]
        if self.trunk is None:
            made.insert(0, str(self.workdir / packs.TRUNK_FILE))
        progress.note(
            f"wrote {', '.join(made)}\n"
            f"next:  python eval.py --workdir={self.workdir} --data_dir={self.config.data_dir} --split=val\n"
            f"       tensorboard --logdir={self.workdir}"
        )

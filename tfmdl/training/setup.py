"""From the configuration of a run to what it trains: reads, checks and builds, and writes nothing."""

import dataclasses
from collections.abc import Iterator

import keras
import numpy as np

import tfmdl
from tfmdl import backend, packs
from tfmdl.config import RunConfig
from tfmdl.data.pipeline import Source, TrainPipeline
from tfmdl.data.preprocessing import Preprocessing
from tfmdl.data.records import DatasetInfo
from tfmdl.evaluation.predict import Predictions, predict_alone
from tfmdl.model import MultiDomainClassifier
from tfmdl.recipes import Recipe, pixel_statistics, recipe_for
from tfmdl.sharing import METHODS
from tfmdl.training import devices, optimization
from tfmdl.training.features import KeptFeatures

MOST_FEATURES = 2**29  # numbers kept in memory: 4 GiB, with the copy that batches are taken from


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """All that a run needs to begin.

    Dicts are by name of the domain, in the order of the configuration.

    Attributes:
        config: What was asked for.
        infos: What the converted domains are.
        recipes: How each domain is trained.
        trunk: What the domain is added to; None trains a trunk.
        expert_packs: Packs whose kernels the method mixes; none for most methods.
        model: The classifier; what the run trains is trainable.
        preprocessing: How images become inputs.
        train_sources, val_sources: Images; val only where it has labels and is not trained on.
        features: Of these images, where they stay the same throughout the run; None where they do not.
        first_features: Of the images, by which the head is trained before all else; None where it is not.
        pipeline: The training batches of images.
        towers: What measures each domain by images; none where features stay.
        network: What is fitted, compiled: the classifier or tower of a single domain, or the mixed graph.
    """

    config: RunConfig
    infos: dict[str, DatasetInfo]
    recipes: dict[str, Recipe]
    trunk: packs.Trunk | None
    expert_packs: list[packs.Pack]
    model: MultiDomainClassifier
    preprocessing: dict[str, Preprocessing]
    train_sources: list[Source]
    val_sources: list[Source]
    features: KeptFeatures | None
    first_features: KeptFeatures | None
    pipeline: TrainPipeline
    towers: dict[str, keras.Model]
    network: keras.Model

    @property
    def base(self) -> str:
        """The only domain, or the base domain of several."""
        return self.config.domains[0]

    @property
    def recipe(self) -> Recipe:
        """What holds for the whole run: the base domain's."""
        return self.recipes[self.base]

    @property
    def steps_per_epoch(self) -> int:
        return self.pipeline.steps_per_epoch

    @property
    def total_steps(self) -> int:
        steps = self.recipe.schedule.epochs * self.steps_per_epoch
        return steps if self.config.max_steps is None else min(steps, self.config.max_steps)

    def predict(self, source: Source) -> Iterator[Predictions]:
        """Yields the predictions of the model, as it is now, for all images of a source, in batches."""
        if self.features:
            return self.features.predict(source)
        return predict_alone(self.towers[source.domain], source)

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


def prepare(config: RunConfig) -> Job:
    """Returns what a run of `config` begins with. `devices.set_up` comes before it.

    Raises:
        FileNotFoundError: if data, trunk or packs are not there.
        ValueError: if these do not belong together, or the configuration cannot be run.
    """
    infos = {domain: DatasetInfo.load(config.data_dir, domain) for domain in config.domains}
    recipes = {domain: _recipe(config, info) for domain, info in infos.items()}
    base = config.domains[0]
    devices.check_batch_size(recipes[base].batch_size)
    trunk = packs.read_trunk(config.init_from) if config.init_from else None
    if config.sync_norm and len(config.domains) > 1:
        raise ValueError(f"--sync_norm is for runs of one domain; received --domain={','.join(config.domains)}")
    if trunk and len(config.domains) > 1:
        raise ValueError(f"--init_from adds one domain at a time; received --domain={','.join(config.domains)}")
    _check_labelled(config, infos)
    expert_packs = _expert_packs(config, trunk, infos[base])
    model = _model(config, infos, trunk, expert_packs, recipes[base].keeps_statistics)

    preprocessing = {
        domain: _preprocessing(config, info, recipes[domain], model, trunk) for domain, info in infos.items()
    }

    def source(domain, splits, flips=False):
        return Source.of(config.data_dir, infos[domain], splits, preprocessing[domain], flips)

    train_sources = [source(domain, config.train_splits, recipes[domain].flips) for domain in config.domains]
    val_sources = [source(domain, ("val",)) for domain in config.domains if _measures(config, infos[domain])]
    still = recipes[base].on_features or not preprocessing[base].crops
    stay = still and _features_stay(model, (*train_sources, *val_sources))
    features = KeptFeatures(model, base, trunk.path) if stay else None
    head_first = recipes[base].head and not stay
    batch_size = recipes[base].batch_size
    rows = backend.rows_of_process(batch_size)
    pipeline = TrainPipeline(train_sources, batch_size, config.seed, config.cache and not features, rows)
    return Job(
        config=config,
        infos=infos,
        recipes=recipes,
        trunk=trunk,
        expert_packs=expert_packs,
        model=model,
        preprocessing=preprocessing,
        train_sources=train_sources,
        val_sources=val_sources,
        features=features,
        first_features=KeptFeatures(model, base, trunk.path) if head_first else None,
        pipeline=pipeline,
        towers={} if features else {domain: model.tower(domain, gates=True) for domain in config.domains},
        network=_compiled(config, recipes, model, pipeline.steps_per_epoch, features is not None),
    )


def _recipe(config, info):
    recipe = recipe_for(
        config.recipe,
        info.name,
        info.num_classes,
        info.num_examples(config.train_splits),
        base=config.init_from is None,
        method=config.architecture.method,
        joint=len(config.domains) > 1,
    )
    overrides = {
        name: getattr(config, name)
        for name in ("batch_size", "learning_rate", "weight_decay", "flips")
        if getattr(config, name) is not None
    }
    if config.epochs is not None:
        overrides["schedule"] = recipe.schedule.scaled(config.epochs)
    batch_size = overrides.pop("batch_size", recipe.batch_size)
    recipe = dataclasses.replace(recipe, **overrides)
    if config.scale_learning_rate:
        return recipe.scaled_to(batch_size)
    return dataclasses.replace(recipe, batch_size=batch_size)


def _check_labelled(config, infos):
    for domain, info in infos.items():
        for split in config.train_splits:
            if split in info.splits and not info.splits[split].labelled:
                raise ValueError(f"the {split} split of {domain!r} has no labels to train on")


def _expert_packs(config, trunk, info):
    """Reads the packs whose kernels the method mixes, the own of the domain of `info` among them."""
    method = config.architecture.method
    trained_by = METHODS[method].experts_by
    if not trained_by:
        if config.packs:
            raise ValueError(f"--packs are for a method that mixes them; received --method={method}")
        return []
    if not trunk or not config.packs:
        raise ValueError(
            f"--method={method} goes on from domains that --method={trained_by} has trained: "
            "give --init_from, the run of their trunk, and --packs, their runs"
        )
    expert_packs = packs.read_expert_packs(config.packs, trunk, config.architecture, info.name)
    own = next(pack for pack in expert_packs if pack.domain == info.name)
    if own.label_names != info.label_names:
        raise ValueError(f"{own.path} was trained on other classes than {config.data_dir} has for {info.name!r}")
    return expert_packs


def _model(config, infos, trunk, expert_packs, keeps_statistics):
    """Builds the classifier, begins it with trunk and packs, and lets only what the run trains be trained."""
    model = MultiDomainClassifier(
        {domain: info.num_classes for domain, info in infos.items()},
        config.architecture,
        config.precision,
        (trunk.base_domain, *(pack.domain for pack in expert_packs)) if expert_packs else (),
    )
    if trunk:
        packs.initialize(model, trunk, expert_packs)
    model.train_only(config.domains, trunk is None, keeps_statistics)
    if config.sync_norm:
        model.synchronize()
    return model


def _preprocessing(config, info, recipe, model, trunk):
    stride = model.backbone.total_stride
    if not model.backbone.scales and config.image_size % stride:
        name = config.architecture.network.name
        raise ValueError(f"--image_size must be a multiple of {stride} for {name}; received {config.image_size}")
    sizes = recipe.sizes(config.image_size, stride)
    if trunk and trunk.preprocessing:
        mean, std = trunk.preprocessing.mean, trunk.preprocessing.std
    else:
        mean, std = pixel_statistics(info.name, info.num_classes, info.pixel_mean, info.pixel_std)
    return Preprocessing(*sizes.evaluation, *sizes.train, mean, std, *sizes.cover)


def _measures(config, info):
    """Returns whether a domain has labelled val images that it is not trained on."""
    split = info.splits.get("val")
    return bool(split) and split.labelled and "val" not in config.train_splits


def _features_stay(model, sources):
    """Returns whether what is seen of an image always has the same features, and memory holds those of all images."""
    if model.backbone.trainable_variables:
        return False
    return sum(source.num_examples for source in sources) * model.num_features <= MOST_FEATURES


def _compiled(config, recipes, model, steps_per_epoch, of_features):
    """Returns the network to fit, with optimiser, loss and metrics whose variables are there."""
    base = config.domains[0]
    if of_features:
        network = model.classifier(base, recipes[base].dropout)
    elif len(config.domains) > 1:
        network = model.mixed(recipes[base].dropout)
    else:
        network = model.tower(base, recipes[base].dropout)
    optimization.compile_network(network, model, recipes, steps_per_epoch, config.jit_compile)
    # Keras makes the variables of metrics at their first update; to be restored they must be there before.
    network.compute_metrics(None, np.zeros(1, "int32"), np.zeros((1, network.output.shape[-1]), "float32"))
    network.reset_metrics()
    return network

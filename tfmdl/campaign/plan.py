"""What a campaign has to run: trunks, then the domains by method, each a command of train.py in a folder of its own.

<workdir>/seed<n>/trunks/<backbone>[-<method>]/     one trunk for all methods that can start from it
<workdir>/seed<n>/<row>/<domain>/                   a row is a method, or soft sharing in some layers
"""

import dataclasses
import itertools
import json
import pathlib
import shlex

from tfmdl.cli import typed
from tfmdl.data.records import DatasetInfo
from tfmdl.files import read_json, write_json
from tfmdl.packs import pack_path
from tfmdl.recipes import recipe_for
from tfmdl.sharing import METHODS, OPTIONS, methods_with, options_of
from tfmdl.sharing.individual import Individual
from tfmdl.training.metrics import read_metrics
from tfmdl.training.run_folder import RunFolder

CAMPAIGN_FILE = "campaign.json"
LOG_FILE = "log.txt"  # of each run: what it says


@dataclasses.dataclass(frozen=True)
class CampaignConfig:
    """What a campaign was asked to do.

    Attributes:
        data_dir: Folder of the converted domains.
        workdir: Folder of the campaign.
        base: The base domain, which the trunks are trained on; None if they are not trained here.
        domains: The domains that are added to them.
        methods: Keys of `METHODS`, in the order of the table.
        options: Values by name of an option: a method that has it has a row for each.
        seeds: Each makes all runs once.
        recipe, epochs, base_epochs: As train.py has them; `base_epochs` are the trunks'.
        backbone: The network of all methods; None: that of each one's paper.
        init_from: A trunk that all methods start from, as train.py has it, instead of trunks of this campaign.
        train_splits: Splits to train on.
        train_flags: Other flags, handed to train.py as they are.

    Raises:
        ValueError: if a domain, method or seed is missing, unknown or given twice.
    """

    data_dir: str
    workdir: str
    base: str | None
    domains: tuple[str, ...]
    methods: tuple[str, ...]
    options: dict[str, tuple] = dataclasses.field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    recipe: str = "paper"
    epochs: int | None = None
    base_epochs: int | None = None
    backbone: str | None = None
    init_from: str | None = None
    train_splits: tuple[str, ...] = ("train",)
    train_flags: tuple[str, ...] = ()

    def __post_init__(self):
        given = {flag: getattr(self, flag) for flag in ("domains", "methods", "seeds")}
        for flag, values in {**given, **self.options}.items():
            if not values or len(set(values)) != len(values):
                received = ",".join(map(str, values))
                raise ValueError(f"--{flag} must name at least one, each once; received {received!r}")
        if (self.base is None) != (self.init_from is not None):
            raise ValueError(
                f"a campaign has a base domain or --init_from; received base={self.base}, init_from={self.init_from}"
            )
        if self.init_from and (self.backbone or self.base_epochs):
            raise ValueError("--backbone and --base_epochs are of trunks that are trained; received --init_from too")
        if self.base in self.domains:
            raise ValueError(f"--domains names {self.base!r}, which is the base domain")
        for method in self.methods:
            if method not in METHODS:
                raise ValueError(f"--methods must be of {', '.join(METHODS)}; received {method!r}")
        rows_of(self)  # which checks the values of the options

    @property
    def settings(self) -> dict:
        """What every run of one campaign has in common, for JSON: the rest may be extended later."""
        names = ("base", "recipe", "epochs", "base_epochs", "backbone", "train_splits", "train_flags")
        given = {"init_from": self.init_from} if self.init_from else {}  # earlier campaigns do not have it
        return {**{name: getattr(self, name) for name in names}, **given}

    @property
    def all_domains(self) -> tuple[str, ...]:
        """The base domain, if there is one, then the added ones."""
        return (*((self.base,) if self.base else ()), *self.domains)


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: As the table has it, and the folder of its runs.
        method: A key of `METHODS`.
        flags: Flags of train.py that its runs need besides --method.
    """

    name: str
    method: str
    flags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One run of train.py.

    Attributes:
        row: Name of the row, or "trunk".
        method: A key of `METHODS`.
        domain: What it trains on.
        seed: Its seed.
        workdir: Its folder.
        flags: Of train.py.
        needs: Folders of the runs that must be finished before.
        images: Training images that it reads in all its epochs.
        on_features: Whether its epochs are of kept features: what these take says nothing of images.
    """

    row: str
    method: str
    domain: str
    seed: int
    workdir: pathlib.Path
    flags: tuple[str, ...]
    needs: tuple[pathlib.Path, ...]
    images: int
    on_features: bool

    @property
    def name(self) -> str:
        """What the run is called in the campaign's lines."""
        return f"{self.row} {self.domain}" + (f" seed {self.seed}" if self.seed else "")

    @property
    def pack(self) -> pathlib.Path:
        """The pack that it leaves, which is written last."""
        return pack_path(self.workdir, self.domain)

    @property
    def log(self) -> pathlib.Path:
        """What it says."""
        return self.workdir / LOG_FILE

    @property
    def finished(self) -> bool:
        return self.pack.is_file()

    def command(self) -> str:
        """Returns the command as a user would type it."""
        return f"{typed('tfmdl.training')} {shlex.join(self.flags)}"

    def metrics(self) -> list[dict]:
        """Returns the lines of its metrics.jsonl, one per epoch; no line if it has not finished one.

        Raises:
            ValueError: if a line is damaged.
        """
        return read_metrics(RunFolder(self.workdir).metrics)


def rows_of(config: CampaignConfig) -> list[Row]:
    """Returns the rows of the table in the order of the methods.

    Raises:
        ValueError: if a value is not one of its option.
    """
    rows = []
    for method in config.methods:
        names = [name for name in config.options if method in methods_with(name)]
        for values in itertools.product(*(config.options[name] for name in names)):
            chosen = dict(zip(names, values, strict=True))
            options_of(method, chosen)  # checks them
            told = [str(value).replace(":", "") for name, value in chosen.items() if value != OPTIONS[name].default]
            rows.append(Row("-".join((method, *told)), method, tuple(f"--{name}={chosen[name]}" for name in names)))
    return rows


def plan(config: CampaignConfig) -> list[PlannedRun]:
    """Returns the runs of a campaign in an order in which each finds what it needs.

    Raises:
        FileNotFoundError: if a domain is not in the data folder.
        ValueError: if a method that mixes experts is asked for without the one that trains them, or what is handed to
            train.py is no flag or one that the campaign sets.
    """
    infos = {domain: DatasetInfo.load(config.data_dir, domain) for domain in config.all_domains}
    _check_train_flags(config, infos)
    for method in config.methods:
        trained_by = METHODS[method].experts_by
        if trained_by and trained_by not in config.methods:
            raise ValueError(f"--methods: {method} starts from the packs of {trained_by}: name it too")
    return [run for seed in config.seeds for run in _Planner(config, infos, seed).runs()]


def _check_train_flags(config, infos):
    """Refuses flags that the runs have already: of a flag given twice the last counts, which would change all runs."""
    options = {name: (option.default,) for name, option in OPTIONS.items() if name in config.options}
    of_all_methods = dataclasses.replace(
        config, methods=tuple(METHODS), options=options, epochs=1, train_flags=()
    )
    own = {_name_of(flag) for run in _Planner(of_all_methods, infos, seed=0).runs() for flag in run.flags}
    for flag in config.train_flags:
        if not flag.startswith("-") or not _name_of(flag):
            raise ValueError(f"unexpected argument {flag!r}: flags are --name=value")
        if _name_of(flag) in own:
            raise ValueError(f"the campaign sets --{_name_of(flag)} for each of its runs; received {flag}")


def _name_of(flag):
    return flag.lstrip("-").partition("=")[0]


class _Planner:
    """The runs of one seed."""

    def __init__(self, config, infos, seed):
        self.config, self.infos, self.seed = config, infos, seed
        self.folder = pathlib.Path(config.workdir, f"seed{seed}")

    def runs(self):
        # What mixes experts comes last: it needs the others' packs.
        rows = sorted(rows_of(self.config), key=lambda row: METHODS[row.method].experts_by is not None)
        trunks = {}
        if not self.config.init_from:
            trunks = {run.workdir: run for run in (self._trunk(row.method) for row in rows)}
        return [*trunks.values(), *(self._added(row, domain) for row in rows for domain in self.config.domains)]

    def _backbone(self, method):
        return self.config.backbone or METHODS[method].default_backbone

    def _trunk(self, method):
        trained_by = method if METHODS[method].base_has_additions else Individual.name
        workdir = trunk_of(self.config, method, self.seed)
        flags = (f"--method={trained_by}", f"--backbone={self._backbone(method)}")
        return self._run("trunk", trained_by, self.config.base, workdir, flags, (), self.config.base_epochs)

    def _added(self, row, domain):
        trunk = trunk_of(self.config, row.method, self.seed)
        flags = [f"--method={row.method}", f"--init_from={trunk}", *row.flags]
        if self.config.backbone:
            flags.append(f"--backbone={self.config.backbone}")
        needs = [] if self.config.init_from else [trunk]
        experts_by = METHODS[row.method].experts_by
        if experts_by:
            packs = [self.folder / experts_by / name for name in self.config.domains]
            flags.append(f"--packs={','.join(map(str, packs))}")
            needs += packs
        return self._run(
            row.name, row.method, domain, self.folder / row.name / domain, flags, needs, self.config.epochs
        )

    def _run(self, row, method, domain, workdir, flags, needs, epochs):
        config, info = self.config, self.infos[domain]
        num_train = info.num_examples(config.train_splits)
        recipe = recipe_for(config.recipe, domain, info.num_classes, num_train, row == "trunk", method)
        if recipe.on_features:
            epochs = None  # what takes seconds is as long as it is good: --epochs is what training on images may cost
        same = (
            f"--domain={domain}",
            f"--data_dir={config.data_dir}",
            f"--workdir={workdir}",
            f"--seed={self.seed}",
            f"--recipe={config.recipe}",
            f"--train_splits={','.join(config.train_splits)}",
            *((f"--epochs={epochs}",) if epochs else ()),
        )
        return PlannedRun(
            row=row,
            method=method,
            domain=domain,
            seed=self.seed,
            workdir=workdir,
            flags=(*same, *flags, *config.train_flags),
            needs=tuple(needs),
            images=num_train * (1 if recipe.on_features else epochs or recipe.schedule.epochs),
            on_features=recipe.on_features,
        )


def trunk_of(config: CampaignConfig, method: str, seed: int) -> pathlib.Path | str:
    """Returns the folder of the trunk that `method` starts from, or what train.py knows it by."""
    if config.init_from:
        return config.init_from
    name = config.backbone or METHODS[method].default_backbone
    if METHODS[method].base_has_additions:
        name += f"-{method}"
    return pathlib.Path(config.workdir, f"seed{seed}", "trunks", name)


def is_claimed(config: CampaignConfig) -> bool:
    """Returns whether there is a campaign in the folder."""
    return pathlib.Path(config.workdir, CAMPAIGN_FILE).is_file()


def claim(config: CampaignConfig) -> None:
    """Writes campaign.json, or checks that the one that is there is of a campaign with the same settings.

    Raises:
        ValueError: if the folder holds another campaign, naming what differs.
    """
    path = pathlib.Path(config.workdir, CAMPAIGN_FILE)
    settings = json.loads(json.dumps(config.settings))
    if path.is_file():
        before = read_json(path)
        changed = [
            f"--{name}: was {before.get(name)!r}, now {settings[name]!r}"
            for name in settings
            if before.get(name) != settings[name]
        ]
        if changed:
            raise ValueError(
                f"--workdir={config.workdir} holds a campaign with other settings:\n  "
                + "\n  ".join(changed)
                + "\nuse another --workdir, or remove that one"
            )
    write_json(path, settings)

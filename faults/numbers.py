"""Numbers that overflow, images that are few or alike: a result that is right, or one line that says what to do.

python -m faults numbers --seed=0 --workdir=DIR
python -m faults numbers --seed=0 --kind=rate-1e30 --case=5 --workdir=DIR      one again; its files are kept

A kind is a trouble. Its cases are all the runs that may have it, by each precision, in an order that the seed shuffles:
enough cases are all of them. A run that diverges must say at which step, and what is left; then the same command is
typed with a smaller rate, and must end well. What ends well is finite, and eval.py finds of it what it says itself.
"""

import dataclasses
import json
import pathlib
import random
import re
import shutil

import numpy as np

from faults.scenes import NETWORK, HalfError, Scene, World, convert_command, draw, noise, train_command
from faults.stage import Case, Stage, guarded, one_line

COLUMNS = {
    "tried": "cases",
    "finished": "finished",
    "differs": "not quite so in float32",
    "diverged": "diverged",
    "went on": "went on",
    "began anew": "began anew",
    "start": "overflowed at the start",
    "refused": "refused",
    "defect": "defects",
}
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
SMALL_RATE = "1e-4"
ONEDNN = "Falling back to the default Eigen-based implementation"  # TensorFlow's own line, where a CPU has no AVX-512
# What a run says of itself, each with what to do.
DIVERGED = re.compile(
    r"error: .+ at step \d+; last good checkpoint: (?P<last>/\S+|none was written)\. "
    r"The same command with a lower --learning_rate (goes on from there|begins anew)"
)
STARTED = re.compile(r"error: .+ too large for (?P<precision>\w+): (--precision=float32|look at )")
EVALUATED = re.compile(
    r"error: domain 'tiny': the network's answer to image \d+ is not finite .*: the images, or the weights of /\S+, "
    "are too large for float32: look at "
)


@dataclasses.dataclass(frozen=True)
class Trouble:
    """What is unusual about a run.

    Attributes:
        train, val: How many images of each class the domain has.
        picture: Of `PICTURES`: "noise"; "alike", all are one picture; "faint", those of train are black but for a
            pixel, so that there is next to no deviation to divide by; "black".
        flags: What the command is given, beside the rest.
        scale: Of the kernels of the trunk that it starts from.
        of: Names of the runs that may have it, of `RUNS`; all if there are none.
        refusal: What the command is refused by, an expression; None where it is not.
        convert: The conversion is what is refused.
    """

    train: tuple[int, ...] = (4, 4)
    val: tuple[int, ...] = (2, 2)
    picture: str = "noise"
    flags: tuple[str, ...] = ()
    scale: float = 1.0
    of: tuple[str, ...] = ()
    refusal: str | None = None
    convert: bool = False


ADDED = (
    *("pointwise_sharing", "classifier_only", "individual", "depthwise_sharing", "serial_adapters"),
    *("parallel_adapters", "piggyback", "dan", "low_rank", "finetune", "kept_features"),
)
RUNS = ("trunk", "joint", "soft_sharing", *ADDED)
RECIPES = {"finetune": ("pointwise_sharing", "finetune"), "kept_features": ("classifier_only", "finetune")}
_NO_EXPERTS = ("trunk", "joint", *ADDED)  # those of soft sharing are of two classes, and of the trunk as it was
_ONE = ("trunk",)  # what is refused is refused of all

TROUBLES = {
    **{f"rate-{rate}": Trouble(flags=(f"--learning_rate={rate}",)) for rate in ("0", "1e-45", "1e3", "1e30", "1e39")},
    **{
        f"rate-{rate}": Trouble(flags=(f"--learning_rate={rate}",), of=_ONE, refusal=f"learning_rate.*{refusal}")
        for rate, refusal in (("nan", "received"), ("inf", "received"), ("-1", "is not a non-negative number"))
    },
    "decay-1e30": Trouble(flags=("--weight_decay=1e30",)),
    "decay-nan": Trouble(flags=("--weight_decay=nan",), of=_ONE, refusal="weight_decay.*received"),
    **{f"weights-{scale}": Trouble(scale=float(scale), of=ADDED) for scale in ("0", "1e-30", "1e6", "1e20", "1e38")},
    "one-image": Trouble(train=(1,), val=(1,), of=_NO_EXPERTS),
    "one-class": Trouble(train=(4,), val=(2,), of=_NO_EXPERTS),
    "one-image-a-class": Trouble(train=(1, 1), val=(1, 1)),
    "one-val": Trouble(val=(0, 1)),
    "class-without-images": Trouble(train=(3, 0, 4), val=(2, 0, 1), of=_NO_EXPERTS),
    "class-only-in-train": Trouble(train=(4, 3, 2), val=(2, 0, 1), of=_NO_EXPERTS),
    "class-only-in-val": Trouble(train=(4, 0, 2), val=(1, 3, 1), of=_NO_EXPERTS),
    "alike": Trouble(picture="alike"),
    "faint": Trouble(picture="faint", of=_NO_EXPERTS),
    "large-batch": Trouble(flags=("--batch_size=64",)),
    "batches-of-one": Trouble(flags=("--batch_size=1",)),
    "single-image-in-a-batch": Trouble(train=(1, 0), val=(1, 1), flags=("--batch_size=13",), of=("joint",)),
    "black": Trouble(picture="black", of=_ONE, refusal="tiny: all pixels of train are alike", convert=True),
    "no-image": Trouble(train=(0, 0), of=_ONE, refusal="tiny", convert=True),
}


def kinds() -> dict[str, int]:
    """Returns the kinds, each with how many cases it has."""
    return {name: len(_cases(trouble)) for name, trouble in TROUBLES.items()}


def _cases(trouble):
    precisions = PRECISIONS[:1] if trouble.refusal else PRECISIONS
    return [(run, precision) for run in trouble.of or RUNS for precision in precisions]


def run_case(stage: Stage, kind: str, number: int, seed: int) -> Case | None:
    """Runs a case, if there is one of this number."""
    rng = random.Random(f"{seed}/{kind}")
    cases = rng.sample(_cases(TROUBLES[kind]), len(_cases(TROUBLES[kind])))
    if number >= len(cases):
        return None
    run, precision = cases[number]
    told, counts = f"{run} in {precision}", {}
    scene = _Troubled(stage.world, kind, run, precision, number % 4 == 0)
    place = stage.begin(scene)
    return Case(told, guarded(lambda: _judged(stage, scene, place, counts)), counts)


class _Troubled(Scene):
    """A run that has a trouble, by a precision.

    Args:
        world: What it starts from.
        kind: The trouble, of `TROUBLES`.
        run: Which run, of `RUNS`.
        precision: Of `PRECISIONS`.
        board: Whether it writes events.
    """

    name = "numbers"

    def __init__(self, world: World, kind: str, run: str, precision: str, board: bool):
        super().__init__(world)
        self.trouble, self.run, self.precision, self.board = TROUBLES[kind], run, precision, board
        splits = ("-".join(map(str, counts)) for counts in (self.trouble.train, self.trouble.val))
        self.folder = world.folder / "_".join((self.trouble.picture, *splits))  # troubles have images in common

    @property
    def data(self) -> pathlib.Path:
        """The converted domains."""
        return self.folder / "data"

    def converting(self) -> list[str]:
        """Returns the arguments of the conversion of its images, which are drawn if they are not there."""
        images = self.folder / "images"
        if not images.exists():
            shutil.copytree(self.world.images / "base", images / "base")
            splits = {"train": self.trouble.train, "val": self.trouble.val}
            draw(images / "tiny", splits, PICTURES[self.trouble.picture])
        return convert_command(images, self.folder / "data.new")

    def command(self, place, *flags):
        method, recipe = RECIPES.get(self.run, (self.run, "quick"))
        asked = [f"--precision={self.precision}", f"--tensorboard={self.board}", f"--recipe={recipe}"]
        if self.run in ("trunk", "joint"):
            asked += NETWORK
        else:
            asked += [f"--method={method}", f"--init_from={self._start(method)}"]
        if method == "soft_sharing":
            asked.append(f"--packs={self.world.added('pointwise_sharing')}")
        domain = "base,tiny" if self.run == "joint" else "tiny"
        return train_command(self.data, place, domain, *asked, *self.trouble.flags, *flags)

    def evaluating(self, place: pathlib.Path) -> list[str]:
        """Returns the arguments of an evaluation of what it left."""
        given = (f"--workdir={place}", f"--data_dir={self.data}", "--split=val", "--mistakes=0")
        return ["-m", "tfmdl.evaluation", *given, f"--output={place / 'evaluation.json'}"]

    def _start(self, method):
        """Returns the trunk that a method adds to, its kernels scaled."""
        from tfmdl.files import read_tensors, write_tensors

        trunk, scale = self.world.trunk(method), np.float32(self.trouble.scale)
        if scale == 1:
            return trunk
        path = self.world.folder / f"{trunk.name}-{scale:g}.safetensors"
        if not path.exists():
            tensors, header = read_tensors(trunk / "trunk.safetensors")
            write_tensors(path, {k: v * scale if k.endswith("kernel") else v for k, v in tensors.items()}, header)
        return path


def _faint(split, label, number, random):
    pixels = np.zeros((64, 64, 3), "uint8")
    pixels[0, 0] = 1
    return pixels if split == "train" else noise(split, label, number, random)


PICTURES = {
    "noise": noise,
    "alike": lambda *_: noise("train", 0, 0, np.random.default_rng(1)),
    "faint": _faint,
    "black": lambda *_: np.zeros((16, 16, 3), "uint8"),
}


def _judged(stage, scene, place, counts):
    trouble = scene.trouble
    converting = scene.converting()
    if trouble.convert:
        return _refused(stage.run(converting), trouble.refusal, counts)
    if not scene.data.exists():
        done = stage.run(converting)
        if done.returncode:
            return f"cannot be converted: {done.stderr[-500:]!r}"
        scene.data.with_name("data.new").rename(scene.data)
    done = stage.run(scene.command(place))
    if trouble.refusal:
        return _refused(done, trouble.refusal, counts)
    if done.returncode == 0:
        counts["finished"] = 1
        return _ended_well(stage, scene, place, counts)
    if found := _said(DIVERGED, done):
        counts["diverged"] = 1
        return _diverged(stage, scene, place, found["last"], counts)
    if found := _said(STARTED, done):
        counts["start"] = 1  # maybe in float32 in any case: features that are kept are
        return None if found["precision"] == "float32" else _in_float32(stage, scene, place, counts)
    return f"ended with {done.returncode}: {done.stderr[-1000:]!r}"


def _said(pattern, done):
    """Returns the match of the one line that a command ended with; None where it ended otherwise."""
    lines = [line for line in done.stderr.splitlines() if ONEDNN not in line]
    if done.returncode != 1 or not one_line("\n".join(lines), "error: "):
        return None
    return pattern.match(lines[-1])


def _refused(done, pattern, counts):
    counts["refused"] = 1
    said = _said(re.compile(f"error: .*{pattern}"), done)
    return None if said else f"ended with {done.returncode}: {done.stderr[-500:]!r}"


def _diverged(stage, scene, place, last, counts):
    """Types the same command with a smaller rate; where that diverges, too, begins anew, without a huge decay."""
    good = last.startswith("/")
    if good:
        _check_finite(pathlib.Path(last))
    done = stage.run(scene.command(place, f"--learning_rate={SMALL_RATE}"))
    if done.returncode == 0:
        counts["went on" if good else "began anew"] = 1
        return _ended_well(stage, scene, place, counts)
    if not _said(DIVERGED, done):
        return f"diverged; with a smaller rate it ended with {done.returncode}: {done.stderr[-700:]!r}"
    counts["began anew"] = 1
    done = stage.run(scene.command(place / "anew", f"--learning_rate={SMALL_RATE}", "--weight_decay=0"))
    if scene.precision != "float32" and _said(DIVERGED, done) and "that does not help, --precision=" in done.stderr:
        return _in_float32(stage, scene, place, counts)
    if done.returncode:
        return f"diverged twice; anew with a smaller rate it ended with {done.returncode}: {done.stderr[-700:]!r}"
    return _ended_well(stage, scene, place / "anew", counts)


def _in_float32(stage, scene, place, counts):
    """Runs in float32 what overflows at the start in less; there it may overflow, too."""
    scene.precision = "float32"
    done = stage.run(scene.command(place / "float32"))
    if done.returncode == 0:
        return _ended_well(stage, scene, place / "float32", counts)
    said = _said(STARTED, done) or _said(DIVERGED, done)
    return None if said else f"in float32 it ended with {done.returncode}: {done.stderr[-700:]!r}"


def _ended_well(stage, scene, place, counts):
    """Returns what is wrong with what a run left: it is finite, and an evaluation finds what it says itself."""
    from tfmdl.packs import read_packs
    from tfmdl.training.metrics import read_metrics

    for pattern in ("*", "packs/*", "checkpoints/*"):
        for path in place.glob(f"{pattern}.safetensors"):
            _check_finite(path)
    last = read_metrics(place / "metrics.jsonl")[-1]
    if not all(np.isfinite(value) for value in last.values()):
        return f"metrics are not finite: {last}"
    done = stage.run(scene.evaluating(place))
    if scene.precision != "float32" and _said(EVALUATED, done):
        counts["differs"] = 1  # on the way to an answer, ReLU makes zeros of negative infinities
        return None
    if done.returncode:
        return f"its evaluation ended with {done.returncode}: {done.stderr[-700:]!r}"
    found = json.loads((place / "evaluation.json").read_text())["domains"]
    totals = [one["total"] for one in found["tiny"]["per_class"].values()]
    if totals != list(scene.trouble.val):
        return f"evaluated on {totals} images of the classes, expected {scene.trouble.val}"
    told = {pack.domain: pack.accuracy for pack in read_packs(place)}
    same = told == {domain: one["accuracy"] for domain, one in found.items()}
    loss = np.mean([one["loss"] for one in found.values()])
    if scene.run != "finetune":  # whose weights go back after the last epoch
        same = same and np.isclose(loss, last["val/loss"], rtol=1e-3, atol=1e-6)
    if not np.isfinite(loss) or (scene.precision == "float32" and not same):
        return f"says {told} and {last}; evaluated: {found}"
    counts["differs"] = int(not same)
    return None


def _check_finite(path):
    from tfmdl.files import read_tensors

    for name, value in read_tensors(path)[0].items():
        if not np.isfinite(value).all():
            raise HalfError(f"{path}: {name} is not finite")

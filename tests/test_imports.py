"""The rules of who may import what, read from the source."""

import ast
import graphlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent


def rooms():
    """Returns the rooms that docs/design.md lists, as modules: each imports from itself and from those above it."""
    *_, listed = (ROOT / "docs" / "design.md").read_text().partition("## Rooms")
    block = listed.split("```")[1]
    return [line.split()[0].removesuffix("/").removesuffix(".py").replace("/", ".") for line in block.splitlines()[1:]]


ROOMS = [room.removesuffix(".__init__") for room in rooms()]

# What makes the network, and so imports Keras.
NETWORK = ("tfmdl.layers", "tfmdl.sharing", "tfmdl.backbones", "tfmdl.model")

# What starts a command is a module with `define_flags`, `main` and `run`.
COMMANDS = (
    "tfmdl.training.__main__",
    "tfmdl.evaluation.__main__",
    "tfmdl.trunk",
    "tfmdl.params",
    "tfmdl.export",
    "tfmdl.score",
    "tfmdl.dissect",
    "tfmdl.client",
    "tfmdl.demo_page.__main__",
    "tfmdl.campaign.__main__",
    "tfmdl.demo",
    "data_prep.convert",
    "data_prep.verify",
    "data_prep.make_demo",
    "data_prep.make_concepts",
)

# The only modules that know of flags.
MAY_IMPORT_FLAGS = ("tfmdl.cli", "tfmdl.option_flags", *COMMANDS)

# All else runs on any Keras backend.
MAY_IMPORT_TENSORFLOW = (
    "tfmdl.api",
    "tfmdl.backend",
    "tfmdl.data",
    "tfmdl.serving",
    "tfmdl.quiet",
    "tfmdl.layers.fused",
    "tfmdl.training.batches",
    "tfmdl.training.tensorflow_devices",
    "tfmdl.training.sgd",
    "tfmdl.training.events",
    "tfmdl.training.steps",
    "tfmdl.training.tensorboard",
    "data_prep",
)

DATA_PREP_MAY_IMPORT = (
    "tfmdl",
    "tfmdl.quiet",
    "tfmdl.cli",
    "tfmdl.domains",
    "tfmdl.files",
    "tfmdl.outside",
    "tfmdl.data.records",
    "tfmdl.dissection.broden",
)


def sources():
    files = [
        ROOT / "train.py",
        ROOT / "eval.py",
        *(ROOT / "tfmdl").rglob("*.py"),
        *(ROOT / "data_prep").rglob("*.py"),
    ]
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files if path.exists()}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


SOURCES = sources()


def imports(module):
    """Returns the modules that `module` imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[module].read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            submodules = [name for name in full if name in SOURCES or node.module == "absl"]
            found.update(submodules if len(submodules) == len(full) else [node.module, *submodules])
    return found


def reached(module):
    """Returns all modules of the project that are imported when `module` is, itself and its packages among them."""
    found, ahead = set(), [module]
    while ahead:
        name = ahead.pop()
        if name in SOURCES and name not in found:
            found.add(name)
            ahead += imports(name)
            ahead += [name[:end] for end, character in enumerate(name) if character == "."]
    return found


def inside(module, rooms):
    return any(module == room or (room != "tfmdl" and module.startswith(f"{room}.")) for room in rooms)


def room(module):
    found = [room for room in ROOMS if inside(module, [room])]
    assert len(found) == 1, f"{module} has no room, or several, in docs/design.md"
    return found[0]


def test_the_design_lists_what_there_is():
    used = {room(module) for module in SOURCES}
    others = {"benchmarks", "faults", "tests"}
    assert set(ROOMS) - used == others
    assert all((ROOT / name).is_dir() for name in others)


@pytest.mark.parametrize("module", [name for name in SOURCES if not name.startswith("data_prep")])
def test_imports_run_one_way(module):
    for imported in imports(module):
        if imported.split(".")[0] in ("tfmdl", "train", "eval"):
            assert ROOMS.index(room(imported)) <= ROOMS.index(room(module)), f"{module} imports {imported}"
        assert not imported.startswith("data_prep") or module == "tfmdl.demo", f"{module} imports {imported}"


@pytest.mark.parametrize("module", [name for name in SOURCES if inside(name, ("tfmdl.data",))])
def test_reading_images_needs_no_network(module):
    network = [name for name in reached(module) if inside(name, NETWORK)]
    assert not network, f"{module} imports {', '.join(network)}, by itself or by what it imports"


@pytest.mark.parametrize("module", SOURCES)
def test_only_commands_know_flags(module):
    knows = [name for name in imports(module) if name in ("absl", "absl.app", "absl.flags", "argparse")]
    assert not knows or module in MAY_IMPORT_FLAGS, f"{module} imports {knows}"


@pytest.mark.parametrize("module", SOURCES)
def test_tensorflow_stays_in_its_rooms(module):
    knows = [name for name in imports(module) if name.split(".")[0] in ("tensorflow", "tensorflow_datasets")]
    assert not knows or inside(module, MAY_IMPORT_TENSORFLOW), f"{module} imports {knows}"


@pytest.mark.parametrize("module", SOURCES)
def test_nothing_imports_the_insides_of_keras(module):
    assert not [name for name in imports(module) if name.startswith(("keras.src", "tensorflow.python"))]


@pytest.mark.parametrize("module", [name for name in SOURCES if name.startswith("data_prep")])
def test_data_prep_needs_domains_and_records_only(module):
    for imported in imports(module):
        if imported.split(".")[0] == "tfmdl":
            assert imported in DATA_PREP_MAY_IMPORT, f"{module} imports {imported}"


def test_modules_do_not_import_one_another_in_a_circle():
    needs = {module: imports(module) & SOURCES.keys() - {module} for module in SOURCES}
    try:
        tuple(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_data_prep_says_the_order_of_its_modules():
    rows = re.findall(r"^ {4}(\S.*?) {2}", ast.get_docstring(ast.parse(SOURCES["data_prep"].read_text())), re.MULTILINE)
    place = {name.rstrip("/"): number for number, row in enumerate(rows) for name in row.split(", ")}
    modules = [module for module in SOURCES if module.startswith("data_prep.")]
    for module in modules:
        for imported in imports(module) & set(modules):
            assert place[imported.split(".")[1]] <= place[module.split(".")[1]], f"{module} imports {imported}"


@pytest.mark.parametrize(
    ("module", "lines"),
    [("train", 10), ("eval", 10), ("tfmdl.training.__main__", 100), ("tfmdl.evaluation.__main__", 100)],
)
def test_entry_points_are_short(module, lines):
    assert len(SOURCES[module].read_text().splitlines()) < lines

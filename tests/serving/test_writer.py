"""An export appears whole, checked or not at all; the next one is made of the last; old ones go."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from full_disk import files_of_at_most
from made import ARCHITECTURE, NUM_CLASSES, PAIR, SIZES, label_names, make_runs, moved, preprocessing

from faults.commands import run_command
from tfmdl import export as exporting
from tfmdl.cli import report_errors
from tfmdl.data.records import DatasetInfo
from tfmdl.model import MultiDomainClassifier
from tfmdl.packs import read_pack, write_pack, write_trunk
from tfmdl.serving.assets import GRAPH, MANIFEST
from tfmdl.serving.limits import RULES
from tfmdl.serving.samples import samples_of
from tfmdl.serving.source import from_export, from_runs
from tfmdl.serving.versions import aside, new_version, newest, prune, reading, versions_of
from tfmdl.serving.writer import Options, write_export

ROOT = pathlib.Path(__file__).parents[2]


# What lies beside the graph


def test_assets_tell_labels_preprocessing_and_whence(exported, source):
    manifest = json.loads((exported / MANIFEST).read_text())
    assert manifest["domains"] == list(NUM_CLASSES) and manifest["base_domain"] == "base"
    assert manifest["precision"] == "float32" and manifest["folded"] is False
    for pack in source.packs:
        domain = json.loads((exported / "assets" / "domains" / f"{pack.domain}.json").read_text())
        assert domain["label_names"] == label_names(pack.domain)
        assert domain["domain_id"] == source.ids[pack.domain]
        size = (domain["preprocessing"]["height"], domain["preprocessing"]["width"])
        assert size == SIZES[pack.domain] and tuple(domain["preprocessing"]["mean"]) == pack.preprocessing.mean


@pytest.mark.slow
def test_the_model_card_has_data_accuracies_parameters_and_license(runs, data_dir, tmp_path):
    folder = make_runs(tmp_path / "runs", {"base": 3, "tiny": 2}, names=lambda name, count: names_on_disk(name, count))
    source = from_runs(trunk=str(folder), pack_paths=[str(folder)])
    options = Options(data_dir=str(data_dir), license_line="CC BY 4.0, Somebody")
    done = write_export(source, tmp_path / "served", options)
    assert (done.drawn, done.images) == ([], 16)
    card = (done.path / "assets" / "MODEL_CARD.md").read_text()
    assert "License: CC BY 4.0, Somebody\n" in card
    assert "| base | 3 | 40 | 50.0 % | 16x16 |" in card and "| tiny | 2 | 40 | 60.0 % | 16x16 |" in card
    assert all(rule[1:] in card for rule in RULES.values())
    assert f"{sum(int(np.prod(v.shape)) for v in source.model.variables if 'moving' not in v.path):,} in all" in card
    with pytest.raises(ValueError, match="other classes than"):
        wrong = dataclasses.replace(
            source,
            packs=tuple(dataclasses.replace(pack, label_names=["x"] * len(pack.label_names)) for pack in source.packs),
        )
        write_export(wrong, tmp_path / "served", options)
    assert [path.name for path in (tmp_path / "served").iterdir()] == ["1"]


def names_on_disk(name, count):
    return [f"{name} {label}" for label in range(count[name])]


# Checks before it counts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "largest"),
    [
        (Options(fold=True), 1e-5),
        (Options(precision="bfloat16"), 0.1),
        (Options(precision="bfloat16", fold=True), 0.1),
    ],
    ids=["fold", "bfloat16", "both"],
)
def test_a_smaller_export_is_checked_against_the_live_model(options, largest, runs, tmp_path):
    source = from_runs(trunk=str(runs), pack_paths=[str(runs / "packs" / "upright.safetensors")])
    done = write_export(source, tmp_path, options)
    assert done.difference < largest
    if options.precision == "bfloat16":
        with pytest.raises(ValueError, match="differ by .*expected at most 1e-06"):
            write_export(source, tmp_path, dataclasses.replace(options, tolerance=1e-6))
        assert [path.name for path in tmp_path.iterdir()] == ["1"]
    with pytest.raises(ValueError, match=r"--from_export: .*/1 was written with --fold or another --precision"):
        from_export(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("added", "message"),
    [
        (0.5, "differ by 0.*expected at most 1e-05"),
        (np.nan, "answers for domain 'upright': expected finite numbers; received nan"),
    ],
    ids=["other", "not a number"],
)
def test_an_export_that_fails_its_check_leaves_nothing(added, message, runs, tmp_path, monkeypatch):
    """The live model changes after the graph was written: its probabilities are others."""
    source = from_runs(trunk=str(runs), pack_paths=[str(runs / "packs" / "upright.safetensors")])
    save = tf.saved_model.save

    def change_then_save(*args, **kwargs):
        source.model.head.biases["upright"].variable("upright").assign_add([added, -added, 0.0])
        save(*args, **kwargs)

    monkeypatch.setattr(tf.saved_model, "save", change_then_save)
    with pytest.raises(ValueError, match=message):
        write_export(source, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "told"),
    [("head/bias/upright", "probabilities"), ("backbone/stem_conv/depthwise/kernel/upright", "features")],
)
def test_a_model_that_answers_with_what_is_no_number_is_refused(path, told, runs, tmp_path):
    packs = [str(runs / "packs" / f"{domain}.safetensors") for domain in ("base", "upright")]
    source = from_runs(trunk=str(runs), pack_paths=packs)
    (variable,) = (variable for variable in source.model.variables if variable.path == path)
    variable.assign(np.full(variable.shape, np.nan))
    with pytest.raises(ValueError, match=f"{told} of domain 'upright': expected finite numbers; received nan"):
        write_export(source, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_error_and_leaves_nothing(runs, tmp_path):
    source = from_runs(trunk=str(runs), pack_paths=[str(runs / "packs" / "upright.safetensors")])
    with pytest.raises(OSError) as caught, files_of_at_most(10_000):
        write_export(source, tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/1: cannot be written (") and str(caught.value).isprintable()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_tensorflow_could_not_remove_is_not_served(runs, tmp_path, monkeypatch):
    source = from_runs(trunk=str(runs), pack_paths=[str(runs / "packs" / "upright.safetensors")])
    save = tf.saved_model.save

    def save_and_leave(model, folder, **kwargs):
        save(model, folder, **kwargs)
        left = pathlib.Path(folder, "variables", "variables_temp")
        left.mkdir()
        (left / "part-00000-of-00001.index").touch()

    monkeypatch.setattr(tf.saved_model, "save", save_and_leave)
    written = write_export(source, tmp_path).path
    assert {path.name for path in (written / "variables").iterdir()} == {
        "variables.index",
        "variables.data-00000-of-00001",
    }


def test_a_version_that_exists_is_refused(source, tmp_path):
    (tmp_path / "6").mkdir()
    with pytest.raises(FileExistsError, match=f"--version: {tmp_path}/6 exists"):
        write_export(source, tmp_path, Options(version=6))
    assert [entry.name for entry in tmp_path.iterdir()] == ["6"]


# Life after the first export


def ask(loaded, files, domain):
    encoded = tf.constant([file[3] for file in files])
    answer = loaded.signatures["serving_default"](image_bytes=encoded, domain=tf.fill(len(files), domain))
    return {name: value.numpy() for name, value in answer.items()}


@pytest.mark.slow
def test_domains_come_and_go_and_the_others_stay_as_they_are(runs, files, tmp_path):
    base, served = str(runs / "packs" / "base.safetensors"), tmp_path / "served"
    pair, upright = (str(runs / "packs" / f"{name}.safetensors") for name in (PAIR, "upright"))
    first = write_export(from_runs(trunk=str(runs), pack_paths=[base]), served)
    # From here on without the runs: trunk and packs come out of the export.
    added = from_export(served, [pair, upright])
    assert added.ids == {"base": 0, PAIR: 1, "upright": 2} and added.size == (16, 16)
    second = write_export(added, served)
    assert second.path == served / "2" and second.unchanged == ("base",) and second.change == 0
    old, new = (tf.saved_model.load(str(done.path)) for done in (first, second))
    before, after = ask(old, files, "base"), ask(new, files, "base")
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value)

    removed = from_export(served, removed=["base"])
    # What a client calls a domain outlives others, and so does the size of mixed batches.
    assert removed.ids == {PAIR: 1, "upright": 2} and removed.size == (16, 16) and removed.next_id == 3
    third = write_export(removed, served)
    assert third.unchanged == (PAIR, "upright")
    before, after = ask(new, files, PAIR), ask(tf.saved_model.load(str(third.path)), files, PAIR)
    for key, value in before.items():
        width = after[key].shape[1]  # no domain of more than two classes fills answers up
        np.testing.assert_array_equal(after[key], value[:, :width])

    # The base domain comes back with an id of its own.
    again = from_export(served, [base])
    assert again.ids == {PAIR: 1, "upright": 2, "base": 3}
    with pytest.raises(ValueError, match=f"--remove_domain: .*/3 has no domain 'base'; it has {PAIR}, upright"):
        from_export(served, removed=["base"])
    with pytest.raises(ValueError, match="no domain of .* would be left"):
        from_export(served, removed=[PAIR, "upright"])


def test_a_pack_of_another_trunk_is_refused(exported, tmp_path):
    other = moved(MultiDomainClassifier({"base": 7}, ARCHITECTURE), seed=5)
    fingerprint = write_trunk(tmp_path / "trunk.safetensors", other, "base")
    pack = tmp_path / "base.safetensors"
    write_pack(
        pack,
        other,
        "base",
        label_names=label_names("base"),
        category_ids=list(range(7)),
        preprocessing=preprocessing((16, 16)),
        trunk_fingerprint=fingerprint,
        accuracy=None,
    )
    with pytest.raises(ValueError, match=f"pack {pack} was trained on the trunk with fingerprint {fingerprint[:12]}"):
        from_export(exported, [str(pack)])


def test_what_comes_out_of_an_export_is_what_went_in(exported, runs):
    for pack in from_export(exported).packs:
        wanted = read_pack(runs / "packs" / f"{pack.domain}.safetensors")
        assert pack.tensors.keys() == wanted.tensors.keys()
        assert all(np.array_equal(pack.tensors[slot], value) for slot, value in wanted.tensors.items())
        assert dataclasses.replace(pack, path="", tensors={}) == dataclasses.replace(wanted, path="", tensors={})


def test_damaged_images_to_check_with_are_named(source, data_dir, tmp_path):
    folder = shutil.copytree(data_dir, tmp_path / "data")
    info = DatasetInfo.load(folder, "base")
    own = {"label_names": info.label_names, "category_ids": info.category_ids, "tensors": {}}
    pack = dataclasses.replace(source.packs[0], **own)
    shard = pathlib.Path(info.shard_paths(folder, "val")[0])
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(ValueError, match=rf"images of domain 'base' in {folder} cannot be read: "):
        samples_of([pack], folder, count=99)


DAMAGED = {
    "cut off": (MANIFEST, lambda text: text[:-20]),
    "empty": (MANIFEST, lambda text: ""),
    "a list": (MANIFEST, lambda text: "[]"),
    "deep": (MANIFEST, lambda text: "[" * 100_000),
    "NaN": (MANIFEST, lambda text: text.replace('"next_domain_id": 6', '"next_domain_id": NaN')),
    "no size": (MANIFEST, lambda text: text.replace('"size"', '"sizes"')),
    "no domains": (MANIFEST, lambda text: changed(text, domains=[])),
    "domains by number": (MANIFEST, lambda text: changed(text, domains=5)),
    "a domain elsewhere": (MANIFEST, lambda text: changed(text, domains=["../base"], domain_ids={"../base": 0})),
    "an id for two": (MANIFEST, lambda text: changed(text, domain_ids=dict.fromkeys(NUM_CLASSES, 1))),
    "ids of text": (MANIFEST, lambda text: changed(text, domain_ids=dict.fromkeys(NUM_CLASSES, "1"))),
    "an id again": (MANIFEST, lambda text: changed(text, next_domain_id=2)),
    "an architecture of text": (MANIFEST, lambda text: changed(text, architecture="resnet")),
    "an unknown method": (MANIFEST, lambda text: changed(text, architecture={"method": "none"})),
    "folded by number": (MANIFEST, lambda text: changed(text, folded=1)),
    "a domain cut off": ("assets/domains/base.json", lambda text: text[:-20]),
    "labels of numbers": ("assets/domains/base.json", lambda text: changed(text, label_names=[1, 2])),
    "accuracy of text": ("assets/domains/base.json", lambda text: changed(text, accuracy="high")),
    "no preprocessing": ("assets/domains/base.json", lambda text: changed(text, preprocessing=None)),
    "fewer labels": ("assets/domains/base.json", lambda text: changed(text, label_names=["a", "b"])),
    "a graph cut off": (GRAPH, lambda text: text[:1000]),
    "a bit of the graph": (GRAPH, lambda text: flipped(text, 0.6)),
    "values cut off": ("variables/variables.data-00000-of-00001", lambda text: text[:1000]),
    "a bit of the values": ("variables/variables.data-00000-of-00001", lambda text: flipped(text, 0.9)),
    "a bit of their index": ("variables/variables.index", lambda text: flipped(text, 0.5)),
    "hashes of other files": (MANIFEST, lambda text: changed(text, files={"../1": "0" * 64})),
    "hashes by number": (MANIFEST, lambda text: changed(text, files=[1])),
}
OF_THE_WHOLE = ("fewer labels", "hashes of other files")


def changed(text, **fields):
    return json.dumps({**json.loads(text), **fields})


def flipped(text, where):
    """Returns the text with a bit flipped, of the character after that share of it."""
    place = int(where * len(text))
    return text[:place] + chr(ord(text[place]) ^ 4) + text[place + 1 :]


def spoiled(version, file, change):
    before = (version / file).read_text("latin-1")
    (version / file).write_text(change(before), "latin-1")
    assert (version / file).read_text("latin-1") != before


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_export_is_one_line_that_names_the_file(name, exported, tmp_path, capsys):
    version = shutil.copytree(exported, tmp_path / "1")
    file, change = DAMAGED[name]
    spoiled(version, file, change)
    capsys.readouterr()
    with pytest.raises(SystemExit), report_errors():
        from_export(tmp_path)
    err = capsys.readouterr().err
    assert err.startswith(f"error: {version if name in OF_THE_WHOLE else version / file}: ") and err.count("\n") == 1


@pytest.mark.parametrize("name", ["a graph cut off", "values cut off", "a bit of the values"])
def test_a_damaged_export_without_hashes_is_told_of_as_a_whole(name, exported, tmp_path):
    version = shutil.copytree(exported, tmp_path / "1")
    spoiled(version, MANIFEST, lambda text: changed(text, files=None))
    spoiled(version, *DAMAGED[name])
    with pytest.raises(ValueError, match=f"{version}: damaged"):
        from_export(tmp_path)


def test_a_graph_that_tensorflow_cannot_load_is_told_of_as_damaged(exported, tmp_path):
    version = shutil.copytree(exported, tmp_path / "1")
    spoiled(version, GRAPH, lambda text: text.replace(":output:0", ":outpuu:0", 1))
    with pytest.raises(ValueError, match=f"{version}: damaged"), reading(version):
        tf.saved_model.load(str(version))


# Versions


def some_versions(folder, *numbers, whole=True):
    for number in numbers:
        (folder / str(number)).mkdir(parents=True)
        if whole:
            (folder / str(number) / GRAPH).write_text("graph")
    return folder


def test_old_versions_go_but_never_the_newest(tmp_path):
    some_versions(tmp_path, 1, 2, 9, 10, 11)
    some_versions(tmp_path, 3, whole=False)  # no export: not ours to delete
    (tmp_path / "notes").mkdir()
    assert [path.name for path in prune(tmp_path, 2, tmp_path / "1")] == ["2", "9"]  # 1 was just written
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["1", "10", "11", "3", "notes"]
    assert [path.name for path in prune(tmp_path, 1, tmp_path / "11")] == ["1", "10"]
    assert list(versions_of(tmp_path)) == [3, 11] and newest(tmp_path) == tmp_path / "11"


def test_where_there_is_no_export_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no version of an export here"):
        newest(tmp_path)
    some_versions(tmp_path, 4)
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}/4/{MANIFEST}: not there"):
        from_export(tmp_path)


# The command


def command(*flags):
    done = run_command("-m", "tfmdl.export", *flags, cwd=ROOT)
    return done.returncode, done.stdout, done.stderr


ALONE = """
import importlib.abc, json, sys

class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tfmdl", "data_prep"):
            raise ImportError(name)

sys.meta_path.insert(0, Hide())
import tensorflow as tf

version, *paths = sys.argv[1:]
serve = tf.saved_model.load(version).signatures["serving_default"]
files = tf.constant([open(path, "rb").read() for path in paths])
answer = serve(image_bytes=files, domain=tf.fill(files.shape, "upright"))
print(json.dumps([[label.decode() for label in row] for row in answer["label"].numpy().tolist()]))
"""


@pytest.mark.slow
def test_the_command_writes_a_version_that_loads_without_the_project(runs, tmp_path, files, source):
    """One domain alone, which is then served at its own size; the next version is made of it."""
    base = tmp_path / "served"
    for other in ("6", "notes", "0x9"):  # only the first is a version
        (base / other).mkdir(parents=True)
        (base / other / "file").write_text(other)
    pack = runs / "packs" / "upright.safetensors"
    code, out, err = command(f"--trunk={runs}", f"--packs={pack}", f"--export_dir={base}", "--license=CC0")
    assert (code, err) == (0, "")
    for part in ("serving_default", "image_bytes string (?,)", "label string (?, 3)", f"{base}/7", "docker run"):
        assert part in out
    assert sorted(entry.name for entry in base.iterdir()) == ["0x9", "6", "7", "notes"]
    assert all([file.name for file in (base / other).iterdir()] == ["file"] for other in ("6", "notes", "0x9"))

    paths = []
    for index, (*_, encoded) in enumerate(files):
        paths.append(tmp_path / f"{index}.image")
        paths[-1].write_bytes(encoded)
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(base / "7"), *map(str, paths)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    labels = json.loads(done.stdout)
    assert len(labels) == len(files) and all(sorted(row) == label_names("upright") for row in labels)

    code, out, err = command(f"--from_export={base}", f"--add_pack={runs}/packs/base.safetensors", "--keep=1")
    assert (code, err) == (0, "")
    assert "Bit-identical to the version before: upright." in out and f"Deleted: {base}/7" in out
    assert sorted(entry.name for entry in base.iterdir()) == ["0x9", "6", "8", "notes"]


def test_the_command_names_what_is_wrong(runs, tmp_path):
    nowhere, served = tmp_path / "nowhere", f"--export_dir={tmp_path / 'served'}"
    code, out, err = command(f"--workdir={nowhere}", served)
    assert code == 1 and err.startswith("error: ") and err.count("\n") == 1 and "nowhere" in err
    assert not (tmp_path / "served").exists()

    unset = dict.fromkeys(("workdir", "trunk", "packs", "from_export", "add_pack", "remove_domain", "export_dir"))
    for given, message in (
        ({"workdir": [str(runs)], "from_export": str(nowhere)}, "either --from_export, or --workdir"),
        ({"workdir": [str(runs)]}, "--export_dir must name a folder"),
        ({"workdir": [str(runs)], "add_pack": [str(runs)]}, "--add_pack wants --from_export"),
        ({"from_export": str(nowhere)}, "no version of an export here"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            exporting.export(SimpleNamespace(**unset | given))


# Killed, and two at once


def test_the_next_export_removes_what_a_killed_one_left_and_leaves_what_is_at_work(tmp_path):
    (tmp_path / ".partial-killed" / "7").mkdir(parents=True)
    with aside(tmp_path, ".partial-") as other, new_version(tmp_path) as (written, _):
        (written / GRAPH).touch()
        assert other.is_dir() and not (tmp_path / ".partial-killed").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_of_two_exports_at_once_the_later_one_is_refused_in_one_line(tmp_path):
    with pytest.raises(FileExistsError, match="another export has made it meanwhile"), new_version(tmp_path) as one:
        with new_version(tmp_path) as (written, path):
            (written / GRAPH).touch()
        assert one[1] == path
        (one[0] / GRAPH).touch()
    assert [path.name for path in tmp_path.iterdir()] == ["1"]

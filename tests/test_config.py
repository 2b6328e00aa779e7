"""A configuration survives its JSON, says in what it differs by the names of flags, and refuses nonsense."""

import dataclasses
import json

import pytest

from tfmdl.architecture import Architecture
from tfmdl.config import MAY_DIFFER, RunConfig, differences, load_config
from tfmdl.files import write_json
from tfmdl.sharing.soft_sharing import SoftSharing

PLAIN = RunConfig(domains=("a",), data_dir="data", workdir="run")
FULL = RunConfig(
    domains=("a", "b"),
    data_dir="elsewhere",
    workdir="other",
    architecture=Architecture("soft_sharing", "resnet26", 8, 2, SoftSharing.Options(True, "first:3")),
    init_from="trunk",
    recipe="quick",
    epochs=7,
    batch_size=4,
    flips=True,
    learning_rate=0.3,
    scale_learning_rate=True,
    sync_norm=True,
    weight_decay=0.0,
    image_size=32,
    precision="mixed_bfloat16",
    seed=5,
    max_steps=9,
    train_splits=("train", "val"),
    jit_compile=True,
    cache=True,
    checkpoint_every=11,
    profile_steps=(2, 3),
    packs=("one", "two"),
)


@pytest.mark.parametrize("config", [PLAIN, FULL])
def test_json_round_trip(config):
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_a_configuration_from_before_there_were_options():
    fields = PLAIN.to_json()
    del fields["packs"], fields["architecture"]["share_last_pointwise"]
    assert RunConfig.from_json(fields) == PLAIN


def test_a_configuration_that_names_options_of_other_methods():
    fields = PLAIN.to_json()
    fields["architecture"]["soft_layers"] = "all"  # as all files had it once
    assert RunConfig.from_json(fields) == PLAIN
    fields["architecture"]["soft_layers"] = "first:3"
    with pytest.raises(ValueError, match="pointwise_sharing has no option --soft_layers, .*'first:3'"):
        RunConfig.from_json(fields)


def test_differences_name_the_flags_that_make_another_run():
    assert differences(PLAIN, PLAIN) == []
    named = {line.split(":")[0] for line in differences(PLAIN, FULL)}
    fields = {field.name for field in dataclasses.fields(RunConfig)} - {"architecture", "domains"}
    fields |= {"domain", *PLAIN.architecture.to_json()}
    assert named == {f"--{name}" for name in fields - MAY_DIFFER}
    (line,) = differences(PLAIN, dataclasses.replace(PLAIN, seed=3))
    assert line == "--seed: was 0, now 3"


def test_what_a_run_writes_beside_its_result_may_differ():
    later = dataclasses.replace(PLAIN, data_dir="moved", checkpoint_every=7, profile_steps=(1, 2), workdir="moved")
    assert differences(PLAIN, later) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"domains": ()}, "--domain must name at least one"),
        ({"domains": ("a", "a")}, "--domain must name at least one, each once; received 'a,a'"),
        ({"domains": ("a/b",)}, "received 'a/b'"),
        ({"train_splits": ()}, "--train_splits"),
        ({"train_splits": ("train", "test")}, "test images are never trained on; received 'test'"),
        ({"profile_steps": (3, 2)}, "--profile_steps"),
        ({"image_size": 60_000}, "--image_size must be at most 2048; received 60000"),
        ({"image_size": 7}, "--image_size must be at least 8; received 7"),
        ({"learning_rate": -0.1}, "--learning_rate must be at least 0; received -0.1"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be float . None; received nan"),
        ({"batch_size": 0}, "--batch_size must be at least 1; received 0"),
        ({"seed": "0"}, "`seed` must be int; received '0'"),
        ({"init_from": 5}, "`init_from` must be str . None; received 5"),
    ],
)
def test_nonsense_is_refused_by_flag(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PLAIN, **change)


def test_a_run_is_loaded_from_its_folder(tmp_path):
    write_json(tmp_path / "run" / "config.json", {"run": FULL.to_json()})
    assert load_config(tmp_path / "run") == FULL
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    "contents",
    [
        *("{", "[]", "{}", '{"run": {}}', '{"run": 3}', "\udcff"),
        json.dumps({"run": PLAIN.to_json() | {"wings": 2}}),
        json.dumps({"run": list(PLAIN.to_json().items())}),
        json.dumps({"run": PLAIN.to_json() | {"architecture": list(PLAIN.architecture.to_json().items())}}),
    ],
)
def test_what_is_no_configuration_is_named(contents, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(contents.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=str(path)):
        load_config(tmp_path)


def test_an_architecture_of_another_version_is_named_with_the_file(tmp_path):
    fields = PLAIN.to_json()
    fields["architecture"]["method"] = "telepathy"
    write_json(tmp_path / "config.json", {"run": fields})
    with pytest.raises(ValueError, match=rf"{tmp_path / 'config.json'}.*telepathy"):
        load_config(tmp_path)


def test_where_no_run_is(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "nowhere" / "config.json")):
        load_config(tmp_path / "nowhere")

"""What runs have left, as the tests compare it."""

import json

import numpy as np

from tfmdl.files import read_tensors


def metrics_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def without_speed(lines):
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


def steps_of(workdir):
    return [int(path.stem[-9:]) for path in (workdir / "checkpoints").glob("step-*.safetensors")]


def assert_same_weights(workdir, wanted_of):
    for name in ("trunk.safetensors", "packs/ucf101.safetensors", "checkpoints/step-000000050.safetensors"):
        found, wanted = (read_tensors(folder / name)[0] for folder in (workdir, wanted_of))
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            np.testing.assert_array_equal(found[key], value, err_msg=key)

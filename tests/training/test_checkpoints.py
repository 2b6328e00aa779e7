"""Checkpoints: the newest are kept, what is half-written is not read, and values go back to the variables by path."""

import keras
import numpy as np
import pytest

from tfmdl.files import read_tensors
from tfmdl.training.checkpoints import KEEP, Checkpoints, collect, restore


def test_the_newest_checkpoints_stay(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest() is None
    steps = (3, 12, 100, 100000)
    for step in steps:
        path = checkpoints.save(step, {"a": np.full(2, step)}, {"mid_epoch": True})
        assert checkpoints.latest() == path
    assert [int(file.stem[-9:]) for file in sorted(path.parent.iterdir())] == list(steps[-KEEP:])
    tensors, state = read_tensors(path)
    np.testing.assert_array_equal(tensors["a"], [100000, 100000])
    assert (state["step"], state["mid_epoch"]) == (100000, True)


@pytest.mark.parametrize("name", ["step-000000009.safetensors.partial", "step-9.safetensors", "notes.txt"])
def test_what_is_no_checkpoint_is_neither_read_nor_removed(name, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    (tmp_path / name).write_bytes(b"half")
    assert checkpoints.latest() is None
    for step in range(1, KEEP + 2):
        path = checkpoints.save(step, {"a": np.zeros(1)}, {})
    assert checkpoints.latest() == path
    assert (tmp_path / name).read_bytes() == b"half"


def groups_of(value):
    """A variable and its optimiser, whose own state (momentum, loss scale) is that after one step."""
    variable = keras.Variable(np.full((2, 3), value, "float32"), name="kernel")
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5, momentum=0.9))
    optimizer.build([variable])
    optimizer.apply([keras.ops.full((2, 3), value)])
    return {"network": [variable], "optimizer": optimizer.variables}


def test_variables_and_optimiser_come_back():
    keras.utils.clear_session()  # names are those of a fresh process
    wanted = collect(groups_of(2.0))
    assert any("momentum" in name for name in wanted) and any("scale" in name for name in wanted)
    keras.utils.clear_session()
    groups = groups_of(1.0)
    assert not all(np.array_equal(value, wanted[name]) for name, value in collect(groups).items())
    restore(groups, wanted)
    found = collect(groups)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_what_does_not_fit_is_refused_by_name():
    groups = {"network": [keras.Variable(np.zeros((2, 3)), name="kernel")]}
    ((name, value),) = collect(groups).items()
    with pytest.raises(ValueError, match="not hold the same variables: network:more"):
        restore(groups, {name: value, "network:more": value})
    with pytest.raises(ValueError, match=f"not hold the same variables: {name}"):
        restore(groups, {})
    with pytest.raises(ValueError, match=rf"{name} of shape \(3, 2\), the run needs \(2, 3\)"):
        restore(groups, {name: value.T})

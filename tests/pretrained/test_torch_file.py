"""Files of weights as PyTorch wrote them, made here by hand: PyTorch is not among what is installed."""

import collections
import os
import pickle

import numpy as np
import pytest

from tfmdl.pretrained.torch_file import read_state_dict

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


class Named:
    """Pickles as a global name of a module that is not there."""

    def __init__(self, module, name):
        self.__module__, self.__qualname__ = module, name


class Tensor:
    def __init__(self, storage, size, stride, offset=0):
        self.storage, self.size, self.stride, self.offset = storage, size, stride, offset


class Writer(pickle._Pickler):
    """Writes names that no module here has, and storages by reference, as PyTorch's own does."""

    def save_named(self, named):
        self.write(pickle.GLOBAL + f"{named.__module__}\n{named.__qualname__}\n".encode())
        self.memoize(named)

    def save_tensor(self, tensor):
        arguments = (tensor.storage, tensor.offset, tensor.size, tensor.stride, False, collections.OrderedDict())
        self.save_reduce(Named("torch._utils", "_rebuild_tensor_v2"), arguments, obj=tensor)

    dispatch = {**pickle._Pickler.dispatch, Named: save_named, Tensor: save_tensor}

    def persistent_id(self, value):
        if isinstance(value, Storage):
            return ("storage", Named("torch", value.kind), value.key, "cpu", len(value.values), None)
        return None

    def save_reduce(self, func, args, state=None, *rest, obj=None, **kwargs):
        if isinstance(func, Named):
            self.save_named(func) if id(func) not in self.memo else self.write(self.get(self.memo[id(func)][0]))
            self.save(args)
            self.write(pickle.REDUCE)
            if obj is not None:
                self.memoize(obj)
            return
        super().save_reduce(func, args, state, *rest, obj=obj, **kwargs)


class Storage:
    def __init__(self, key, values, kind="FloatStorage"):
        self.key, self.values, self.kind = key, values, kind


def write(path, state, storages, length=None):
    with open(path, "wb") as file:
        for value in (MAGIC, VERSION, {}):
            pickle.dump(value, file, protocol=2)
        Writer(file, protocol=2).dump(collections.OrderedDict(state))
        pickle.dump([storage.key for storage in storages], file, protocol=2)
        for storage in storages:
            file.write((length or len(storage.values)).to_bytes(8, "little"))
            file.write(storage.values.tobytes())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


def test_tensors_of_any_shape_and_stride_are_read(path):
    floats = Storage("1", np.arange(12, dtype="<f4"))
    counts = Storage("2", np.array([7], "<i8"), "LongStorage")
    state = {
        "conv.weight": Tensor(floats, (2, 3), (3, 1)),
        "transposed": Tensor(floats, (3, 2), (1, 3), offset=6),
        "norm.num_batches_tracked": Tensor(counts, (), ()),
    }
    write(path, state, [floats, counts])
    values = read_state_dict(path)
    assert list(values) == list(state)
    np.testing.assert_array_equal(values["conv.weight"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(values["transposed"], [[6, 9], [7, 10], [8, 11]])
    assert values["norm.num_batches_tracked"] == 7


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


def test_what_a_file_asks_to_run_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with open(path, "wb") as file:
        for value in (MAGIC, VERSION, {}, Attack()):
            pickle.dump(value, file, protocol=2)
    with pytest.raises(ValueError, match="weights.pth: not a file of weights .*asks for (posix|nt|os).system"):
        read_state_dict(path)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize(
    "tensor",
    [lambda s: Tensor(s, (5, 3), (3, 1)), lambda s: Tensor(s, (2,), (-1,)), lambda s: Tensor(s, (2,), (1,), offset=-1),
     lambda s: Tensor(s, (2,), (1,), offset=11)],
)  # fmt: skip
def test_a_tensor_outside_of_its_storage_is_refused(tensor, path):
    storage = Storage("1", np.arange(12, dtype="<f4"))
    write(path, {"x": tensor(storage)}, [storage])
    with pytest.raises(ValueError, match="a tensor lies outside of its storage"):
        read_state_dict(path)


def test_damaged_files_are_refused(path):
    storage = Storage("1", np.arange(12, dtype="<f4"))
    write(path, {"x": Tensor(storage, (12,), (1,))}, [storage])
    content = path.read_bytes()
    for cut in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match="weights.pth: not a file of weights"):
            read_state_dict(path)
    write(path, {"x": Tensor(storage, (12,), (1,))}, [storage], length=13)
    with pytest.raises(ValueError, match="its storage 1 has another length"):
        read_state_dict(path)

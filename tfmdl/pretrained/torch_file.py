"""Reads a file of weights that PyTorch wrote, without PyTorch and without running anything that the file asks for."""

import collections
import os
import pickle

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Tensor:
    """A tensor whose numbers come later in the file."""

    def __init__(self, storage, offset, size, stride, requires_grad=False, hooks=None, metadata=None):
        self.storage, self.offset, self.size, self.stride = storage, offset, tuple(size), tuple(stride)


class _Unpickler(pickle.Unpickler):
    """Makes dicts of tensors, and nothing else."""

    _KNOWN = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
        **{("torch", name): dtype for name, dtype in _TYPES.items()},
    }

    def find_class(self, module, name):
        if (module, name) not in self._KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which weights have no need of")
        return self._KNOWN[module, name]

    def persistent_load(self, saved):
        what, dtype, key, _, count, view = saved
        if what != "storage" or view is not None:
            raise pickle.UnpicklingError("its storages are not those of a file of weights")
        return key, dtype, count


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the tensors of a state dict by name, from a file as PyTorch wrote them before version 1.6.

    Raises:
        OSError: if it cannot be read.
        ValueError: if it is not such a file, or has anything else in it.
    """
    with open(path, "rb") as file:
        try:
            magic, version, _, tensors, keys = (_Unpickler(file).load() for _ in range(5))
            if (magic, version) != (_MAGIC, _VERSION):
                raise ValueError("it does not begin as one")
            storage_of = {tensor.storage[0]: tensor.storage for tensor in tensors.values()}
            values = {}
            for key in keys:
                _, dtype, count = storage_of[key]
                if int.from_bytes(file.read(8), "little") != count:
                    raise ValueError(f"its storage {key} has another length than it says")
                values[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
            return {name: _tensor(tensor, values[tensor.storage[0]]) for name, tensor in tensors.items()}
        except (pickle.UnpicklingError, AttributeError, EOFError, KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(f"{path}: not a file of weights as PyTorch wrote them, or damaged ({error})") from error


def _tensor(tensor, values):
    steps = [stride * (size - 1) for stride, size in zip(tensor.stride, tensor.size, strict=True)]
    empty, backwards = min(tensor.size, default=1) < 1, min(steps, default=0) < 0
    if empty or backwards or not 0 <= tensor.offset < len(values) - sum(steps):
        raise ValueError("a tensor lies outside of its storage")
    strides = [stride * values.itemsize for stride in tensor.stride]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.size, strides).copy()

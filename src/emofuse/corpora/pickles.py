"""Pickles of others, read without trusting them: containers, numpy arrays, pandas frames and torch tensors.

A pickle is a program that may call whatever it names. Here a name is looked up in one short list, and what stands there
is never the library's own class or function but a stand-in of this module, which checks what it is given and builds a
plain value. So neither ``os.system`` nor a function of numpy or pandas with side effects can be reached, and a forged
dtype cannot make memory be read as objects. Every other name is refused, and the message says which.
"""

import math
import pickle
import re
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from emofuse.corpora.base import CorpusError

__all__ = ["Frame", "load"]

_ZIP = b"PK\x03\x04"
"""How files of ``torch.save`` begin."""

_DTYPE = re.compile(r"\|?(?:b1|\?|[iu][1248]|f[248]|c(?:8|16)|[SU]\d{1,6}|O8?)")


def load(path: Path) -> Any:
    """Read a pickle, or a file of ``torch.save``, as containers, numpy arrays and :class:`Frame`.

    Text of Python 2 is read as Latin-1, which also suits the numpy arrays of its time.

    Args:
        path: the file; what is in it decides, not its ending

    Raises:
        CorpusError: the file names anything but what such values need (the message says what), or is damaged
    """
    try:
        with path.open("rb") as stream:
            if stream.read(len(_ZIP)) == _ZIP:
                return _without_tensors(_from_torch(path))
            stream.seek(0)
            return _Reader(stream, encoding="latin1").load()
    except _RefusedError as refusal:
        raise CorpusError(f"{path}: refused: {refusal}") from refusal
    except Exception as error:  # a damaged pickle may raise anything
        raise CorpusError(f"{path}: not a readable pickle: {type(error).__name__}: {error}") from error


class Frame:
    """A pandas frame, without pandas."""

    # Filled by the pickle; a class, because pandas pickles frames as new objects and not by a function.
    __slots__ = ("_state",)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._state = state

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns by name; an index that has a name, or is not just 0, 1, 2 …, is a column as well.

        Raises:
            ValueError: the frame is not built as pandas builds one
        """
        manager = self._state.get("_mgr", self._state.get("_data"))
        if not isinstance(manager, _Manager):
            raise ValueError("a pandas frame without blocks")
        names, index = manager.axes
        labels = [str(name) for name in np.asarray(names.values)]
        columns: list[np.ndarray | None] = [None] * len(labels)
        for values, places in manager.blocks:
            wide = np.asarray(values)
            wide = wide[None, :] if wide.ndim == 1 else wide
            for place, column in zip(np.arange(len(columns))[places], wide, strict=True):
                columns[place] = column
        named = {label: column for label, column in zip(labels, columns, strict=True) if column is not None}
        if len(named) != len(labels):
            raise ValueError("a pandas frame with a column that is doubled or empty")
        if isinstance(index.values, range) and index.name is None:
            return named
        return {str(index.name or "index"): np.asarray(index.values), **named}


class _RefusedError(Exception):
    """A name that a pickle may not use."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _ALLOWED.get((module, name))
        if found is None:
            kinds = "containers, numpy arrays, pandas frames and torch tensors"
            raise _RefusedError(f"it names {module}.{name}; only {kinds} are built from a pickle")
        return found


class _Stand:
    """A function as a pickle sees it: it can be called and nothing else, so no pickle can change it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a pickle tries to change a function")


class _Dtype:
    """What a pickle says of an array's type; turned into a real one only if it is a plain one."""

    __slots__ = ("_code", "_order")

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        del align, copy
        self._code, self._order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self._order, subdtype, names, fields = state[:5]
        if (subdtype, names, fields) != (None, None, None):
            raise ValueError("an array of records; only plain arrays are read")

    def real(self) -> np.dtype:
        plain = isinstance(self._code, str) and _DTYPE.fullmatch(self._code)
        if not plain or self._order not in ("<", ">", "=", "|"):
            raise ValueError(f"an array of type {self._code!r}; only numbers, text and objects are read")
        return np.dtype(self._code.lstrip("|")).newbyteorder(self._order)  # type: ignore[arg-type]


class _Array(np.ndarray):
    """An array that a pickle fills; numpy's own filling would believe the pickle's type and sizes."""

    __slots__ = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:  # type: ignore[override]
        _, shape, kind, fortran, data = state
        dtype, count = _real(kind), _count(shape)
        if dtype.hasobject:
            if type(data) is not list or len(data) != count:
                raise ValueError(f"an array of {count} objects without as many")
        else:
            data = _bytes(data)
            if len(data) != count * dtype.itemsize:
                raise ValueError(f"an array of {count} values of {dtype} in {len(data)} bytes")
        super().__setstate__((1, shape, dtype, bool(fortran), data))  # type: ignore[arg-type]


class _Manager:
    """The blocks of a pandas frame and its two axes."""

    def __init__(self, blocks: Sequence[tuple[Any, Any]] = (), axes: Sequence["_Index"] = ()) -> None:
        self.blocks, self.axes = blocks, axes

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # Before pandas 1.3; the key is the version that introduced the form.
        kept = state[3]["0.14.1"]
        self.axes, self.blocks = kept["axes"], [(each["values"], each["mgr_locs"]) for each in kept["blocks"]]


class _Index:
    def __init__(self, values: Any, name: Any) -> None:
        self.values, self.name = values, name


class _Strings:
    """A pandas column of text that Arrow holds."""

    __slots__ = ("_values",)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._values = state["_pa_array"]

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _real(kind: Any) -> np.dtype:
    if not isinstance(kind, _Dtype):
        raise ValueError("an array without a type")
    return kind.real()


def _count(shape: Any) -> int:
    if type(shape) is not tuple or any(type(each) is not int or each < 0 for each in shape):
        raise ValueError(f"an array of the shape {shape!r}")
    return math.prod(shape)


def _bytes(data: Any, encoding: Any = "latin1") -> bytes:
    # Text is how Python 2 wrote bytes, and how Python 3 writes them for it. A number would ask for that much memory.
    if isinstance(data, str) and encoding in ("latin1", "latin-1"):
        return data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise ValueError(f"bytes made of {type(data).__name__}, {encoding}")
    return bytes(data)


def _reconstruct(*args: Any) -> np.ndarray:
    del args  # always an empty array; what follows in the pickle fills it
    return np.ndarray.__new__(_Array, (0,), "b")


def _scalar(kind: Any, data: Any) -> Any:
    dtype = _real(kind)
    raw = _bytes(data)
    if dtype.hasobject or len(raw) != dtype.itemsize:
        raise ValueError(f"a value of {dtype} in {len(raw)} bytes")
    return np.frombuffer(raw, dtype)[0] if raw else dtype.type()


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    dtype = _real(kind)
    if dtype.hasobject or order not in ("C", "F"):
        raise ValueError(f"an array of {dtype} in the order {order!r}")
    if not _count(shape):
        return np.empty(shape, dtype)
    return np.frombuffer(_bytes(data), dtype).reshape(shape, order=order)


def _dict(*args: Any) -> dict[Any, Any]:
    # OrderedDict takes pairs; defaultdict takes what makes its defaults, which nobody needs any more.
    return dict(args[0]) if args and isinstance(args[0], list | tuple | dict) else {}


def _new_index(kind: Any, parts: dict[str, Any]) -> _Index:
    del kind
    if "data" in parts:
        return _Index(parts["data"], parts.get("name"))
    return _Index(range(parts["start"], parts["stop"], parts["step"]), parts.get("name"))


def _arrow(parts: Any) -> np.ndarray:
    # Decoded here: pyarrow itself may crash on forged lengths before it can be asked to validate them.
    kind, length, _, offset, buffers, children, dictionary = parts
    valid, bounds, data = (b"" if each is None else _bytes(each) for each in buffers)
    plain = kind in ("<i4", "<i8") and not children and dictionary is None
    if not plain or type(length) is not int or type(offset) is not int or min(length, offset) < 0:
        raise ValueError("a nested or damaged Arrow array; only columns of text are read")
    ends = np.frombuffer(bounds, kind)[offset : offset + length + 1]
    bits = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")[offset : offset + length]
    if (
        len(ends) != length + 1
        or (np.diff(ends, prepend=0, append=len(data)) < 0).any()
        or len(bits) not in (0, length)
    ):
        raise ValueError("a damaged Arrow array")
    texts = np.empty(length, dtype=object)
    for row in range(length):
        texts[row] = data[ends[row] : ends[row + 1]].decode() if not len(bits) or bits[row] else None
    return texts


def _arrow_type(alias: Any) -> str:
    if alias not in ("string", "large_string"):
        raise ValueError(f"an Arrow array of {alias!r}; only columns of text are read")
    return "<i4" if alias == "string" else "<i8"


def _from_torch(file: Path | BytesIO) -> Any:
    import torch

    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        if named is None:
            raise
        raise _RefusedError(f"it names {named[1]}; of what torch.save wrote only tensors are read") from error


def _without_tensors(tree: Any) -> Any:
    import torch

    if isinstance(tree, torch.Tensor):
        return _numpy(tree)
    if isinstance(tree, dict):
        return {key: _without_tensors(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_tensors(each) for each in tree]
    return tree


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *rest: Any) -> np.ndarray:
    import torch

    del rest
    if not isinstance(storage, torch.storage.TypedStorage):
        raise ValueError("a tensor without values")
    flat = torch.empty(0, dtype=storage.dtype).set_(storage._untyped_storage)
    # Refuses sizes that reach beyond the values.
    return _numpy(flat.as_strided(size, stride, offset))


def _numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    result: np.ndarray = (tensor.float() if tensor.is_floating_point() else tensor).numpy().copy()
    return result


def _nothing(*args: Any) -> Any:
    raise ValueError("a pickle calls a type that is only there to be named")


_INERT = _Stand(_nothing)
_ALLOWED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _Stand(_bytes),
    ("collections", "OrderedDict"): _Stand(_dict),
    ("collections", "defaultdict"): _Stand(_dict),
    ("numpy", "dtype"): _Stand(_Dtype),
    ("numpy", "ndarray"): _INERT,
    ("pandas", "DataFrame"): Frame,
    ("pandas", "Index"): _INERT,
    ("pandas", "RangeIndex"): _INERT,
    ("pandas", "StringDtype"): _Stand(lambda *args: None),
    ("pandas._libs.internals", "_unpickle_block"): _Stand(lambda values, places, ndim: (values, places)),
    ("pandas.arrays", "ArrowStringArray"): _Strings,
    ("pandas.core.arrays.string_", "StringDtype"): _Stand(lambda *args: None),
    ("pandas.core.arrays.string_arrow", "ArrowStringArray"): _Strings,
    ("pandas.core.frame", "DataFrame"): Frame,
    ("pandas.core.indexes.base", "_new_Index"): _Stand(_new_index),
    ("pandas.core.indexes.base", "Index"): _INERT,
    ("pandas.core.indexes.numeric", "Float64Index"): _INERT,
    ("pandas.core.indexes.numeric", "Int64Index"): _INERT,
    ("pandas.core.indexes.range", "RangeIndex"): _INERT,
    ("pandas.core.internals.managers", "BlockManager"): _Manager,
    ("pyarrow.lib", "_restore_array"): _Stand(_arrow),
    ("pyarrow.lib", "py_buffer"): _Stand(_bytes),
    ("pyarrow.lib", "type_for_alias"): _Stand(_arrow_type),
    ("torch._utils", "_rebuild_tensor_v2"): _Stand(_tensor),
    ("torch.storage", "_load_from_bytes"): _Stand(lambda data: _from_torch(BytesIO(_bytes(data)))),
}
for _module in ("numpy.core", "numpy._core"):
    _ALLOWED[f"{_module}.multiarray", "_reconstruct"] = _Stand(_reconstruct)
    _ALLOWED[f"{_module}.multiarray", "scalar"] = _Stand(_scalar)
    _ALLOWED[f"{_module}.numeric", "_frombuffer"] = _Stand(_from_buffer)
for _module in ("builtins", "__builtin__"):
    _ALLOWED |= {(_module, each.__name__): _Stand(each) for each in (set, frozenset, slice)}
    _ALLOWED |= {(_module, each): _INERT for each in ("dict", "float", "int", "list", "str", "unicode", "long")}
    _ALLOWED[_module, "bytes"] = _Stand(lambda data=b"": _bytes(data))
    _ALLOWED[_module, "bytearray"] = _Stand(lambda data=b"", encoding="latin1": bytearray(_bytes(data, encoding)))

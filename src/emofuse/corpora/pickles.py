"""A restricted reader of pickles: containers, numpy arrays, pandas frames and torch tensors.

A pickle is a program that may call whatever it names. Here a name is looked up in one short list, and what stands there
is never the library's own class or function but a stand-in of this module, which checks what it is given and builds a
plain value. So neither ``os.system`` nor a function of numpy or pandas with side effects can be reached, and a forged
dtype cannot make memory be read as objects. Every other name is refused, and the message says which.
"""

import math
import pickle
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from emofuse.corpora.base import CorpusError, regular, shown

__all__ = ["Frame", "load"]

_ZIP = b"PK\x03\x04"
"""How files of ``torch.save`` begin."""

_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How they began until torch 1.6: a number that a pickle of its own holds, before the values."""

_POINTER = b"version https:"
"""How the small file begins that Git LFS leaves in a file's place until it is fetched."""

_MOST_NODES = 100_000_000
_DEEPEST = 64
"""Bounds on what a pickle may be, shared parts counted wherever they are; features are a few levels deep."""

_MOST_BYTES = 256_000_000
_MOST_COPIES = 16
"""A pickle may make as many bytes, and as many times its own size, in addition to what it holds."""

_DTYPE = re.compile(r"\|?(?:b1|\?|[iu][1248]|f[248]|c(?:8|16)|[SU]\d{1,6}|O8?)")


def load(path: Path) -> Any:
    """Read a pickle, or a file of ``torch.save``, as containers, numpy arrays and :class:`Frame`.

    Text of Python 2 is read as Latin-1, which also suits the numpy arrays of its time.

    Args:
        path: the file; what is in it decides, not its ending

    Raises:
        CorpusError: the file names anything but what such values need (the message says what), or is damaged
    """
    regular(path, "a pickle")
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_TORCH))
            stream.seek(0)
            if head.startswith(_POINTER):
                raise ValueError("a pointer of Git LFS and not the file itself; `git lfs pull` fetches it")
            if head.startswith(_ZIP) or head == _TORCH:
                tree = _without_tensors(_checked(_from_torch(path)))
            else:
                tree = _Reader(stream, path.stat().st_size).load()
            return _checked(tree)
    except _RefusedError as refusal:
        raise CorpusError(f"{path}: refused: {refusal}") from refusal
    except Exception as error:  # a damaged pickle may raise anything
        words = shown(str(error), quoted=False)
        raise CorpusError(f"{path}: not a readable pickle: {type(error).__name__}: {words}") from error


def _checked(tree: Any) -> Any:
    """Return a tree that who walks through it comes to the end of.

    Parts may be shared, so that a small file has ten times the nodes at each level, or contain themselves.

    Raises:
        _RefusedError: it has too many nodes, is too deep, or contains itself
    """
    _weigh(tree, 0, {}, set())
    return tree


def _weigh(node: Any, depth: int, known: dict[int, tuple[int, int]], above: set[int]) -> tuple[int, int]:
    """Nodes and levels of a container, shared ones counted wherever they are."""
    mine = id(node)
    if mine in above:
        raise _RefusedError("it contains itself")
    if mine not in known:
        if depth > _DEEPEST:
            raise _RefusedError(f"it is nested more than {_DEEPEST} levels deep")
        above.add(mine)
        parts = _parts(node)
        inner = [_weigh(each, depth + 1, known, above) for each in parts if isinstance(each, _CONTAINERS)]
        above.remove(mine)
        known[mine] = 1 + len(parts) + sum(size for size, _ in inner), 1 + max((deep for _, deep in inner), default=0)
    if known[mine][0] > _MOST_NODES or known[mine][1] > _DEEPEST:
        raise _RefusedError(f"it has more than {_MOST_NODES:,} values or {_DEEPEST} levels, shared ones counted anew")
    return known[mine]


def _parts(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return [*node.keys(), *node.values()]
    if isinstance(node, np.ndarray):
        return list(node.flat) if node.dtype.hasobject else []
    if isinstance(node, list | tuple | set | frozenset):
        return list(node)
    return [getattr(node, name) for name in ("_state", "_values", "values", "blocks", "axes") if hasattr(node, name)]


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


_Unpickler: Any = pickle._Unpickler  # type: ignore[attr-defined]


class _Bounded:
    """A file that is asked for no more bytes than it has; a pickle may say that a value has any number of them."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.readline, self._read, self._size = stream.readline, stream.read, size

    def read(self, count: int) -> bytes:
        if count > self._size:
            raise EOFError(f"a value of {count:,} bytes in a file of {self._size:,}")
        return self._read(count)


class _Reader(_Unpickler):  # type: ignore[misc,valid-type]
    """Python's own unpickler in Python: that in C makes room for as many values as a pickle numbers them."""

    dispatch: ClassVar[dict[int, Any]] = dict(_Unpickler.dispatch)

    def __init__(self, stream: BinaryIO, size: int) -> None:
        super().__init__(_Bounded(stream, size), encoding="latin1")
        self._left = _MOST_BYTES + _MOST_COPIES * size

    def find_class(self, module: str, name: str) -> Any:
        found = _ALLOWED.get((module, name))
        if found is None:
            kinds = "containers, numpy arrays, pandas frames and torch tensors"
            raise _RefusedError(
                f"it names {shown(f'{module}.{name}', quoted=False)}; only {kinds} are built from a pickle"
            )
        return _Stand(lambda *args: self._spend(found(*args))) if isinstance(found, _Stand) else found

    def _spend(self, value: Any) -> Any:
        """Count what a pickle has made; it may make a large value again and again, in a few bytes each time."""
        if isinstance(value, bytes | bytearray):
            self._left -= len(value)
        elif isinstance(value, set | frozenset | dict):
            self._left -= 64 * len(value)
        elif isinstance(value, np.ndarray):
            self._left -= value.nbytes
        if self._left < 0:
            raise _RefusedError("it makes many times more of its values than it holds")
        return value

    def load_build(self) -> None:
        super().load_build()
        self._spend(self.stack[-1])

    def load_bytearray8(self) -> None:
        (length,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(length)))

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        super().load_dict()

    def load_additems(self) -> None:
        _check_keys(self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        _check_keys(self.stack)
        super().load_frozenset()

    dispatch |= {
        pickle.BUILD[0]: load_build,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.ADDITEMS[0]: load_additems,
        pickle.FROZENSET[0]: load_frozenset,
    }


def _check_keys(keys: Iterable[Any]) -> None:
    """Refuse keys that are nested: to hash a tuple in a tuple in a tuple … ends the process."""
    for key in keys:
        parts = key if isinstance(key, tuple) else (key,)
        if any(isinstance(part, tuple | frozenset) for part in parts):
            raise ValueError("a nested tuple as a key")


def _set(parts: Any = ()) -> set[Any]:
    _check_keys(parts)
    return set(parts)


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
    if not args or not isinstance(args[0], list | tuple | dict):
        return {}
    if not isinstance(args[0], dict):
        _check_keys(pair[0] for pair in args[0])
    return dict(args[0])


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


def _without_tensors(tree: Any, known: dict[int, Any] | None = None) -> Any:
    import torch

    known = {} if known is None else known
    if id(tree) not in known and isinstance(tree, torch.Tensor):
        known[id(tree)] = _numpy(tree)
    elif id(tree) not in known and isinstance(tree, dict):
        known[id(tree)] = {key: _without_tensors(value, known) for key, value in tree.items()}
    elif id(tree) not in known and isinstance(tree, list | tuple):
        known[id(tree)] = [_without_tensors(each, known) for each in tree]
    return known.get(id(tree), tree)


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
    # A stride of zero shows one value again and again.
    if tensor.numel() * tensor.element_size() > _MOST_BYTES + _MOST_COPIES * tensor.untyped_storage().nbytes():
        raise ValueError(f"a tensor of {tensor.numel():,} values in {tensor.untyped_storage().nbytes():,} bytes")
    result: np.ndarray = (tensor.float() if tensor.is_floating_point() else tensor).numpy().copy()
    return result


def _nothing(*args: Any) -> Any:
    raise ValueError("a pickle calls a type that is only there to be named")


_CONTAINERS = (list, tuple, dict, set, frozenset, np.ndarray, Frame, _Manager, _Index, _Strings)
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
    _ALLOWED |= {(_module, "set"): _Stand(_set), (_module, "frozenset"): _Stand(lambda *args: frozenset(_set(*args)))}
    _ALLOWED[_module, "slice"] = _Stand(slice)
    _ALLOWED |= {(_module, each): _INERT for each in ("dict", "float", "int", "list", "str", "unicode", "long")}
    _ALLOWED[_module, "bytes"] = _Stand(lambda data=b"": _bytes(data))
    _ALLOWED[_module, "bytearray"] = _Stand(lambda data=b"", encoding="latin1": bytearray(_bytes(data, encoding)))

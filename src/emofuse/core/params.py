"""The parameters: sections are read by key, into the frozen dataclass that needs them.

What all corpora share stands in ``params.yaml`` in the project's root folder: encoders, models, conditions, scoring,
tracking. What is one corpus's stands in a file of its own, ``corpora/<corpus>/params.yaml``: the corpus, its tasks, and
what is run. The embedded corpus has these sections in the root's file. Each dataclass lives beside the code that it
configures, so that reading a corpus's section imports no network.
"""

import copy
import json
import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import yaml
from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

__all__ = ["CORPUS_SECTIONS", "ROOT_FILE", "STRICT", "Name", "Params", "ParamsError", "corpus_files", "validate"]

T = TypeVar("T")

STRICT = ConfigDict(extra="forbid", strict=True)
"""How every section is validated: unknown keys are errors, ``1e-3`` written as a string is not a number."""


ROOT_FILE = Path("params.yaml")
"""The file of what all corpora share, and of the embedded corpus, from the project's root folder."""

_MOST_VALUES = 100_000
"""In one file, aliases counted each time: the shipped files have some hundred."""

_MOST_BYTES = 1_000_000
"""Of one file: the shipped ones have some thousand, and YAML takes a second for each 100,000."""

_MERGE = "tag:yaml.org,2002:merge"

_MOST_MERGED = 1_000
"""Keys of a mapping with what is merged (``<<``) into it, and mappings that are; the shipped files have none."""

_SHOWN, _MOST_SHOWN = 60, 1_000
"""Characters of a value in its message: of one that YAML cannot read, and of one that is not allowed."""

_QUOTES = "names are text: put numbers, true, false, yes, no among them in quotes"

_MOST_BITS = 64
"""Of a whole number; Python does not write down those of more than 4,300 digits."""

CORPUS_SECTIONS = ("root", "file", "corpus", "tasks", "run")
"""Sections of a corpus's file; ``root`` and ``file`` are there for ``dvc.yaml``."""


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError("a name consists of letters, digits, - and _, and begins with a letter or a digit; rename it")
    return name


Name = Annotated[str, AfterValidator(_check_name)]
"""A name that is a part of paths and of stages' names: letters, digits, hyphens and underscores."""


class ParamsError(ValueError):
    """A value of the parameters is missing or not allowed; the message names the key, the value and the rule."""


class Params:
    """The parameters of one corpus: those that all corpora share, and the corpus's own.

    Attributes:
        path: the corpus's file, for messages
        shared: the file of what all corpora share
    """

    def __init__(self, tree: dict[str, Any], path: Path, shared: Path | None = None) -> None:
        self._tree = tree
        self.shared = path if shared is None else shared
        self.path = path

    @classmethod
    def load(cls, file: Path | str = ROOT_FILE, root: Path = Path()) -> "Params":
        """Read the parameters of a corpus.

        Args:
            file: the corpus's own file, from the project's root folder; the root's is that of the embedded corpus
            root: the project's root folder

        Raises:
            ParamsError: a file is not there, is no YAML mapping, or has a section that belongs into the other file
        """
        shared = root / ROOT_FILE
        tree = _read(shared, "run this from the project's root folder")
        if Path(file) == ROOT_FILE:
            return cls(tree, shared)
        path = root / file
        own = _read(path, "it is a corpus's own file")
        misplaced = sorted(str(section) for section in set(own) - set(CORPUS_SECTIONS))
        if misplaced:
            known = ", ".join(CORPUS_SECTIONS)
            raise ParamsError(
                f"{path}: unknown sections {misplaced}; a corpus's file has {known}, the rest is {shared}'s"
            )
        if own.get("file") != Path(file).as_posix():
            raise ParamsError(f"{path}: file: {own.get('file')!r}; expected {Path(file).as_posix()!r}, its own place")
        return cls({key: each for key, each in tree.items() if key not in CORPUS_SECTIONS} | own, path, shared)

    def get(self, key: str, kind: type[T]) -> T:
        """Return the value under a dotted key, validated as ``kind``.

        Args:
            key: such as ``models.hcam``; the parts are joined by dots
            kind: a dataclass, or any type that pydantic validates

        Raises:
            ParamsError: the key is missing, or a value under it is not allowed
        """
        return validate(self._value(key), kind, f"{self._file(key)}: {key}")

    def names(self, section: str) -> list[str]:
        """Return the keys of a section that is a mapping, such as the names of all encoders."""
        return list(self.get(section, dict[str, Any]))

    def changed(self, key: str, changes: Mapping[str, Any], where: str) -> "Params":
        """Return the same parameters with some values under a dotted key replaced.

        Args:
            key: such as ``models.hcam``
            changes: new values by dotted key below that one, such as ``network.contrastive``
            where: key that says so, for messages

        Raises:
            ParamsError: there is no value to replace
        """
        other = Params(copy.deepcopy(self._tree), self.path, self.shared)
        for place, value in changes.items():
            *above, last = f"{key}.{place}".split(".")
            parent = other._value(".".join(above))
            if not isinstance(parent, dict) or last not in parent:
                raise ParamsError(f"{self._file(key)}: {where}: {place!r}; there is no {key}.{place} to change")
            parent[last] = value
        return other

    def _value(self, key: str) -> Any:
        value: Any = self._tree
        for depth, part in enumerate(key.split(".")):
            if not isinstance(value, dict) or part not in value:
                above = ".".join(key.split(".")[:depth]) or "the top level"
                known = sorted(map(str, value)) if isinstance(value, dict) else []
                raise ParamsError(f"{self._file(key)}: {key}: missing; {above} has {known}")
            value = value[part]
        return value

    def _file(self, key: str) -> Path:
        """The file that a key stands in."""
        return self.path if key.split(".")[0] in CORPUS_SECTIONS else self.shared


def corpus_files(root: Path = Path()) -> list[Path]:
    """Return the parameter files of all corpora of a project, from its root folder; the embedded corpus's first."""
    found = sorted(path.relative_to(root) for path in root.glob("corpora/*/params.yaml"))
    return [ROOT_FILE, *found]


def _read(path: Path, hint: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ParamsError(f"{path}: {path.stat().st_size:,} bytes; a parameter file may have {_MOST_BYTES:,}")
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506  # a safe loader's subclass
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: not found; {hint}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not valid YAML: {error}") from error
    except RecursionError as error:
        raise ParamsError(f"{path}: nested more than Python can follow") from error
    if not isinstance(tree, dict):
        raise ParamsError(f"{path}: expected a mapping of sections at the top")
    _refuse_fan(tree, path)
    return tree


def _refuse_fan(tree: Any, path: Path) -> None:
    """Refuse aliases that stand for more values than any parameter file has, or for themselves."""
    waiting, seen = [tree], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > _MOST_VALUES:
            raise ParamsError(f"{path}: more than {_MOST_VALUES:,} values; aliases count each time they are used")
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


class _Loader(yaml.SafeLoader):
    """YAML in which a key stands once in its mapping, as DVC reads it."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Return a value, or refuse a scalar that is not what it looks like, such as the date 2026-02-30."""
        try:
            return super().construct_object(node, deep)  # type: ignore[no-untyped-call]
        except (ValueError, KeyError, OverflowError, AttributeError) as error:
            kind, value = node.tag.rpartition(":")[2], str(node.value)[:_SHOWN]
            fault = f"{value!r} is not a valid {kind}; put it in quotes if it is text"
            raise yaml.constructor.ConstructorError(None, None, fault, node.start_mark) from error

    def flatten_mapping(self, node: Any) -> None:
        """Put what is merged (``<<``) into a mapping, or refuse merges that multiply with each level."""
        merges = [len(each.value) for key, each in node.value if key.tag == _MERGE and isinstance(each.value, list)]
        if max(merges, default=0) <= _MOST_MERGED:
            super().flatten_mapping(node)  # type: ignore[no-untyped-call]
        if max(len(node.value), *merges, 0) > _MOST_MERGED:
            fault = f"merges (<<) of more than {_MOST_MERGED:,} keys"
            raise yaml.constructor.ConstructorError(None, None, fault, node.start_mark)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping, or refuse it where a key stands twice."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                fault = "a list or a mapping cannot be a key"
                raise yaml.constructor.ConstructorError(None, None, fault, key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} appears twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def validate(value: Any, kind: type[T], where: str) -> T:
    """Validate a plain value as ``kind``; mappings become dataclasses, lists become tuples.

    Raises:
        ParamsError: one line for each fault: ``where.key: value: what is allowed``
    """
    _check_plain(value, where)
    try:
        # By way of JSON, whose strict rules let a list stand for a tuple and a mapping for a dataclass, no more.
        return TypeAdapter(kind).validate_json(json.dumps(value, allow_nan=False))
    except ValidationError as error:
        faults = error.errors()
        unquoted = _unquoted(faults, value)
        lines = [
            f"{'.'.join([where, *map(str, place)])}: {_short(given)}: {_QUOTES}" for place, given in unquoted.items()
        ]
        for fault in faults:
            if _is_about(fault, unquoted, value):
                continue
            named = ".".join([where, *(str(part) for part in fault["loc"])])
            given = "missing" if fault["type"] == "missing" else _short(fault["input"])
            unknown = fault["type"] == "unexpected_keyword_argument"
            rule = f"unknown key; allowed are {_known_keys(kind, fault['loc'][:-1])}" if unknown else fault["msg"]
            lines.append(f"{named}: {given}: {rule}")
        raise ParamsError("\n".join(lines)) from error


def _short(value: Any) -> str:
    """What is written for a value, the middle of a long one left out."""
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN // 2]} … {text[-_MOST_SHOWN // 2 :]}"


def _unquoted(faults: Sequence[Any], value: Any) -> dict[tuple[Any, ...], Any]:
    """Return where numbers or booleans stand that should be text, with what stands there: a list as a whole."""
    found: dict[tuple[Any, ...], Any] = {}
    for fault in faults:
        if fault["type"] == "string_type" and isinstance(fault["input"], int | float):
            place = _place(fault["loc"], value)
            place = place[:-1] if place and isinstance(place[-1], int) else place
            found[place] = reduce(getitem, place, value)
    return found


def _is_about(fault: Any, places: Iterable[tuple[Any, ...]], value: Any) -> bool:
    """Whether a fault says what else might have stood in one of these places, or around it."""
    found = _place(fault["loc"], value)
    is_alternative = len(found) + (fault["type"] == "missing") < len(fault["loc"])
    return any(found[: len(place)] == place or (is_alternative and place[: len(found)] == found) for place in places)


def _place(loc: Sequence[Any], value: Any) -> tuple[Any, ...]:
    """Return the keys and indices of a fault's place, without pydantic's names of the kinds that it tried."""
    place: list[Any] = []
    for part in loc:
        if (isinstance(value, dict) and part in value) or (isinstance(value, list) and part in range(len(value))):
            place.append(part)
            value = value[part]
    return tuple(place)


def _check_plain(value: Any, where: str) -> None:
    """Refuse what YAML reads and JSON cannot say: dates, infinities, names that are no text."""
    if isinstance(value, dict):
        for name, each in value.items():
            if not isinstance(name, str):
                raise ParamsError(f"{where}: {_short(name)}: a key must be text; put it in quotes")
            _check_plain(each, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            _check_plain(each, f"{where}.{index}")
    elif isinstance(value, int) and value.bit_length() >= _MOST_BITS:
        raise ParamsError(f"{where}: a number of {value.bit_length()} bits; expected one of less than {_MOST_BITS}")
    elif not isinstance(value, str | int | float | None) or (isinstance(value, float) and not math.isfinite(value)):
        raise ParamsError(
            f"{where}: {_short(value)}: expected a finite number, text, true, false, null, a list, a mapping"
        )


def _known_keys(kind: Any, place: Sequence[str | int]) -> list[str]:
    for part in place:
        kind = get_type_hints(kind).get(str(part)) if is_dataclass(kind) else None
    return sorted(each.name for each in fields(kind)) if is_dataclass(kind) else []

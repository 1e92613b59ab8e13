"""``params.yaml``, the only configuration file: sections are read by key, into the frozen dataclass that needs them.

Each dataclass lives beside the code that it configures, so that reading a corpus's section imports no network.
"""

import copy
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

__all__ = ["STRICT", "Params", "ParamsError"]

T = TypeVar("T")

STRICT = ConfigDict(extra="forbid", strict=True)
"""How every section is validated: unknown keys are errors, ``1e-3`` written as a string is not a number."""


class ParamsError(ValueError):
    """A value of ``params.yaml`` is missing or not allowed; the message names the key, the value and the rule."""


class Params:
    """The parameter file, read once.

    Attributes:
        path: the file, for messages
    """

    def __init__(self, tree: dict[str, Any], path: Path) -> None:
        self._tree = tree
        self.path = path

    @classmethod
    def load(cls, path: Path = Path("params.yaml")) -> "Params":
        """Read a parameter file.

        Raises:
            ParamsError: there is no such file, or it is not a YAML mapping
        """
        try:
            tree = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ParamsError(f"{path}: not found; run this from the project's root folder") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ParamsError(f"{path}: not valid YAML: {error}") from error
        if not isinstance(tree, dict):
            raise ParamsError(f"{path}: expected a mapping of sections at the top")
        return cls(tree, path)

    def get(self, key: str, kind: type[T]) -> T:
        """Return the value under a dotted key, validated as ``kind``.

        Args:
            key: such as ``models.hcam``; the parts are joined by dots
            kind: a dataclass, or any type that pydantic validates

        Raises:
            ParamsError: the key is missing, or a value under it is not allowed
        """
        return validate(self._value(key), kind, f"{self.path}: {key}")

    def changed(self, key: str, changes: Mapping[str, Any], where: str) -> "Params":
        """Return the same parameters with some values under a dotted key replaced.

        Args:
            key: such as ``models.hcam``
            changes: new values by dotted key below that one, such as ``network.contrastive``
            where: key that says so, for messages

        Raises:
            ParamsError: there is no value to replace
        """
        other = Params(copy.deepcopy(self._tree), self.path)
        for place, value in changes.items():
            *above, last = f"{key}.{place}".split(".")
            parent = other._value(".".join(above))
            if not isinstance(parent, dict) or last not in parent:
                raise ParamsError(f"{self.path}: {where}: {place!r}; there is no {key}.{place} to change")
            parent[last] = value
        return other

    def _value(self, key: str) -> Any:
        value: Any = self._tree
        for depth, part in enumerate(key.split(".")):
            if not isinstance(value, dict) or part not in value:
                above = ".".join(key.split(".")[:depth]) or "the top level"
                known = sorted(value) if isinstance(value, dict) else []
                raise ParamsError(f"{self.path}: {key}: missing; {above} has {known}")
            value = value[part]
        return value


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
        lines = []
        for fault in error.errors():
            place = ".".join([where, *(str(part) for part in fault["loc"])])
            given = "missing" if fault["type"] == "missing" else repr(fault["input"])
            unknown = fault["type"] == "unexpected_keyword_argument"
            rule = f"unknown key; allowed are {_known_keys(kind, fault['loc'][:-1])}" if unknown else fault["msg"]
            lines.append(f"{place}: {given}: {rule}")
        raise ParamsError("\n".join(lines)) from error


def _check_plain(value: Any, where: str) -> None:
    """Refuse what YAML reads and JSON cannot say: dates, infinities, names that are no text."""
    if isinstance(value, dict):
        for name, each in value.items():
            if not isinstance(name, str):
                raise ParamsError(f"{where}: {name!r}: a key must be text; put it in quotes")
            _check_plain(each, f"{where}.{name}")
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            _check_plain(each, f"{where}.{index}")
    elif not isinstance(value, str | int | float | None) or (isinstance(value, float) and not math.isfinite(value)):
        raise ParamsError(f"{where}: {value!r}: expected a finite number, text, true, false, null, a list or a mapping")


def _known_keys(kind: Any, place: Sequence[str | int]) -> list[str]:
    for part in place:
        kind = get_type_hints(kind).get(str(part)) if is_dataclass(kind) else None
    return sorted(each.name for each in fields(kind)) if is_dataclass(kind) else []

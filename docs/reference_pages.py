"""The reference pages, made from the code: parameters, commands, files, and the list of modules."""

import argparse
import ast
import inspect
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from pydantic_core import PydanticUndefined

import emofuse
from emofuse.cli import build_parser
from emofuse.core import schema
from emofuse.core.layout import Layout, Pair
from emofuse.corpora import READERS
from emofuse.corpora.ingest import CorpusConfig
from emofuse.corpora.tables import TableConfig
from emofuse.encoders import FAMILIES
from emofuse.features.extract import ExtractConfig
from emofuse.models.registry import MODELS, UNIMODAL
from emofuse.plan import Conditions, External, Models, Selection
from emofuse.robustness.conditions import Found, Noise, WordErrors
from emofuse.scoring.estimates import ScoringConfig
from emofuse.tasks import Interval, SplitRule, TaskConfig
from emofuse.tracking.address import TrackingConfig
from emofuse.training.fit import FitConfig

PACKAGE = Path(emofuse.__file__).parent


class Section(NamedTuple):
    """Keys of the parameters that are read into one dataclass."""

    keys: str
    config: type[Any]


def write(folder: Path) -> None:
    """Write the pages into a folder; a page that would not change is left alone."""
    pages = {"parameters": parameters, "commands": commands, "files": files, "modules": modules}
    for name, page in pages.items():
        path, text = folder / f"{name}.md", f"{page()}\n"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def parameters() -> str:
    """The page of `params.yaml` and `corpora/<corpus>/params.yaml`, key by key."""
    parts = [
        "# Parameters",
        "Every key of `params.yaml` and of `corpora/<corpus>/params.yaml`, with its type, its default and its meaning."
        " A key without a default is required. An unknown key is an error.",
    ]
    for title, sections in _sections().items():
        parts.append(f"## {title}")
        for section in sections:
            parts += [f"### `{section.keys}`", _first_paragraph(section.config), _table_of_keys(section.config)]
    return "\n\n".join(parts)


def _sections() -> dict[str, list[Section]]:
    return {
        "A corpus's own file": [
            *(Section("corpus", CorpusConfig), Section("corpus.tables.<table>", TableConfig)),
            *_with_keys("corpus.options, of the reader {}", "corpora", READERS),
            *(Section("tasks.<task>", TaskConfig), Section("tasks.<task>.splits", SplitRule)),
            *(Section("tasks.<task>.classes.<class>, by sentiment", Interval),),
            *(Section("run", Selection), Section("run.models", Models), Section("run.conditions", Conditions)),
            Section("run.external, a list", External),
        ],
        "Encoders": list(_with_keys("encoders.<name>.options, of the family {}", "encoders", FAMILIES)),
        "Conditions": [Section(f"conditions.<name>, {each.__name__}", each) for each in (Noise, WordErrors, Found)],
        "Models": [*_networks(), Section("models.<model>.fit", FitConfig)],
        "Scoring, tracking, extraction": [
            *(
                Section("scoring", ScoringConfig),
                Section("tracking", TrackingConfig),
                Section("extract", ExtractConfig),
            ),
        ],
    }


def _with_keys(title: str, package: str, names: Iterable[str]) -> Iterator[Section]:
    for name in names:
        config = import_module(f"emofuse.{package}.{name}").Config
        if fields(config):
            yield Section(title.format(name), config)


def _networks() -> Iterator[Section]:
    """The options of the networks, each dataclass once."""
    keys: dict[type[Any], list[str]] = {}
    for name, model in MODELS.items():
        if model.network:
            section = f"{model.modalities[0]}.{model.folder}" if model in UNIMODAL else name
            keys.setdefault(model.config_class(), []).append(f"models.{section}.network")
    for config, named in keys.items():
        yield Section("` and `".join(each for each in named if "-linear" not in each), config)


def _table_of_keys(config: type[Any]) -> str:
    meanings, types = _meanings(config), get_type_hints(config, include_extras=True)
    rows = [(_code(each.name), _type(types[each.name]), _default(each), meanings[each.name]) for each in fields(config)]
    return _table(("key", "type", "default", "meaning"), rows)


def _meanings(config: type[Any]) -> dict[str, str]:
    """What each field means: from the docstrings' attributes, or from the string behind the field."""
    found: dict[str, str] = {}
    for base in reversed(config.__mro__[:-1]):
        found |= _behind_fields(base) | dict(_attributes(base.__doc__ or ""))
    return found


def _attributes(docstring: str) -> Iterator[tuple[str, str]]:
    _, _, listed = inspect.cleandoc(docstring).partition("Attributes:\n")
    block = re.split(r"\n(?=\S)", listed)[0]
    for entry in re.split(r"\n(?=    \S)", f"\n{block}"):
        name, colon, meaning = entry.strip().partition(":")
        if colon:
            yield name, _prose(" ".join(meaning.split()))


def _behind_fields(config: type[Any]) -> dict[str, str]:
    (tree,) = ast.parse(inspect.cleandoc(inspect.getsource(config))).body
    return dict(_documented(tree.body))  # type: ignore[attr-defined]


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Names that are assigned, each with the string that follows it."""
    for statement, after in pairwise(body):
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, _prose(" ".join(after.value.value.split()))


def _type(kind: Any) -> str:
    """A type in words, such as `int ≥ 1` or `list of str`."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Annotated:
        limits = [each for extra in inside[1:] for each in getattr(extra, "metadata", ())]
        return " ".join([_type(inside[0]), *filter(None, map(_limit, limits))])
    if origin is Literal:
        return " or ".join(f"`{each}`" for each in inside)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(_type, inside)))
    if origin is tuple:
        return f"list of {_type(inside[0])}"
    if origin is dict:
        return f"mapping of {_type(inside[0])} to {_type(inside[1])}"
    if is_dataclass(kind):
        return "section"
    return {NoneType: "null", Any: "any value"}.get(kind) or str(kind.__name__)


def _limit(limit: Any) -> str:
    """A bound as pydantic keeps it, such as `Ge(ge=1)`, in words."""
    signs = {"ge": "≥", "gt": "&gt;", "le": "≤", "lt": "&lt;", "multiple_of": "multiple of"}
    return ", ".join(f"{sign} {getattr(limit, name)}" for name, sign in signs.items() if hasattr(limit, name))


def _default(each: Field[Any]) -> str:
    default = each.default if each.default_factory is MISSING else each.default_factory()
    default = getattr(default, "default", default)  # of what pydantic's `Field` returns
    if default in (MISSING, PydanticUndefined):
        return ""
    if is_dataclass(default):
        return "that of its keys"
    return _code(json.dumps(default).strip('"'))


def commands() -> str:
    """The page of the command `emofuse`, from its parser."""
    top = build_parser()
    parts = [
        "# Commands",
        "What `emofuse --help` and `emofuse COMMAND --help` say.",
        f"```text\n{top.format_help().strip()}\n```",
    ]
    return "\n\n".join([*parts, *_commands(top)])


def _commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    for choice in _choices(parser).values():
        example = (choice.epilog or "").replace("example: ", "")
        yield f"## `{choice.prog}`"
        yield choice.description or ""
        yield f"```text\n{' '.join(choice.format_usage().split())}\n```"
        rows = [
            (_code(", ".join(each.option_strings) or str(each.metavar or each.dest)), each.help or "")
            for each in _shown(choice)
        ]
        if rows:
            yield _table(("argument", "meaning"), rows)
        yield f"```console\n$ {example}\n```"
        yield from _commands(choice)


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [each.choices for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    return dict(found[0]) if found else {}


def _shown(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    hidden = argparse._HelpAction | argparse._SubParsersAction
    return [each for each in parser._actions if not isinstance(each, hidden) and each.dest != "debug"]


def files() -> str:
    """The page of the files that stages write: where they lie, and the columns of each table."""
    parts = [
        "# Files on disk",
        "All paths are relative to the project's root folder. Columns are those of the Arrow schemas.",
        "## Folders",
    ]
    parts.append(_table(("folder", "what is in it"), list(_folders())))
    notes = dict(_documented(ast.parse(inspect.getsource(schema)).body))
    tables = {
        "UTTERANCES": "utterances.parquet",
        "AUDIO": "audio shards",
        "FEATURES": "feature shards",
        "PREDICTIONS": "predictions.parquet",
    }
    for name, title in tables.items():
        rows = [
            (f"`{each.name}`", _code(str(each.type)), "yes" if each.nullable else "") for each in getattr(schema, name)
        ]
        parts += [
            f"## {title.capitalize() if ' ' in title else f'`{title}`'}",
            notes.get(name, ""),
            _table(("column", "type", "may be null"), rows),
        ]
    return "\n\n".join(filter(None, parts))


def _folders() -> Iterator[tuple[str, str]]:
    layout, pair = Layout(Path("<root>")), Pair("<audio>", "<text>")
    places = {
        "corpus": "<corpus>",
        "encoder": "<encoder>",
        "task": "<task>",
        "pair": pair,
        "condition": "<condition>",
        "name": "<name>",
    }
    for name, member in vars(Layout).items():
        if name.startswith("_") or not member.__doc__:
            continue
        if isinstance(member, property):
            path = getattr(layout, name)
        elif inspect.isfunction(member):
            wanted = list(inspect.signature(member).parameters)[1:]
            path = member(layout, *(places[each] for each in wanted))
        else:
            continue
        yield _code(f"{path.relative_to('<root>').as_posix()}/"), _prose(" ".join(member.__doc__.split()))


def modules() -> str:
    """The page of all modules, a line each."""
    parts = ["# Modules", "Where is what: the first sentence of each module."]
    for package in ("", *sorted(each.name for each in PACKAGE.iterdir() if (each / "__init__.py").exists())):
        found = sorted((PACKAGE / package).glob("*.py") if not package else (PACKAGE / package).rglob("*.py"))
        rows = [(_code(each.relative_to(PACKAGE).as_posix()), _sentence(each)) for each in found]
        parts += [
            f"## `emofuse{'.' * bool(package)}{package}`",
            _table(("module", "what it is"), [row for row in rows if row[1]]),
        ]
    return "\n\n".join(parts)


def _sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return _prose(" ".join(docstring.split("\n\n")[0].split()))


def _first_paragraph(config: type[Any]) -> str:
    return _prose(" ".join(inspect.cleandoc(config.__doc__ or "").split("\n\n")[0].split()))


def _prose(text: str) -> str:
    """Markdown of what a docstring says in reStructuredText."""
    text = re.sub(r":\w+:`[~.]?(?:emofuse\.)?([^`]+)`", r"`\1`", text).replace("``", "`")
    outside = re.split("(`[^`]*`)", text)
    return "".join(each if each.startswith("`") else each.replace("<", "&lt;") for each in outside).replace("|", "\\|")


def _code(value: object) -> str:
    text = str(value).replace("|", "\\|")
    return f"`{text}`" if text else ""


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    for page in (parameters, commands, files, modules):
        print(page())

"""Corpus readers: one file a corpus, each with a ``Config`` and ``read(source, config) -> Corpus``."""

from importlib import import_module
from pathlib import Path
from typing import Any

from emofuse.core.params import validate
from emofuse.corpora.base import Corpus, CorpusError, Utterance
from emofuse.corpora.folder import refuse_linked_folders, refuse_strange_names

__all__ = ["READERS", "Corpus", "CorpusError", "Utterance", "read"]

READERS = ("demo", "iemocap", "meld", "mosi", "own")


def read(reader: str, source: Path, options: dict[str, Any], where: str) -> Corpus:
    """Read a corpus with the reader of that name.

    Args:
        reader: one of :data:`READERS`, the name of its module
        source: the file or folder that the corpus is read from
        options: the reader's own options, as they stand in the parameters
        where: the parameters' key, for messages

    Raises:
        ParamsError: an option is not allowed
        CorpusError: the corpus does not hold what its reader expects, a folder in it is a link, or a name
            in it is no UTF-8
    """
    if source.is_dir():
        refuse_linked_folders(source)
        refuse_strange_names(source)
    module = import_module(f"emofuse.corpora.{reader}")
    corpus: Corpus = module.read(source, validate(options, module.Config, where))
    return corpus

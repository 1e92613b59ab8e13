"""Stage ``ingest``: one raw corpus to ``data/corpora/<corpus>/`` and ``metrics/corpora/<corpus>.json``.

Usage: python stages/ingest.py CORPUS
"""

import sys
from pathlib import Path

from emofuse.params import Params
from emofuse.process import stage


def main(corpus: str) -> None:
    """Ingest the corpus of that key."""
    with stage(f"ingest@{corpus}"):
        from emofuse.ingest import CorpusConfig, ingest

        config = Params.load().get(f"corpora.{corpus}", CorpusConfig)
        ingest(corpus, config, Path("data/corpora") / corpus, Path("metrics/corpora") / f"{corpus}.json")


if __name__ == "__main__":
    main(*sys.argv[1:])

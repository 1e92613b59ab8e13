"""Stage ``ingest``: a raw corpus to ``data/corpora/<corpus>/``; counts and a page of plots to ``metrics/corpora/``.

Usage: python stages/ingest.py CORPUS
"""

import sys
from pathlib import Path

from emofuse.core.params import Params
from emofuse.core.process import stage


def main(corpus: str) -> None:
    """Ingest the corpus of that key."""
    with stage(f"ingest@{corpus}"):
        from emofuse.corpora.ingest import CorpusConfig, ingest
        from emofuse.reporting.corpus_page import write_overview

        config = Params.load().get(f"corpora.{corpus}", CorpusConfig)
        out, summary = Path("data/corpora") / corpus, Path("metrics/corpora") / f"{corpus}.json"
        ingest(corpus, config, out, summary)
        write_overview(corpus, out, summary, summary.with_suffix(".html"))


if __name__ == "__main__":
    main(*sys.argv[1:])

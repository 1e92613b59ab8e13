"""Stage ``ingest``: a raw corpus to ``data/corpora/<corpus>/``; counts and a page of plots to ``metrics/corpora/``.

Usage: python stages/ingest.py FILE
"""

import sys
from pathlib import Path

from emofuse.core.process import stage


def main(file: str) -> None:
    """Ingest the corpus of that parameter file; what is run of it is checked before anything is decoded."""
    with stage(f"ingest {file}"):
        from emofuse.core.layout import Layout
        from emofuse.core.params import Params
        from emofuse.corpora.ingest import CorpusConfig, ingest
        from emofuse.health.check import report
        from emofuse.plan import Plan
        from emofuse.reporting.corpus_page import write_overview

        params = Params.load(file)
        plan = Plan.load(params)
        config = params.get("corpus", CorpusConfig)
        out, summary = Layout().corpus(plan.corpus), Path("metrics/corpora") / f"{plan.corpus}.json"
        ingest(config, out, summary, lambda *read: print(report(plan, params, *read)))
        write_overview(plan.corpus, out, summary, summary.with_suffix(".html"))


if __name__ == "__main__":
    main(*sys.argv[1:])

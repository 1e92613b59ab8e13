"""Stage ``extract``: one modality of one corpus through its frozen encoder to ``data/features/<corpus>/<modality>/``.

Usage: python stages/extract.py FEATURES
"""

import sys
from pathlib import Path

from emofuse.params import Params
from emofuse.process import stage


def main(name: str) -> None:
    """Extract the features of that key."""
    with stage(f"extract@{name}"):
        from emofuse.features.extract import FeatureConfig, extract
        from emofuse.ingest import CorpusConfig
        from emofuse.store import Store

        params = Params.load()
        config = params.get(f"features.{name}", FeatureConfig)
        shards = params.get(f"corpora.{config.corpus}", CorpusConfig).shards
        out = Path("data/features") / config.corpus / config.modality
        counts = extract(name, config, shards, Path("data/corpora") / config.corpus, out, Store())
        print(", ".join(f"{count} {what}" for what, count in counts.items()))


if __name__ == "__main__":
    main(*sys.argv[1:])

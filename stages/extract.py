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
        from emofuse.features.extract import ExtractConfig, FeatureConfig, extract
        from emofuse.ingest import CorpusConfig
        from emofuse.store import Store

        params = Params.load()
        config = params.get(f"features.{name}", FeatureConfig)
        how = params.get("extract", ExtractConfig)
        shards = params.get(f"corpora.{config.corpus}", CorpusConfig).shards
        out = Path("data/features") / config.corpus / config.modality
        print(extract(name, config, how, shards, Path("data/corpora") / config.corpus, out, Store()))


if __name__ == "__main__":
    main(*sys.argv[1:])

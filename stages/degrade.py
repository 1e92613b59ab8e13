"""Stage ``degrade``: one modality of test under a worse condition to ``data/features/<corpus>/<condition>/``.

Usage: python stages/degrade.py DEGRADED
"""

import sys
from pathlib import Path

from emofuse.core.params import Params
from emofuse.core.process import stage


def main(name: str) -> None:
    """Make the features of that key."""
    with stage(f"degrade@{name}"):
        from emofuse.core.store import Store
        from emofuse.corpora.ingest import CorpusConfig
        from emofuse.features.extract import ExtractConfig, FeatureConfig
        from emofuse.robustness.conditions import DegradedConfig
        from emofuse.robustness.features import extract_degraded

        params = Params.load()
        config = params.get(f"degraded.{name}", DegradedConfig)
        features = params.get(f"features.{config.features}", FeatureConfig)
        how = params.get("extract", ExtractConfig)
        shards = params.get(f"corpora.{config.corpus}", CorpusConfig).shards
        print(extract_degraded(name, config, features, how, shards, Path("data"), Store()))


if __name__ == "__main__":
    main(*sys.argv[1:])

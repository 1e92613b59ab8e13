"""Stage ``extract``: one modality of one corpus through its frozen encoder to ``data/features/<corpus>/<modality>/``.

Usage: python stages/extract.py FEATURES
"""

import sys
from pathlib import Path

from emofuse.core.params import Params
from emofuse.core.process import stage


def main(name: str) -> None:
    """Extract the features of that key."""
    with stage(f"extract@{name}"):
        from emofuse.core.store import Store
        from emofuse.corpora import CorpusError
        from emofuse.corpora.ingest import CorpusConfig
        from emofuse.features.extract import ExtractConfig, FeatureConfig, extract

        params = Params.load()
        config = params.get(f"features.{name}", FeatureConfig)
        how = params.get("extract", ExtractConfig)
        shards = params.get(f"corpora.{config.corpus}", CorpusConfig).shards
        out = Path("data/features") / config.corpus / config.modality
        done = extract(name, config, how, shards, Path("data/corpora") / config.corpus, out, Store())
        if done.masked == done.encoded + done.reused:
            hint = "`emofuse corpora` says what is expected where, README.md how to take values that others published"
            raise CorpusError(
                f"features.{name}: {config.corpus} has no {config.modality} that could be encoded; {hint}"
            )
        print(done)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Stage ``extract``: one corpus through a frozen encoder to ``data/features/<corpus>/<encoder>/``.

Usage: python stages/extract.py FILE ENCODER
"""

import sys

from emofuse.core.process import stage


def main(file: str, encoder: str) -> None:
    """Extract the features of that encoder."""
    with stage(f"extract {file} {encoder}"):
        from emofuse.core.layout import Layout
        from emofuse.core.params import Params
        from emofuse.core.store import Store
        from emofuse.corpora import CorpusError
        from emofuse.encoders.catalogue import EncoderConfig
        from emofuse.features.extract import ExtractConfig, extract
        from emofuse.plan import Plan

        params, layout = Params.load(file), Layout()
        plan = Plan.load(params)
        done = extract(
            encoder,
            params.get(f"encoders.{encoder}", EncoderConfig),
            params.get("extract", ExtractConfig),
            params.get("corpus.shards", int),
            layout.corpus(plan.corpus),
            layout.features(plan.corpus, encoder),
            Store(),
            plan.modality(encoder),
        )
        # Recordings of one's own may come without words; a corpus whose owner has them lacks a file.
        wordless = plan.modality(encoder) == "text" and params.get("corpus.reader", str) == "own"
        if wordless and len(done.defects.get("nothing_to_encode", ())) == done.masked == done.encoded + done.reused:
            print(f"{plan.corpus} has no text: networks that read text alone predict the same for every utterance")
        elif done.masked == done.encoded + done.reused:
            hint = "`emofuse corpora` says what is expected where; docs/how-to/encoders.md how to take published values"
            raise CorpusError(f"{plan.corpus} has nothing that {encoder} could encode; {hint}")
        print(f"extract {plan.corpus} {encoder}: {done}")


if __name__ == "__main__":
    main(*sys.argv[1:])

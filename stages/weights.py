"""Stage ``weights``: the digest of an encoder's local folder to ``data/digests/<corpus>/<encoder>.json``.

Usage: python stages/weights.py FILE ENCODER
"""

import sys

from emofuse.core.process import stage


def main(file: str, encoder: str) -> None:
    """Digest the folder, if the encoder has one."""
    with stage(f"weights {file} {encoder}"):
        from emofuse.core.layout import Layout
        from emofuse.core.params import Params
        from emofuse.encoders.local import FOLDER, folder_digest, is_watched, local_folder, read_digest, write_digest

        params = Params.load(file)
        corpus = params.get("corpus.name", str)
        path, folder = Layout().digest(corpus, encoder), local_folder(params, encoder)
        write_digest(path, folder_digest(folder, read_digest(path)) if folder else None)
        if folder and not is_watched(folder, params.shared.parent):
            print(f"weights {corpus} {encoder}: DVC does not notice changes in {folder}, only in {FOLDER}")


if __name__ == "__main__":
    main(*sys.argv[1:])

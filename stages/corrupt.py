"""Stage ``corrupt``: test under a worse condition to ``data/corrupted/<corpus>/<condition>/<encoder>/``.

Usage: python stages/corrupt.py FILE CONDITION ENCODER
"""

import sys

from emofuse.core.process import stage


def main(file: str, condition: str, encoder: str) -> None:
    """Encode test under that condition."""
    with stage(f"corrupt {file} {condition} {encoder}"):
        from emofuse.core.layout import Layout
        from emofuse.core.params import Params
        from emofuse.core.store import Store
        from emofuse.plan import Plan
        from emofuse.robustness.features import extract_corrupted

        params = Params.load(file)
        print(extract_corrupted(Plan.load(params), params, condition, encoder, Layout(), Store()))


if __name__ == "__main__":
    main(*sys.argv[1:])

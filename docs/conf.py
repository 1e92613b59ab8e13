"""Configuration of the documentation site; `make docs` builds it, offline, and fails over a broken link or anchor."""

import os
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))
os.environ["COLUMNS"] = "100"  # of the help of commands

project = "emofuse"
author = "The emofuse developers"
html_title = "emofuse"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath", "deflist", "fieldlist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
nitpicky = True
# What the standard library, numpy and torch document; their pages are not asked, so that the build works offline.
nitpick_ignore_regex = [(r"py:class", r"((pathlib\.)?Path|collections\.abc\.\w+|numpy\.ndarray|torch\.Tensor)")]

html_theme = "furo"
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
pygments_style, pygments_dark_style = "friendly", "github-dark"
html_static_path = ["_static"]
html_css_files = ["site.css"]


def setup(app: Sphinx) -> None:
    """Register what is made at build time: the reference pages, and equations as MathML, which browsers show."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("builder-inited", _write_reference)


def _write_reference(app: Sphinx) -> None:
    import reference_pages

    reference_pages.write(DOCS / "reference")


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(convert(node.astext(), display="block"))
    raise nodes.SkipNode

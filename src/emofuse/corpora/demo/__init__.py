"""The built-in corpus: scripts from a grammar, spoken by a synthesizer."""

from emofuse.corpora.demo.reader import Config, read

__all__ = ["Config", "read"]

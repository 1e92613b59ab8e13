"""Whether an installation and a project work."""

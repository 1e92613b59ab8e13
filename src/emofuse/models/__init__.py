"""The models: one file each, with its config, its equations and its module."""

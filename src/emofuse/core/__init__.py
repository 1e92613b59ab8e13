"""Foundations: parameters, schema, files, the work store, processes, sharding."""

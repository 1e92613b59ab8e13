"""What every other package stands on: parameters, schema, files, the work store, processes, sharding."""

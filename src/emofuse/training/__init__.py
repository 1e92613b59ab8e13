"""Training: ragged batches, the fit loop, ensembling, and runs that are kept in the work store."""

"""What several models are built from: batches, layers, losses, recurrences, mixtures of probabilities."""

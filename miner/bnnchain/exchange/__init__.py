"""Models that leave the chain and models that come in: files that other tools write and run."""

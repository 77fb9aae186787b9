"""The model registry refuses what its policy does not allow."""

"""The audit as documents: one file per format, all from one Document."""

"""MLflow, reading: what a store says about runs, datasets, models and their lineage, as facts."""

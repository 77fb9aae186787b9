"""MLflow, writing: notice runs, measure them, put the record on them. Never hurts the training."""

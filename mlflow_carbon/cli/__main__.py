"""``python -m mlflow_carbon.cli``."""

from mlflow_carbon.cli.main import main

main()

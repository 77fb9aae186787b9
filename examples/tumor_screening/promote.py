"""Register the best model of the last search and make it the champion: plain MLflow, as any pipeline does it.

Nothing here knows of mlflow-carbon. Where a gate is switched on (MLFLOW_CARBON_GATE_POLICY, on the server
or, for a store opened directly, here), the last call is refused until the model meets the policy.
"""

import sys

import mlflow
from mlflow.exceptions import MlflowException

MODEL = "tumor-screening"
REFUSED = 3  # the exit code that tells a refusal from a crash


def newest_version(client):
    experiment = mlflow.set_experiment("tumor-screening")
    run = client.search_runs(
        [experiment.experiment_id],
        "attributes.run_name = 'tumor-screening' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )[0]
    known = client.search_model_versions(f"run_id = '{run.info.run_id}'")
    if known:
        return known[0]
    logged = client.search_logged_models(
        [experiment.experiment_id], f"source_run_id = '{run.info.run_id}'"
    )[0]
    return mlflow.register_model(logged.model_uri, MODEL)


def main():
    client = mlflow.MlflowClient()
    version = newest_version(client)
    try:
        client.set_registered_model_alias(MODEL, "champion", version.version)
    except MlflowException as error:
        print(error.message)
        return REFUSED
    print(f"version {version.version} of {MODEL} is champion")
    return 0


if __name__ == "__main__":
    sys.exit(main())

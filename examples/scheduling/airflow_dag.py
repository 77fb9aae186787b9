"""A weekly audit as an Airflow DAG (Airflow 3). Copy to the DAGs folder; mlflow-carbon must be on the workers' PATH.

MLFLOW_TRACKING_URI comes from the worker's environment. Exit code 1 (a rule failed) fails the task.
"""

from datetime import datetime, timezone

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG(
    dag_id="mlflow_carbon_audit",
    schedule="0 6 * * 1",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
):
    BashOperator(
        task_id="audit",
        bash_command="mlflow-carbon audit --policy baseline --record --compare last --fail-on high --format html,json,markdown --out carbon-audit",
        append_env=True,
    )

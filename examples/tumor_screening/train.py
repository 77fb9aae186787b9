"""Train a tumor classifier with MLflow: a parent run, tuning trials as children, the best model logged.

Nothing here knows of mlflow-carbon. Data: Breast Cancer Wisconsin (Diagnostic), W. Wolberg, O. Mangasarian,
N. Street and W. Street, UCI Machine Learning Repository, doi:10.24432/C5DW2B, CC BY 4.0; shipped inside
scikit-learn.
"""

import mlflow
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import recall_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SEED = 7
TRIALS = [
    {"hidden_layer_sizes": (64,), "alpha": 1e-4},
    {"hidden_layer_sizes": (128, 64), "alpha": 1e-3},
    {"hidden_layer_sizes": (128, 64), "alpha": -1.0},  # scikit-learn refuses a negative penalty
    {"hidden_layer_sizes": (256, 128), "alpha": 1e-2},
]


def fit(params, x_train, y_train):
    network = MLPClassifier(max_iter=600, n_iter_no_change=40, random_state=SEED, **params)
    return make_pipeline(StandardScaler(), network).fit(x_train, y_train)


def main():
    data = load_breast_cancer(as_frame=True)
    x_rest, x_test, y_rest, y_test = train_test_split(
        data.data, data.target, test_size=0.2, random_state=SEED, stratify=data.target
    )
    x_train, x_valid, y_train, y_valid = train_test_split(
        x_rest, y_rest, test_size=0.25, random_state=SEED, stratify=y_rest
    )
    # Trials keep their metrics only; the model that is kept is logged once, below.
    mlflow.set_experiment("tumor-screening")
    mlflow.sklearn.autolog(log_models=False, silent=True)
    with mlflow.start_run(run_name="tumor-screening"):
        scores = []
        for number, params in enumerate(TRIALS, 1):
            try:
                with mlflow.start_run(run_name=f"trial-{number}", nested=True):
                    model = fit(params, x_train, y_train)
                    score = recall_score(y_valid, model.predict(x_valid), pos_label=0)
                    mlflow.log_metric("validation_recall", score)
                    scores.append((score, params))
                    print(f"trial {number} of {len(TRIALS)}: recall {score:.3f}", flush=True)
            except ValueError as error:
                print(f"trial {number} of {len(TRIALS)} failed: {str(error)[:70]}...", flush=True)

        best = max(scores, key=lambda pair: pair[0])[1]
        model = fit(best, x_rest, y_rest)
        test_set = mlflow.data.from_pandas(
            x_test.assign(target=y_test), name="breast-cancer-test", targets="target"
        )
        mlflow.log_input(test_set, context="test")
        predicted = model.predict(x_test)
        mlflow.log_metric("test_accuracy", float((predicted == y_test).mean()))
        mlflow.log_metric("test_recall", recall_score(y_test, predicted, pos_label=0))
        # skops, MLflow's safe format, asks for each type it does not know: this one is scikit-learn's own.
        optimizer = "sklearn.neural_network._stochastic_optimizers.AdamOptimizer"
        mlflow.sklearn.log_model(model, name="model", skops_trusted_types=[optimizer])
        print(f"kept {best}", flush=True)


if __name__ == "__main__":
    main()

"""Deep learning frameworks drive MLflow in their own ways; each run is measured, and once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from mlflow_carbon.schema import Metric, Param, Tag
from tests.tracking.conftest import Finished, our_tags, ours
from tests.tracking.test_processes import BURN, runs, spooled

Program = Callable[..., Finished]

LIGHTNING = """
import lightning, torch
class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 1)
    def training_step(self, batch, _):
        loss = self.layer(batch[0]).pow(2).mean()
        self.log("loss", loss)
        return loss
    def test_step(self, batch, _):
        self.log("test_loss", self.layer(batch[0]).pow(2).mean())
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(256, 8)), batch_size=8)
def trainer(logger):
    return lightning.Trainer(
        max_epochs=8, logger=logger, accelerator="cpu", log_every_n_steps=4,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )
"""


def measured_once(uri: str, run: Run) -> None:
    """The run carries one set of figures, one seal, and says it was measured."""
    assert our_tags(run)[Tag.STATUS] == "measured", our_tags(run)
    assert ours(run)[Metric.ENERGY_KWH] > 0
    assert ours(run)[Metric.COVERAGE] > 0.9
    assert len(MlflowClient(uri).get_metric_history(run.info.run_id, Metric.ENERGY_KWH)) == 1
    assert Param.EVIDENCE_SHA256 in run.data.params
    assert Param.EVIDENCE_SHA256 + ".2" not in run.data.params


def test_pytorch_lightning_with_autologging(
    program: Program, store_uri: str, environment: dict[str, str]
) -> None:
    done = program(
        LIGHTNING
        + "import mlflow\n"
        + "mlflow.pytorch.autolog(log_models=False)\n"
        + "trainer(logger=False).fit(Model(), data)\n"
    )
    assert done.code == 0, done.err
    (run,) = runs(store_uri).values()
    assert run.info.status == "FINISHED"
    assert "loss" in run.data.metrics
    measured_once(store_uri, run)
    assert spooled(environment) == []


def test_lightnings_own_mlflow_logger_makes_and_ends_its_run(
    program: Program, store_uri: str, environment: dict[str, str]
) -> None:
    done = program(
        LIGHTNING
        + "import os\n"
        + "from lightning.pytorch.loggers import MLFlowLogger\n"
        + "logger = MLFlowLogger(experiment_name='tests', run_name='logger',"
        + " tracking_uri=os.environ['MLFLOW_TRACKING_URI'])\n"
        + "trainer(logger).fit(Model(), data)\n"
    )
    assert done.code == 0, done.err
    run = runs(store_uri)["logger"]
    assert run.info.status == "FINISHED"
    assert "loss" in run.data.metrics
    measured_once(store_uri, run)
    assert our_tags(run)[Tag.EXIT] == "finished"
    assert spooled(environment) == []


def test_a_run_handed_by_its_id_to_lightnings_logger_counts_fit_and_test_and_not_what_follows(
    program: Program, store_uri: str, environment: dict[str, str]
) -> None:
    run_id = MlflowClient(store_uri).create_run("1", run_name="handed over").info.run_id
    done = program(
        LIGHTNING
        + BURN
        + f"""
import os, time
from lightning.pytorch.loggers import MLFlowLogger
logger = MLFlowLogger(run_id={run_id!r}, tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
began = time.monotonic()
model, work = Model(), trainer(logger)
work.fit(model, data)
work.test(model, data, verbose=False)
print(time.monotonic() - began)
burn(3)
"""
    )
    assert done.code == 0, done.err
    run = runs(store_uri)["handed over"]
    worked_s = float(done.out.split()[-1])
    assert run.info.status == "FINISHED"
    assert "test_loss" in run.data.metrics
    assert ours(run)[Metric.ENERGY_KWH] > 0
    assert ours(run)[Metric.DURATION_S] * ours(run)[Metric.COVERAGE] <= worked_s + 0.5
    assert spooled(environment) == []


def test_keras_with_autologging(
    program: Program, store_uri: str, environment: dict[str, str]
) -> None:
    done = program(
        """
import keras, mlflow, numpy
mlflow.keras.autolog(log_models=False)
model = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(1)])
model.compile(loss="mse", optimizer="sgd")
model.fit(numpy.random.rand(512, 8), numpy.random.rand(512), epochs=8, verbose=0)
""",
        KERAS_BACKEND="torch",
    )
    assert done.code == 0, done.err
    (run,) = runs(store_uri).values()
    assert run.info.status == "FINISHED"
    assert "loss" in run.data.metrics
    measured_once(store_uri, run)
    assert spooled(environment) == []


def test_the_trainer_of_transformers_with_a_tiny_random_model(
    program: Program, store_uri: str, environment: dict[str, str], tmp_path: Path
) -> None:
    done = program(
        f"""
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
model = BertForSequenceClassification(BertConfig(
    vocab_size=64, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
))
row = {{"input_ids": torch.randint(0, 64, (16,)), "labels": 1}}
Trainer(
    model=model,
    train_dataset=[row] * 256,
    args=TrainingArguments(
        output_dir={str(tmp_path / "out")!r}, run_name="tiny", report_to="mlflow", use_cpu=True,
        num_train_epochs=2, logging_steps=8, save_strategy="no", disable_tqdm=True,
    ),
).train()
""",
        HF_HUB_OFFLINE="1",
    )
    assert done.code == 0, done.err
    run = runs(store_uri)["tiny"]
    assert run.info.status == "FINISHED"
    assert "loss" in run.data.metrics
    measured_once(store_uri, run)
    assert spooled(environment) == []

"""Where this machine is, from nothing but files and variables; every test builds its own machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlflow_carbon.carbon.region import WORLD, Region, find_region, parse_region
from mlflow_carbon.errors import SettingsError
from mlflow_carbon.settings import Settings
from mlflow_carbon.surroundings import region_hints

UNSET = Settings()
AMAZON = ("sys/class/dmi/id/sys_vendor", "Amazon EC2\n")
AZURE = ("sys/class/dmi/id/chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77\n")


def machine(root: Path, *files: tuple[str, str]) -> Path:
    for name, text in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def cloud_init(cloud: str, region: str | None, zone: str | None = None) -> tuple[str, str]:
    data = {"v1": {"cloud_name": cloud, "region": region, "availability_zone": zone}}
    return "run/cloud-init/instance-data.json", json.dumps(data)


def found(root: Path, settings: Settings = UNSET, **hints: str) -> Region:
    return find_region(settings, root=root, hints=hints)


def test_the_setting_wins_over_everything(tmp_path: Path) -> None:
    root = machine(tmp_path, cloud_init("aws", "eu-west-3"), ("etc/timezone", "Asia/Tokyo\n"))
    region = found(root, Settings(region="se"))
    assert (region.code, region.name, region.source) == ("SE", "Sweden", "setting")


def test_a_cloud_region_in_the_setting_becomes_the_place_it_stands_in() -> None:
    assert parse_region("aws/eu-west-3").code == "FR"
    assert parse_region("AWS/us-west-2").code == "US-OR"
    assert parse_region("gcp/europe-west9").code == "gcp/europe-west9"


@pytest.mark.parametrize("text", ["Narnia", "XX", "aws/narnia-1", "", "US-XX", "FR/../..", "\x00"])
def test_a_setting_that_names_no_place_is_refused_with_advice(text: str) -> None:
    with pytest.raises(SettingsError, match="factors show"):
        parse_region(text)


def test_a_wrong_setting_never_stops_training_and_is_never_guessed_around(tmp_path: Path) -> None:
    root = machine(tmp_path, ("etc/timezone", "Europe/Paris\n"))
    region = found(root, Settings(region="Narnia"))
    assert (region.code, region.source) == (WORLD, "unknown")
    assert "Narnia" in region.reason


@pytest.mark.parametrize(
    ("cloud", "name", "zone", "code"),
    [
        ("aws", "eu-west-3", "eu-west-3a", "FR"),
        ("aws", None, "us-east-1b", "US-VA"),
        ("gce", None, "europe-west9-b", "gcp/europe-west9"),
        ("azure", "westeurope", None, "NL"),
    ],
)
def test_cloud_init_is_evidence(
    tmp_path: Path, cloud: str, name: str | None, zone: str | None, code: str
) -> None:
    region = found(machine(tmp_path, cloud_init(cloud, name, zone)))
    assert (region.code, region.source) == (code, "evidence")
    assert "cloud-init" in region.reason


def test_a_sagemaker_resource_is_evidence(tmp_path: Path) -> None:
    arn = {"ResourceArn": "arn:aws:sagemaker:eu-central-1:123456789012:app/d-x/y"}
    path = "opt/ml/metadata/resource-metadata.json"
    region = found(machine(tmp_path, (path, json.dumps(arn))))
    assert (region.code, region.source) == ("DE", "evidence")


def test_aws_region_with_dmi_is_evidence(tmp_path: Path) -> None:
    region = found(machine(tmp_path, AMAZON), AWS_REGION="eu-north-1")
    assert (region.code, region.source) == ("SE", "evidence")


def test_aws_region_with_an_aws_runtime_is_evidence(tmp_path: Path) -> None:
    region = found(tmp_path, AWS_DEFAULT_REGION="eu-north-1", AWS_EXECUTION_ENV="AWS_ECS_FARGATE")
    assert (region.code, region.source) == ("SE", "evidence")


def test_aws_region_alone_is_only_an_api_endpoint(tmp_path: Path) -> None:
    assert found(tmp_path, AWS_REGION="us-east-1").source == "unknown"


def test_aws_region_on_another_cloud_is_not_evidence(tmp_path: Path) -> None:
    region = found(machine(tmp_path, AZURE), AWS_REGION="us-east-1")
    assert (region.code, region.source) == (WORLD, "provider")
    assert "Azure" in region.reason


def test_the_provider_alone_is_the_world_even_where_a_time_zone_is_set(tmp_path: Path) -> None:
    region = found(machine(tmp_path, AMAZON, ("etc/timezone", "Europe/Paris\n")))
    assert (region.code, region.source) == (WORLD, "provider")


def test_the_time_zone_is_a_labelled_guess(tmp_path: Path) -> None:
    region = found(machine(tmp_path, ("etc/timezone", "Asia/Kolkata\n")))
    assert (region.code, region.name, region.source) == ("IN", "India", "guess")
    assert region.reason == "time zone Asia/Kolkata"


def test_the_time_zone_variable_comes_before_the_files(tmp_path: Path) -> None:
    root = machine(tmp_path, ("etc/timezone", "Asia/Kolkata\n"))
    assert found(root, TZ=":Europe/Oslo").code == "NO"


def test_the_localtime_link_is_read(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/localtime").symlink_to("/usr/share/zoneinfo/America/Sao_Paulo")
    assert found(tmp_path).code == "BR"


def test_a_time_zone_shared_by_countries_says_so(tmp_path: Path) -> None:
    assert "shared by 5 countries" in found(tmp_path, TZ="Europe/Berlin").reason


@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC", "CET", "Mars/Olympus", "../../etc/passwd"])
def test_a_time_zone_that_names_no_country_says_nothing(tmp_path: Path, zone: str) -> None:
    assert found(tmp_path, TZ=zone).source == "unknown"


def test_a_locale_is_never_looked_at() -> None:
    assert region_hints({"LANG": "fr_FR.UTF-8", "LC_ALL": "fr_FR"}) == {}


def test_nothing_at_all_is_the_world(tmp_path: Path) -> None:
    region = found(tmp_path)
    assert (region.code, region.source) == (WORLD, "unknown")


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"v1": 3}', "\x00\xff", "[" * 100_000])
def test_a_damaged_cloud_init_file_is_no_evidence(tmp_path: Path, text: str) -> None:
    root = machine(tmp_path, ("run/cloud-init/instance-data.json", text))
    assert found(root).source == "unknown"


def test_folders_where_files_are_expected_are_no_evidence(tmp_path: Path) -> None:
    (tmp_path / "run/cloud-init/instance-data.json").mkdir(parents=True)
    (tmp_path / "etc/timezone").mkdir(parents=True)
    assert found(tmp_path).source == "unknown"


def test_a_cloud_region_we_do_not_know_is_not_another_one(tmp_path: Path) -> None:
    region = found(machine(tmp_path, AMAZON, cloud_init("aws", "mars-north-1")))
    assert (region.code, region.source) == (WORLD, "provider")

"""What all records of a process share: the settings and, looked up once, the factor.

It is asked on the sender's thread; what it loads then has been loaded already (``recorder``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_carbon.settings import OF_THE_RECORD, Settings, checked
from mlflow_carbon.tracking.facts import Base, Facts

if TYPE_CHECKING:
    from mlflow_carbon.carbon.intensity import Factor
    from mlflow_carbon.carbon.live import LiveIntensity
    from mlflow_carbon.carbon.region import Region
    from mlflow_carbon.tracking.record import Record

MS_PER_S = 1000.0


@dataclass
class Desk:
    """What all pushes of a process share: the settings and, looked up once, the factor."""

    settings: Settings

    def as_declared(self, facts: Facts) -> Desk:
        """A desk for a record of another process, with what was set there."""
        chosen: dict[str, Any] = dict.fromkeys(OF_THE_RECORD)
        chosen.update(checked(facts.declared))
        return Desk(replace(self.settings, **chosen))

    @cached_property
    def declared(self) -> dict[str, str | float]:
        """What is set of the settings that are told on the run, as it can be kept in a file."""
        values = {name: getattr(self.settings, name) for name in OF_THE_RECORD}
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in values.items()
            if value is not None
        }

    @cached_property
    def factor(self) -> Factor:
        """Of the place this process runs in, for a year."""
        from mlflow_carbon.carbon.intensity import factor_for
        from mlflow_carbon.carbon.own import own_factors

        return factor_for(self._region, own_factors(self.settings))

    def factor_of(self, facts: Facts) -> Factor:
        """Of the hours the run used its energy in, where that is asked for and known; else the year's."""
        live = self._live
        if live is None or facts.energy is None:
            return self.factor
        from mlflow_carbon.tracking.sealing import energy_hours

        hours = energy_hours(facts.energy, facts.opened_at)
        now = datetime.now(timezone.utc)
        found = live if isinstance(live, str) else live.factor(self._region, hours, now)
        return replace(self.factor, not_live=found) if isinstance(found, str) else found

    @cached_property
    def _region(self) -> Region:
        from mlflow_carbon.carbon.region import find_region

        return find_region(self.settings)

    @cached_property
    def _live(self) -> LiveIntensity | str | None:
        if self.settings.live_intensity is None:
            return None
        from mlflow_carbon.carbon.live import live_intensity

        return live_intensity(self.settings, self._region)

    def record(self, facts: Facts) -> Record:
        """What to write on the run now; of a job on several hosts, this host's part."""
        from mlflow_carbon.tracking.record import build

        return build(facts, facts.base or Base(), self.factor_of(facts), self.settings)

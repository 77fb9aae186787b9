"""An MLflow server: its runs fetched together, everything else asked of MLflow's client, all within a deadline."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow_carbon.evidence.client import ClientStore, filter_told
from mlflow_carbon.evidence.fetched import Fetched, FetchedStore
from mlflow_carbon.evidence.filters import in_mlflow_syntax
from mlflow_carbon.evidence.model import Evidence
from mlflow_carbon.evidence.query import Query
from mlflow_carbon.evidence.rest import asking, read_pages


class Server(ClientStore):
    """Fetches runs several pages at once; the server has ``deadline_s`` to answer all it is asked."""

    def runs(self, query: Query) -> Iterator[Evidence]:
        """Every run that is not deleted, with its datasets as members."""
        with self.fetched(query) as store:
            yield from store.runs(query)

    @contextmanager
    def fetched(
        self, query: Query, came: Callable[[int], None] = lambda _: None
    ) -> Iterator[FetchedStore]:
        """The runs asked for as tables; ``came`` is told how many there are so far.

        Raises:
            StoreError: the server failed, or took too long.
        """
        experiments = self.experiments(query)
        ask = asking(self._uri, list(experiments), in_mlflow_syntax(query))
        with tempfile.TemporaryDirectory(prefix="mlflow-carbon-") as folder:
            source = Fetched(self.shown, Path(folder))
            try:
                count = 0
                with self._told(), filter_told(query):
                    for runs in read_pages(ask, self._until) if experiments else ():
                        source.add(runs)
                        count += len(runs)
                        came(count)
                yield FetchedStore(self, source, experiments)
            finally:
                source.close()

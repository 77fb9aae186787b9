"""The same real stores and programs as the recording tests, in an environment that has the frameworks."""

from tests.tracking.conftest import empty_store as empty_store
from tests.tracking.conftest import environment as environment
from tests.tracking.conftest import program as program
from tests.tracking.conftest import store_uri as store_uri
from tests.tracking.conftest import work as work
from tests.tracking.conftest import zygote as zygote

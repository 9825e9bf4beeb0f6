"""Homes that are made once for all workers, as tests/integration makes them."""

from tests.integration.conftest import shared_folder as shared_folder

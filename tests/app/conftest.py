import pytest

from tests.app import served


@pytest.fixture(scope="session")
def kept_index(tmp_path_factory):
    """An index that tests only read."""
    return served.make_index(tmp_path_factory.mktemp("app"))


@pytest.fixture(scope="session")
def client(kept_index):
    return served.client_of(served.app_of(kept_index))


@pytest.fixture
def index(tmp_path):
    """An index that a test may change."""
    return served.make_index(tmp_path)

import pytest
from studies import small_study


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """A small study; the tests write nothing into its folder."""
    return small_study(tmp_path_factory.mktemp("small_study"))

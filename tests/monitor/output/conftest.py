import pytest
from support.boards import WRITERS


@pytest.fixture(params=WRITERS)
def make_writer(request, tmp_path):
    """Make a writer of each kind below `tmp_path`."""
    return lambda: WRITERS[request.param](tmp_path)

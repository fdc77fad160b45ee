from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway_server import Served, serving


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as served:
        yield served

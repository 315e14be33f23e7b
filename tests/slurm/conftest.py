"""Two clusters, each started once per session and only if a test wants it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import PACKAGES, Cluster, abandoned, lacking

CLUSTERS = Path(tempfile.gettempdir()) / f"quantpay-slurm-{os.getuid()}"  # short: sockets' paths are limited


@pytest.fixture(autouse=True)
def computes() -> None:
    """Nothing is computed in this process, which does without torch."""


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster with accounting: sacct answers, and only the account `quantpay` may submit."""
    yield from _started(request.session, accounting=True)


@pytest.fixture(scope="session")
def cluster_without_accounting(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster whose sacct fails, as there is no slurmdbd."""
    yield from _started(request.session, accounting=False)


def _started(session: pytest.Session, *, accounting: bool) -> Iterator[Cluster]:
    if missing := lacking(accounting=accounting):
        pytest.skip(f"SLURM is not installed here: no {', '.join(missing)}; apt-get install {PACKAGES}")
    for dead in list(abandoned(CLUSTERS)):
        dead.remove()
        shutil.rmtree(dead.folder, ignore_errors=True)  # another session may be at it too
    folder = CLUSTERS / f"{os.getpid()}-{'with' if accounting else 'without'}-accounting"
    cluster = Cluster(folder)
    cluster.start(accounting, owned=True)
    try:
        yield cluster
    finally:
        cluster.stop()
        if not session.testsfailed:  # else its logs stay, until the next session
            shutil.rmtree(folder)

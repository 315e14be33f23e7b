"""How this process starts other Pythons: they import what it imports, whatever the current folder holds.

A Python that is started with ``-c``, as multiprocessing does it, looks for modules in the current folder first, and a
`src` or a `random.py` there is not ours.
"""

import contextlib
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator
from multiprocessing import forkserver, util
from multiprocessing.context import ForkServerContext
from pathlib import Path

from src.config.errors import ConfigError
from src.processes.place import PLACE_VARIABLE, here

PRELOAD_VARIABLE = "QUANTPAY_PRELOAD"  # what the fork server is to import: modules, classes by dotted paths
_SOURCES = Path(__file__).resolve().parents[2]
_SAFE = "PYTHONSAFEPATH"
_SHORT = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - folders made there are this user's alone
_LONGEST = 107 - len("/pymp-xxxxxxxx/listener-xxxxxxxx")  # bytes: the kernel's limit for a socket's path


def fork_server() -> ForkServerContext:
    """The context of the fork server, which runs on return: with this process' module path, in its folder.

    Raises:
        ConfigError: there is no folder with a name short enough for a socket.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["src.processes.place", "src.processes.preload"])
    short_sockets()
    os.environ[PLACE_VARIABLE] = here()
    try:
        with contextlib.chdir(_SOURCES), _deaf_to_slurm():  # in the folder where it finds the modules above
            forkserver.ensure_running()
    finally:
        del os.environ[PLACE_VARIABLE]
    return context


@contextlib.contextmanager
def _deaf_to_slurm() -> Iterator[None]:
    """Processes started inside never see SIGUSR2, which SLURM sends to all of a job: it is for the job's own process.

    It would end the fork server and its run, and who is first to notice is chance: the job that was told to leave, or
    the one that finds its run dead.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def spawning() -> Iterator[None]:
    """Inside, processes may be started by multiprocessing's `spawn`: it tells them the module path, but late."""
    before = os.environ.get(_SAFE)
    os.environ[_SAFE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE]
        else:
            os.environ[_SAFE] = before


def short_sockets() -> None:
    """Let multiprocessing's sockets lie where their paths are short enough, whatever TMPDIR says.

    Raises:
        ConfigError: there is no such folder.
    """
    usual, before = _temporary(), tempfile.tempdir
    for folder in (usual, *_SHORT):
        if len(os.fsencode(folder)) > _LONGEST:
            continue
        tempfile.tempdir = folder
        try:
            util.get_temp_dir()  # made once for this process, and kept for its children
            return
        except OSError:
            continue
        finally:
            tempfile.tempdir = before
    raise ConfigError(
        f"TMPDIR={usual}: too long for the path of a socket, and {', '.join(_SHORT)} cannot be written; "
        f"set TMPDIR to a folder of at most {_LONGEST} bytes"
    )


def _temporary() -> str:
    """The folder for temporary files: TMPDIR, or where that cannot be written the system's.

    Raises:
        ConfigError: none can be written, the current folder neither.
    """
    try:
        return tempfile.gettempdir()
    except FileNotFoundError as error:
        raise ConfigError(
            "no folder for temporary files can be written; set TMPDIR to one that can"
        ) from error

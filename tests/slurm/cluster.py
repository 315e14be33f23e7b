"""A real SLURM cluster on this machine, with made-up GPUs: for the tests, and to try the launcher by hand.

    python -m tests.slurm.cluster up FOLDER       then: export SLURM_CONF=FOLDER/etc/slurm.conf
    python -m tests.slurm.cluster down FOLDER     also: kill FOLDER NODE, start FOLDER NODE

Nodes h100-[1-2] and a100-[1-2], each with two GPUs that only SLURM believes in; partitions h100 (default), a100,
all, and low, whose jobs give way to those of high. It needs no root. Nothing outside of FOLDER is written or
read, only processes that it started are ended, and several clusters can run side by side.
"""

import argparse
import getpass
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from src.records.record import write_json
from src.records.store import is_alive, this_process
from tests.slurm import daemons
from tests.slurm.accounting import database_commands, prepare_database, register_account
from tests.slurm.daemons import ClusterError, wait_until
from tests.slurm.settings import NODES, free_ports, write_settings

SLURM = ("slurmctld", "slurmd", "sbatch", "munged")
ACCOUNTING = ("slurmdbd", "mariadbd")
PACKAGES = "slurmctld slurmd slurm-client munge slurmdbd mariadb-server"  # Debian's names
STATE_NAME = "cluster.json"
_FOLDERS = ("etc", "log", "run", "spool", "state", "munge", "mysql", "gpu")
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
_STOP_ORDER = ([f"slurmd.{node}" for node in NODES], ["slurmctld"], ["slurmdbd"], ["mariadbd", "munged"])


def lacking(*, accounting: bool) -> list[str]:
    """The programs that this machine would need for a cluster."""
    wanted = SLURM + (ACCOUNTING if accounting else ())
    return [program for program in wanted if shutil.which(program, path=_PATH) is None]


class Cluster:
    """The cluster in a folder; what it started is written down there, so that any process can stop it."""

    def __init__(self, folder: Path, *, max_array_size: int = 1001) -> None:
        """Args: folder: of all its files; max_array_size: SLURM's default is 1001."""
        self.folder, self.max_array_size = folder.resolve(), max_array_size
        self.conf = self.folder / "etc" / "slurm.conf"

    @property
    def accounting(self) -> bool:
        """Whether it was started with slurmdbd."""
        return bool(self._read().get("accounting"))

    @property
    def env(self) -> dict[str, str]:
        """The environment for SLURM's commands, and for whatever calls them."""
        outside = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        return outside | {"SLURM_CONF": str(self.conf), "PATH": _PATH}

    @contextmanager
    def here(self) -> Iterator[None]:
        """SLURM's commands of this process speak to this cluster, until the block ends."""
        before = os.environ.get("SLURM_CONF")
        os.environ["SLURM_CONF"] = str(self.conf)
        try:
            yield
        finally:
            del os.environ["SLURM_CONF"]
            os.environ |= {"SLURM_CONF": before} if before else {}

    def call(self, *command: str, patience_s: float = 240) -> str:
        """Run a command on the cluster; returns what it prints.

        Raises:
            ClusterError: it failed.
        """
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=patience_s)
        if done.returncode:
            raise ClusterError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def start(self, accounting: bool = True, *, owned: bool = False) -> None:
        """Start all daemons, from nothing; what a dead cluster left in the folder is removed.

        Args:
            accounting: with MariaDB and slurmdbd, so that sacct answers and only one account may submit.
            owned: the cluster is of no use without this process; see `abandoned`.

        Raises:
            ClusterError: programs are missing, it runs already, or a daemon does not come up.
        """
        if missing := lacking(accounting=accounting):
            raise ClusterError(f"not installed: {', '.join(missing)}; apt-get install {PACKAGES}")
        if daemons.alive(self._daemons().get("slurmctld")):
            raise ClusterError(f"{self.folder}: a cluster runs there already; take it down first")
        if not (self.folder / STATE_NAME).exists() and self.folder.is_dir() and any(self.folder.iterdir()):
            raise ClusterError(f"{self.folder}: holds other things; give a folder of its own")
        self.remove()
        for name in _FOLDERS:
            (self.folder / name).mkdir(parents=True)
        self._save({"owner": this_process() if owned else None, "accounting": accounting, "daemons": {}})
        try:
            self._start(accounting)
        except BaseException:
            self.stop()
            raise

    def _start(self, accounting: bool) -> None:
        ports = free_ports()
        write_settings(self.folder, ports, accounting=accounting, max_array_size=self.max_array_size)
        self._start_munge()
        if accounting:
            for name, command in database_commands(self.folder, ports).items():
                self._spawn(name, *command)
            prepare_database(self.folder)
            self._spawn("slurmdbd", "slurmdbd", "-D")
            register_account(self)
        self._spawn("slurmctld", "slurmctld", "-D")
        self._wait("slurmctld", lambda: "is UP" in self._said("scontrol", "ping"))
        for node in NODES:
            self._spawn(f"slurmd.{node}", "slurmd", "-D", "-N", node)
        self._wait("the nodes", lambda: set(self.node_states().values()) == {"idle"})

    def _start_munge(self) -> None:
        munge, socket = self.folder / "munge", self.folder / "run" / "munge.socket"
        (munge / "key").write_bytes(secrets.token_bytes(1024))
        (munge / "key").chmod(0o600)
        files = [f"--{name}-file={munge / name}" for name in ("key", "pid", "seed")]
        # --force: it dislikes folders below one that everybody may write to
        self._spawn("munged", "munged", "--foreground", "--force", f"--socket={socket}", *files)
        self._wait("munged", socket.exists)

    def node_states(self) -> dict[str, str]:
        """node -> idle, mixed, allocated, down, ...; with `*` when it does not respond."""
        lines = self._said("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines()
        return dict(line.split() for line in lines)

    def kill_node(self, name: str, steps: bool = True) -> None:
        """Cut a node's power; with `steps=False` its network: what runs there runs on, unseen."""
        running = daemons.of_jobs(self.conf, name) if steps else []
        slurmd = daemons.alive(self._daemons()[f"slurmd.{name}"])
        daemons.kill([*([slurmd] if slurmd else []), *running])

    def start_node(self, name: str) -> None:
        """Bring a node back, and wait until SLURM sends jobs to it again."""
        if not daemons.alive(self._daemons()[f"slurmd.{name}"]):
            self._spawn(f"slurmd.{name}", "slurmd", "-D", "-N", name)
        self._wait(name, lambda: self.node_states().get(name) in ("idle", "mixed", "allocated"))

    def stop(self) -> None:
        """Cancel all jobs and end the daemons and whatever jobs leave behind; harmless when nothing runs."""
        known = self._daemons()
        if daemons.alive(known.get("slurmctld")):
            self._cancel_all()
        for names in _STOP_ORDER:
            daemons.end(known[name] for name in names if name in known)
        daemons.kill(daemons.of_jobs(self.conf))

    def remove(self) -> None:
        """Stop, and remove the folders that it made."""
        self.stop()
        if (self.folder / STATE_NAME).exists():
            for name in _FOLDERS:
                shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / STATE_NAME).unlink()

    def _cancel_all(self) -> None:
        try:
            self.call("scancel", "--quiet", f"--user={getpass.getuser()}")
        except (ClusterError, subprocess.TimeoutExpired):
            return
        deadline = time.monotonic() + 60
        while self._said("squeue", "--noheader") and time.monotonic() < deadline:
            time.sleep(0.1)

    def _said(self, *command: str) -> str:
        """What a command prints; nothing when it fails."""
        try:
            return self.call(*command).strip()
        except (ClusterError, subprocess.TimeoutExpired):
            return ""

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        wait_until(condition, f"{what} did not come up; see {self.folder / 'log'}")

    def _daemons(self) -> Mapping[str, dict[str, float]]:
        return self._read().get("daemons", {})

    def _read(self) -> dict[str, Any]:
        try:
            return dict(json.loads((self.folder / STATE_NAME).read_text()))
        except OSError:
            return {}

    def _save(self, state: dict[str, Any]) -> None:
        write_json(self.folder / STATE_NAME, state)

    def _spawn(self, name: str, *command: str) -> None:
        program = shutil.which(command[0], path=_PATH) or command[0]
        log = self.folder / "log" / f"{name}.out"
        started = daemons.spawn([program, *command[1:]], log, self.env)
        state = self._read()
        state["daemons"][name] = started
        self._save(state)


def abandoned(parent: Path) -> Iterator[Cluster]:
    """The clusters in the folders of `parent` whose owner is dead: of a test session that was killed."""
    for state in parent.glob(f"*/{STATE_NAME}"):
        cluster = Cluster(state.parent)
        owner = cluster._read().get("owner")
        if owner is not None and is_alive(owner) is False:
            yield cluster


def main() -> int:
    """The command line; exit status 1 with one line when it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m tests.slurm.cluster", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("do", choices=("up", "down", "kill", "start"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("node", nargs="?", choices=list(NODES))
    parser.add_argument("--without-accounting", action="store_true", help="no MariaDB, no slurmdbd, no sacct")
    given = parser.parse_args()
    cluster = Cluster(given.folder)
    if given.do in ("kill", "start") and given.node is None:
        parser.error(f"{given.do}: which NODE?")
    does = {
        "up": lambda: cluster.start(accounting=not given.without_accounting),
        "down": cluster.stop,
        "kill": lambda: cluster.kill_node(given.node),
        "start": lambda: cluster.start_node(given.node),
    }
    try:
        does[given.do]()
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if given.do == "up":
        print(f"export SLURM_CONF={cluster.conf}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What sacct needs: a private MariaDB behind slurmdbd, and an account that may submit."""

import getpass
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.slurm.daemons import ClusterError, wait_until
from tests.slurm.settings import ACCOUNT

if TYPE_CHECKING:
    from tests.slurm.cluster import Cluster

_GRANTS = """
CREATE DATABASE slurm_acct_db;
CREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';
CREATE USER 'slurm'@'localhost' IDENTIFIED BY 'slurm';
GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';
GRANT ALL ON slurm_acct_db.* TO 'slurm'@'localhost';
"""
_SMALL = ("--innodb-log-file-size=8M", "--innodb-buffer-pool-size=64M")


def database_commands(folder: Path, ports: dict[str, int]) -> dict[str, list[str]]:
    """Make the database's files; returns the daemon to start, by name."""
    user, temporary = f"--user={getpass.getuser()}", folder / "mysql-tmp"
    temporary.mkdir()  # of its own: a server that starts removes what others have in theirs
    files = (f"--datadir={folder / 'mysql'}", f"--tmpdir={temporary}")
    rights = "--auth-root-authentication-method=normal"
    install = ["mariadb-install-db", "--no-defaults", user, *files, "--skip-test-db", rights, *_SMALL]
    with (folder / "log" / "mariadb-install.log").open("wb") as log:
        subprocess.run(install, stdout=log, stderr=log, check=True, timeout=240)
    where = [f"--socket={_socket(folder)}", "--bind-address=127.0.0.1", f"--port={ports['mariadbd']}"]
    names = [
        f"--pid-file={folder / 'run' / 'mariadbd.pid'}",
        f"--log-error={folder / 'log' / 'mariadbd.log'}",
    ]
    wanted = [
        "--innodb-lock-wait-timeout=900",
        "--innodb-flush-log-at-trx-commit=0",
    ]  # slurmdbd asks for the former
    return {"mariadbd": ["mariadbd", "--no-defaults", user, *files, *where, *names, *_SMALL, *wanted]}


def prepare_database(folder: Path) -> None:
    """Wait for the database, and let slurmdbd in."""
    client = ["--no-defaults", f"--socket={_socket(folder)}", "--user=root"]

    def answers() -> bool:
        return subprocess.run(["mariadb-admin", *client, "ping"], capture_output=True).returncode == 0

    wait_until(answers, f"mariadbd did not come up; see {folder / 'log'}")
    subprocess.run(["mariadb", *client], input=_GRANTS, text=True, check=True, timeout=240)


def register_account(cluster: "Cluster") -> None:
    """Wait for slurmdbd, and let this user submit for one account."""

    def added() -> bool:
        try:
            cluster.call("sacctmgr", "--immediate", "add", "cluster", "sandbox")
        except ClusterError as error:
            return "already exists" in str(error)
        return True

    wait_until(added, f"slurmdbd did not come up; see {cluster.folder / 'log'}")
    cluster.call("sacctmgr", "--immediate", "add", "account", ACCOUNT, "cluster=sandbox")
    cluster.call("sacctmgr", "--immediate", "add", "user", getpass.getuser(), f"account={ACCOUNT}")


def _socket(folder: Path) -> Path:
    return folder / "run" / "mysql.socket"

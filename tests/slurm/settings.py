"""The configuration files of the cluster: four nodes on one host, with GPUs that are links to /dev/null."""

import getpass
import platform
import random
import socket
from pathlib import Path

NODES = {"h100-1": "h100", "h100-2": "h100", "a100-1": "a100", "a100-2": "a100"}  # node -> kind of GPU
GPUS_PER_NODE = 2
CPUS_PER_NODE, MEMORY_PER_NODE_MB = 16, 64000  # invented as well
ACCOUNT = "quantpay"  # the one that may submit where there is accounting
_SERVERS = ("slurmctld", "slurmdbd", "mariadbd", *(f"slurmd.{node}" for node in NODES))

_SLURM = """\
ClusterName=sandbox
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[slurmctld]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# a job that goes back to the queue waits for its credential to expire: 120 s by default
AuthInfo=socket={folder}/run/munge.socket,cred_expire=10
CredType=cred/munge
# neither systemd nor cgroups
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2,sched_min_interval=0
# without it, a job that names no memory takes the node's, and the second GPU stays idle
DefMemPerCPU=2000
GresTypes=gpu
MaxArraySize={max_array_size}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=300
# hardware that the host does not have
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=20
InactiveLimit=0
KillWait=5
BatchStartTimeout=10
MessageTimeout=20
JobRequeue=1
UnkillableStepTimeout=60
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
SlurmctldDebug=info
SlurmdDebug=info
JobCompType=jobcomp/none
"""
_WITHOUT_ACCOUNTING = "AccountingStorageType=accounting_storage/none\n"
_WITH_ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[slurmdbd]}
AccountingStoragePass={folder}/run/munge.socket
AccountingStorageTRES=gres/gpu,gres/gpu:h100,gres/gpu:a100
AccountingStorageEnforce=associations,limits,qos
"""
_PARTITIONS = """\
PartitionName=h100 Nodes=h100-[1-2] Default=YES
PartitionName=a100 Nodes=a100-[1-2]
PartitionName=all Nodes=ALL
PartitionName=low Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime=2
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""
_SLURMDBD = """\
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={ports[slurmdbd]}
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[mariadbd]}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/run/slurmdbd.pid
DebugLevel=info
"""


def free_ports() -> dict[str, int]:
    """A port for each server, all free, below those that the kernel hands out."""
    bases = list(range(20000, 32000, 20))
    random.shuffle(bases)
    for base in bases:
        ports = {name: base + index for index, name in enumerate(_SERVERS)}
        if all(map(_is_free, ports.values())):
            return ports
    raise OSError("no free ports between 20000 and 32000")


def write_settings(folder: Path, ports: dict[str, int], *, accounting: bool, max_array_size: int) -> None:
    """Write slurm.conf, gres.conf and slurmdbd.conf into ``folder/etc``, and the GPUs into ``folder/gpu``."""
    values = {
        "folder": folder,
        "ports": ports,
        "host": platform.node().split(".")[0],
        "user": getpass.getuser(),
        "max_array_size": max_array_size,
    }
    storage = _WITH_ACCOUNTING if accounting else _WITHOUT_ACCOUNTING
    nodes = "".join(_node(name, kind, ports[f"slurmd.{name}"]) for name, kind in NODES.items())
    etc = folder / "etc"
    (etc / "slurm.conf").write_text((_SLURM + storage).format(**values) + nodes + _PARTITIONS)
    (etc / "gres.conf").write_text("".join(_gpus(folder / "gpu", name, kind) for name, kind in NODES.items()))
    if accounting:
        (etc / "slurmdbd.conf").write_text(_SLURMDBD.format(**values))
        (etc / "slurmdbd.conf").chmod(0o600)  # slurmdbd insists


def _node(name: str, kind: str, port: int) -> str:
    return (
        f"NodeName={name} NodeHostname={platform.node().split('.')[0]} NodeAddr=127.0.0.1 Port={port} "
        f"CPUs={CPUS_PER_NODE} Boards=1 SocketsPerBoard=1 CoresPerSocket={CPUS_PER_NODE} ThreadsPerCore=1 "
        f"RealMemory={MEMORY_PER_NODE_MB} Gres=gpu:{kind}:{GPUS_PER_NODE} Feature={kind} State=UNKNOWN\n"
    )


def _gpus(folder: Path, node: str, kind: str) -> str:
    """A GPU's file must be a character device, its last digits are the index; a link to one will do."""
    lines = []
    for index in range(GPUS_PER_NODE):
        file = folder / f"{node}-nvidia{index}"
        file.symlink_to("/dev/null")
        lines.append(f"NodeName={node} Name=gpu Type={kind} File={file}\n")
    return "".join(lines)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True

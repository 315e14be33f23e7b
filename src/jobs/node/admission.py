"""Whether what has arrived on a node is to run there: not too often, with the versions and the code of its sending.

Each check raises RunEndedError with the outcome, why, and what to do.
"""

from src.jobs.node.claims import SIGNALLED, Claim
from src.jobs.node.snapshot import SOURCES
from src.outcomes import RunEndedError
from src.records.environment import versions
from src.records.identity import Identity
from src.records.record import Outcome

AGAIN = "run the sweep's command again: what is recorded is skipped"


def check_restarts(identity: Identity, claim: Claim, *, shares: bool) -> None:
    """A run that SLURM starts again and again is given up; requeues at the time limit are counted by submitit.

    Of a job with several runs only those starts count that met this one.
    """
    reasons = claim.reasons()
    own = min(reasons.count(SIGNALLED), identity.max_num_timeout)
    requeues = (len(reasons) if shares else max(claim.restart, len(reasons))) - own
    if requeues > identity.max_requeues:
        last = reasons[-1] if reasons else "unknown"
        raise RunEndedError(
            Outcome.KILLED,
            f"SLURM has requeued job {claim.job} {requeues} times, and {identity.max_requeues} are allowed; "
            f"the last time: {last}",
            f"a larger hydra.launcher.max_requeues, or nodes that stay; {AGAIN}",
        )


def check_versions(identity: Identity) -> None:
    """The run key holds the versions of where the sweep was sent from; a run with others would be a lie."""
    here = versions()
    others = [
        f"{name} is {here.get(name, 'absent')} here and was {version} there"
        for name, version in identity.versions.items()
        if here.get(name) != version
    ]
    if others:
        raise RunEndedError(
            Outcome.FAILED,
            f"this node has other versions than where the sweep was sent from: {'; '.join(others)}",
            "the same environment for both: a shared one, a container, or gpu.slurm.setup that activates it",
        )


def check_code(identity: Identity) -> None:
    """What was edited since the sweep was sent must not be what runs."""
    if identity.snapshot and not SOURCES.samefile(identity.snapshot):
        raise RunEndedError(
            Outcome.FAILED,
            f"this job has imported {SOURCES}, which is not the sweep's snapshot, {identity.snapshot}",
            "no `cd` in gpu.slurm.setup, and no PYTHONSAFEPATH: Python looks first where the job starts",
        )

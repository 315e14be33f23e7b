"""Jobs of other Hydra applications: any task, any configuration, by Hydra's own way of running a job.

The configuration is composed where the sweep is started and travels with the job; Hydra's return value comes back
as a file beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from src.config.cluster_schema import ClusterConf, SlurmRequest
from src.config.schema import RootConf
from src.jobs.arrays import ArrayBackend, merged
from src.jobs.followed import Patience
from src.jobs.states import FATES
from src.launching.preparation import new_sweep

_TIMEOUT_S = 3600.0  # of a job, where the launcher's `time_min` says nothing


def is_foreign(config: DictConfig) -> bool:
    """Whether a configuration is another application's."""
    return OmegaConf.get_type(config) is not RootConf


@dataclass(frozen=True)
class ForeignJob:
    """One job, as it is pickled."""

    context: HydraContext
    task: TaskFunction
    config: DictConfig
    singletons: Any  # Hydra's, with OmegaConf's resolvers
    answer: Path  # where Hydra's return value goes

    def __call__(self) -> None:
        """Run it as Hydra does; what the task raises is in the answer."""
        from submitit import JobEnvironment
        from submitit.core.utils import cloudpickle_dump, temporary_save_path

        Singleton.set_state(self.singletons)
        setup_globals()
        with open_dict(self.config.hydra.job):
            self.config.hydra.job.id = JobEnvironment().job_id
        done = run_job(
            task_function=self.task,
            config=self.config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=self.context,
        )
        with temporary_save_path(self.answer) as part:
            cloudpickle_dump(done, part)


def run_foreign(
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    jobs: Sequence[Sequence[str]],
    first: int,
    conf: ClusterConf,
    backend: ArrayBackend,
) -> list[JobReturn]:
    """Run the jobs of another application's sweep and wait for all of them.

    Args:
        context: Hydra's.
        task: of the application.
        config: what the jobs are composed from.
        jobs: their overrides.
        first: the number of the first of them in the sweep.
        conf: the launcher's.
        backend: takes the jobs.

    Returns:
        What Hydra's own launchers return, in order; a job that is gone has failed with a RuntimeError.

    Raises:
        ConfigError: the backend refuses the jobs.
        KeyboardInterrupt: Ctrl-C; what was sent to a cluster goes on.
    """
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    name = f"qp-{new_sweep()}-0"
    folder = Path(str(config.hydra.sweep.dir)).absolute() / ".submitit" / name
    folder.mkdir(parents=True)
    singletons = Singleton.get_state()
    prepared = []
    for number, overrides in enumerate(jobs, first):
        composed = context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(composed.hydra.job):
            composed.hydra.job.id, composed.hydra.job.num = f"{name}_{number}", number
        prepared.append(ForeignJob(context, task, composed, singletons, folder / f"{number}.pkl"))
    request = merged(SlurmRequest(extra={"chdir": str(Path.cwd())}), conf, _TIMEOUT_S)
    ids = backend.submit(name, request, prepared, folder)
    try:
        answers = {job: each.answer for job, each in zip(ids, prepared, strict=True)}
        lost = _await(answers, backend, Patience(poll_s=conf.poll_s))
    except KeyboardInterrupt:
        if not backend.detached:
            backend.cancel(ids)
        raise
    return [_returned(each, lost.get(job)) for job, each in zip(ids, prepared, strict=True)]


def _await(answers: dict[str, Path], backend: ArrayBackend, patience: Patience) -> dict[str, str]:
    """Wait until every job has answered or is over; the states of those that left no answer."""
    over, lost = dict[str, tuple[float, int]](), dict[str, str]()
    told_at = patience.now()
    while True:
        states = backend.states([job for job in answers if job not in lost])
        open_jobs = [job for job, answer in answers.items() if job not in lost and not answer.exists()]
        if not open_jobs:
            return lost
        now = patience.now()
        told_at = now if states else told_at
        if now - told_at > patience.silent_s:
            silent = f"nobody could say for {patience.silent_s / 60:.0f} min what became of it"
            return lost | dict.fromkeys(open_jobs, silent)
        for job in open_jobs:
            if job not in states or states[job].state not in FATES:
                over.pop(job, None)
                continue
            since, looks = over.get(job, (now, 0))
            over[job] = (since, looks + 1)
            if now - since >= patience.unknown_s and looks >= patience.unknown_looks:
                lost[job] = f"{states[job].state} {states[job].reason}".strip()
        patience.sleep(patience.poll_s)


def _returned(job: ForeignJob, lost: str | None) -> JobReturn:
    import pickle

    if lost is None:
        done: JobReturn = pickle.loads(job.answer.read_bytes())  # noqa: S301 - our own bytes
        return done
    reason = RuntimeError(f"job {job.config.hydra.job.id} left no result: {lost}; see {job.answer.parent}")
    overrides = list(job.config.hydra.overrides.task)
    return JobReturn(overrides=overrides, status=JobStatus.FAILED, _return_value=reason)

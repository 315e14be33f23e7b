"""`plan=true` with a launcher that sends runs to a cluster."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from src.config.schema.cluster import ClusterConf
from src.config.schema.root import RootConf
from src.jobs.arrays import merged
from src.launching.repetition import total_timeout_s
from src.planning.matrix import Launch
from src.planning.planning import Predict, show_plan
from src.records.key import requested, run_key
from src.workloads.dtype import predicted


def show_cluster_plan(configs: Sequence[RootConf], conf: ClusterConf, predict: Predict | None = None) -> None:
    """Print what a cluster would be asked; neither it nor this machine's device is looked at.

    Args:
        configs: validated, all of one sweep.
    """

    def request(cfg: RootConf) -> dict[str, Any]:
        wanted = asdict(merged(cfg.gpu.slurm, conf, total_timeout_s(cfg)))
        return {name: value for name, value in wanted.items() if value}

    launch = Launch(
        at_once=conf.array_parallelism,
        elsewhere=True,
        key=lambda cfg: run_key(predicted(cfg), requested(cfg.gpu)),
        request=request,
    )
    show_plan(configs, launch, predict)

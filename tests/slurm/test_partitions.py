"""The GPU axis finds its partition: what sinfo lists, and what a real cluster makes of it."""

import pytest

from src.config.errors import ConfigError
from src.config.schema.cluster import SlurmRequest
from src.slurm import partitions
from src.slurm.partitions import Partition, placed
from tests.slurm.cluster import Cluster


@pytest.mark.parametrize(
    ("there", "asked", "has"),
    [
        ("gpu:h100:2", "gpu:h100:1", True),
        ("gpu:h100:8(S:0-1),shard:8", "gpu:h100", True),
        ("gpu:a100:4,gpu:h100:2(IDX:0-1)", "gpu:h100:1", True),
        ("gpu:a100:4", "gpu:2", True),
        ("gpu:8", "gpu:h100:1", False),
        ("gpu:a100:4", "gpu:h100:1", False),
        ("gpu:h100:2", "gpu:h100:1,mps:20", False),
        ("(null)", "gpu:1", False),
    ],
)
def test_what_a_node_has_is_read_as_slurm_writes_it(there: str, asked: str, has: bool) -> None:
    assert Partition("name", False, True, there).has(asked) is has


ONE_EACH = ["cpu*|up|(null)", "a100|up|gpu:a100:4", "h100|up|gpu:h100:8(S:0-1)", "old|down|gpu:h100:8"]


def test_the_one_partition_that_has_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "partitions", lambda: list(partitions._read(ONE_EACH)))
    assert placed(SlurmRequest(gres="gpu:h100:1")).partition == "h100"
    assert placed(SlurmRequest(gres="gpu:v100:1")).partition is None  # SLURM says no in its own words
    assert placed(SlurmRequest()).partition is None
    assert placed(SlurmRequest(gres="gpu:h100:1", partition="mine")).partition == "mine"
    monkeypatch.setenv("SBATCH_PARTITION", "a100")
    assert placed(SlurmRequest(gres="gpu:h100:1")).partition is None


@pytest.mark.slurm
def test_a_cluster_names_its_candidates_or_has_one(cluster: Cluster) -> None:
    with cluster.here():
        assert placed(SlurmRequest(gres="gpu:h100:1")).partition is None  # the default one has it
        with pytest.raises(ConfigError, match=r"\(h100\) has no gpu:a100:1; give .*: a100, all, high, low$"):
            placed(SlurmRequest(gres="gpu:a100:1"))
        others = ("all", "high", "low")
        try:
            for name in others:
                cluster.call("scontrol", "update", f"PartitionName={name}", "State=DOWN")
            assert placed(SlurmRequest(gres="gpu:a100:1")).partition == "a100"
        finally:
            for name in others:
                cluster.call("scontrol", "update", f"PartitionName={name}", "State=UP")

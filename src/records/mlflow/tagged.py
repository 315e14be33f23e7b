"""MLflow's runs known by their tags: the client repeats a creation whose answer was lost, so there may be doubles."""

from typing import TYPE_CHECKING

from src.records.mlflow import content
from src.records.mlflow.connection import Connection
from src.records.mlflow.points import Point

if TYPE_CHECKING:
    from mlflow.entities import Run

Identity = dict[str, str]  # tags, given in the creation


class TaggedRuns:
    """Makes, finds and fills runs of one experiment; of several with the same tags one counts for everybody."""

    def __init__(self, connection: Connection) -> None:
        self.client, self.experiment_id = connection.client, connection.experiment_id

    def get_or_create(self, identity: Identity, more: dict[str, str], name: str, started_at: str) -> "Run":
        """The run with these tags; a new one gets more of them, a name and a start."""
        found = self.find(identity)
        if found:
            return found[0]
        self.client.create_run(self.experiment_id, content.milliseconds(started_at), identity | more, name)
        return self.only(identity)

    def only(self, identity: Identity) -> "Run":
        """The run with these tags; its doubles are deleted."""
        first, *doubles = self.find(identity)
        for double in doubles:
            self.client.delete_run(double.info.run_id)
        return first

    def find(self, identity: Identity) -> list["Run"]:
        """Runs with these tags, the one that counts first: whoever looks, at whatever moment, keeps the same."""
        query = " and ".join(f"tags.{name} = '{text}'" for name, text in identity.items())
        found = self.client.search_runs([self.experiment_id], query, max_results=50)
        return sorted(found, key=_standing)

    def delete_others(self, identity: Identity, tag: str, value: str) -> None:
        """Delete the runs with these tags whose tag `tag` is not `value`."""
        for run in self.find(identity):
            if run.data.tags.get(tag) != value:
                self.client.delete_run(run.info.run_id)

    def log(
        self,
        run_id: str,
        points: list[Point],
        params: dict[str, str],
        tags: dict[str, str],
        at_ms: int,
    ) -> None:
        """Fixed moments and steps: MLflow drops what it has already, so that a repeat adds nothing."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(name, value, at_ms, step) for name, value, step in points]
        pairs = [Param(name, text) for name, text in params.items()]
        self.client.log_batch(run_id, metrics, pairs, [RunTag(name, text) for name, text in tags.items()])

    def mention(self, run_id: str, sweep: str) -> None:
        """Let a sweep that only lists a run find it too."""
        sweeps = self.client.get_run(run_id).data.tags.get("sweeps", " ")
        if f" {sweep} " not in sweeps:
            self.client.set_tag(run_id, "sweeps", f"{sweeps}{sweep} ")


def _standing(run: "Run") -> tuple[bool, int, str]:
    return run.data.tags.get("published") != "1", run.info.start_time, run.info.run_id

"""The link whose view in MLflow's UI shows a sweep's speedups and latencies at once."""

from urllib.parse import quote

from src.records.connection import Connection


def publish_view(connection: Connection, sweep: str) -> None:
    """Keep the sweep's view in the experiment, as the UI's share button would."""


def sweep_link(connection: Connection, sweep: str) -> str:
    """The lines to print for a sweep; for a local database the command that shows it comes first."""
    query = quote(f"tags.sweeps LIKE '% {sweep} %'")
    path = f"#/experiments/{connection.experiment_id}/runs?searchFilter={query}"
    if connection.uri.startswith("http"):
        return f"{connection.uri.rstrip('/')}/{path}"
    return f"mlflow ui --backend-store-uri {connection.uri}\nhttp://127.0.0.1:5000/{path}"

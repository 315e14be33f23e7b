"""What a run's row unfolds: the command that repeats it, and its folder."""

import os
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from src.analysis.answers.commands import repeat
from src.analysis.answers.places import elsewhere
from src.analysis.runs.frame import Plain
from src.records.store import run_folder


@dataclass(frozen=True)
class RunLinks:
    """Where runs lie, and the report that links to them."""

    outputs: Path
    report: Path  # the report's folder

    def html(self, row: Plain) -> str:
        """Folded: the run's command, and its folder where it is on this disk."""
        folder = run_folder(self.outputs, str(row["run_key"]), int(row["attempt"]))
        text = f"runs/{folder.parent.name}/{folder.name}"
        if folder.is_dir():
            path = quote(os.path.relpath(folder.resolve(), self.report.resolve()))
            text = f'<a href="{path}/">{text}</a>'
        command = escape(repeat(row, self.outputs))
        name = elsewhere(row)
        where = f"<span>on {escape(name)}</span>" if name else ""
        return f'<details class="run"><summary>run</summary>{where}<code>{command}</code>{text}</details>'

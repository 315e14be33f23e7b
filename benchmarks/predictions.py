"""What autoquant's trials of single layers predict for the whole model, against what the whole model gives.

    python benchmarks/predictions.py                    two small transformers on this machine, in a few minutes
    python benchmarks/predictions.py outputs            autoquant's runs that are in this folder already

One line for each plan that was measured as a whole while the runs searched: the ratio of the two is 1.00 where the
layers' own times are the model's. The last line says how far they are apart on the whole.
"""

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SWEEP = (
    "quant=autoquant",
    "batch=1,4",
    "target=block,denoiser",
    "model.factory.num_layers=1",
    "model.factory.num_single_layers=1",
    "quant.layer_budget_s=0.5",
    "measure.warm_compile=false",
    "measure.ceilings=false",
    "tracking=none",
)
HEAD = ("run", "plan", "layers", "predicted", "measured", "interval", "measured / predicted", "")


def wholes(outputs: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each plan that was measured as a whole, with the run's name."""
    for path in sorted(outputs.glob("runs/*/*/record.json")):
        record = json.loads(path.read_text())
        axes = record["axes"]
        name = f"{axes['model']} {axes['target']} b{axes['batch']} {axes['compile']}"
        for whole in record["details"].get("autoquant", {}).get("wholes", []):
            yield name, {"predicted": whole.get("foretold"), **whole}  # as the published records call it


def report(outputs: Path) -> None:
    """Print the table."""
    rows, ratios = [HEAD], []
    for name, whole in wholes(outputs):
        ratio = whole["speedup"] / whole["predicted"]
        ratios.append(ratio)
        interval = f"{whole['ci_low']:.3f}-{whole['ci_high']:.3f}"
        numbers = (f"{whole['predicted']:.3f}", f"{whole['speedup']:.3f}", interval, f"{ratio:.3f}")
        rows.append((name, whole["what"], str(sum(whole["layers"].values())), *numbers, whole["disturbed"]))
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    if not ratios:
        sys.exit(f"{outputs}: no autoquant run that measured a plan as a whole")
    logs = [math.log(ratio) for ratio in ratios]
    mean, spread = sum(logs) / len(logs), math.sqrt(sum(log**2 for log in logs) / len(logs))
    print(
        f"{len(ratios)} plans: measured is {math.exp(mean):.3f} times what was predicted; {spread:.1%} apart (rms)"
    )


def main() -> None:
    """Measure, unless a folder is given; then report."""
    if len(sys.argv) > 1:
        report(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "src.run", "-m", *SWEEP, f"outputs={folder}"]
        subprocess.run(command, cwd=ROOT, check=True)
        report(Path(folder))


if __name__ == "__main__":
    main()

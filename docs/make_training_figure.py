"""Draw the loss curves of a sweep's trainings: ``python docs/make_training_figure.py SWEEP [OUTPUTS]``.

The sweep: ``python -m src.run sweeps=training_float8``.
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

IMAGE = Path(__file__).resolve().parent / "images" / "training_loss.png"


def main(sweep: str, outputs: Path) -> None:
    """One picture: the curves, and how far each recipe's is from the unquantized one."""
    figure, (losses, apart) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for index, (name, curves) in enumerate(sorted(found(sweep, outputs).items())):
        steps, baseline, loss = range(1, len(curves["loss"]) + 1), curves["baseline_loss"], curves["loss"]
        if index == 0:
            losses.plot(steps, baseline, color="black", linewidth=2, label="unquantized, float32")
        (line,) = losses.plot(steps, loss, linewidth=1.2, label=name)
        shares = [100 * (own - other) / other for own, other in zip(loss, baseline, strict=True)]
        apart.plot(steps, shares, color=line.get_color(), linewidth=1.2)
    losses.set(xlabel="step", ylabel="loss", yscale="log")
    apart.set(xlabel="step", ylabel="loss beside the unquantized one, %")
    apart.axhline(0, color="black", linewidth=1)
    losses.legend(frameon=False, fontsize=8)
    figure.savefig(IMAGE, dpi=110)
    print(IMAGE)


def found(sweep: str, outputs: Path) -> dict[str, dict[str, list[float]]]:
    """Recipe -> both curves, of the runs of a sweep."""
    curves = {}
    for path in outputs.glob("runs/*/*/record.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        kept = path.with_name("losses.json")
        if record["sweep"] == sweep and kept.is_file():
            name = record["axes"]["quant"].removeprefix("training/")
            print(
                name, {key: value for key, value in record["metrics"].items() if key.startswith("quality/")}
            )
            curves[name] = json.loads(kept.read_text(encoding="utf-8"))
    return curves


if __name__ == "__main__":
    main(sys.argv[1], Path(*sys.argv[2:3] or ["outputs"]))

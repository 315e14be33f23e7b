"""One configuration in one process, everything imported anew: what a bash loop over a script does.

    python benchmarks/one_fresh_process.py quant=int8wo batch=4

The same measuring code and the same tracking as a sweep's run, without the sweep around it.
"""

import sys
from pathlib import Path

from hydra import compose, initialize_config_dir

from src.checks.validation import validate
from src.config.schema.root import register
from src.launching.publication import SweepPublisher
from src.local.devices import describe_device
from src.records.key import axes_of, run_key
from src.records.record import Record
from src.records.store import SweepManifest, next_attempt, run_folder
from src.run import execute


def main() -> None:
    """Compose, measure, record, publish."""
    register()
    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "conf"), version_base="1.3"):
        cfg = validate(compose("config", overrides=sys.argv[1:]))
    outputs = Path(cfg.outputs)
    key = run_key(cfg, describe_device(cfg.gpu, None))
    attempt = next_attempt(outputs, key)
    folder = run_folder(outputs, key, attempt)
    (folder / "config.yaml").write_text("{}\n")
    execute(cfg, Record(key, attempt, "loop", axes_of(cfg)), folder, lambda _: None)
    publisher = SweepPublisher(cfg.tracking, SweepManifest.start("loop", sys.argv), outputs)
    publisher.open()
    publisher.publish(folder)


if __name__ == "__main__":
    main()

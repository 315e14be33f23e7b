"""How long a model takes to start in a fresh process: from its packages, and by torch.compile, cold and cached."""

import math
import shutil
import sys
from dataclasses import replace

from src.context import RunContext
from src.devices.device import GIB
from src.outcomes import ended, log_text
from src.quality.sqnr import sqnr_db
from src.serialization.checkpoint import FOLDER, remove, write_info, write_weights
from src.serialization.fresh import Answer, Asked, call_fresh, digest, tensors_of
from src.tasks.arms.arm import Arm
from src.tasks.arms.packaged import packages_of

PACKAGE, COLD, CACHED = "start_s", "compile_cold_s", "compile_cached_s"


def measure_startup(treated: Arm, run: RunContext) -> None:
    """Start the treated model three times, each in a process of its own, which loads its weights first.

    What is timed goes from the loaded weights to the end of the first call: loading the packages, or compiling with
    an empty cache, or with the cache that that left. Where it cannot be done the record says why, and nothing else is
    lost.
    """
    if not (run.cfg.compile.package and run.cfg.measure.startup):
        return
    try:
        with run.phase("start in fresh processes"):
            _start_thrice(treated, run)
    except Exception as error:
        end = ended(error)
        run.record.details["startup_not_measured"] = f"{end.outcome}: {end.reason}"
        print(log_text(error), file=sys.stderr)


def _start_thrice(treated: Arm, run: RunContext) -> None:
    folder, cache = run.folder / FOLDER, run.folder / "startup_cache"
    compiled = replace(run.cfg, compile=replace(run.cfg.compile, package=False))
    packaged = Asked(packages=packages_of(treated.name, run.folder))
    ways = {
        PACKAGE: (run.cfg, packaged),
        COLD: (compiled, Asked(cache=cache)),
        CACHED: (compiled, Asked(cache=cache)),
    }
    state = dict(treated.workload.denoiser().state_dict())
    try:
        info = write_info(write_weights(state, folder, run.cfg.serialize), state, run.cfg, treated.rows)
        answers = {name: call_fresh(cfg, run.device, folder, asked) for name, (cfg, asked) in ways.items()}
    finally:
        remove(folder)
        shutil.rmtree(cache, ignore_errors=True)
    run.record.metrics |= {f"package/{name}": round(answer.start_s, 4) for name, answer in answers.items()}
    run.record.metrics["package/weights_load_s"] = round(answers[PACKAGE].load_s, 4)
    run.record.metrics["package/weights_gib"] = info.bytes / GIB
    _compare(treated, answers[PACKAGE], run)


def _compare(treated: Arm, fresh: Answer, run: RunContext) -> None:
    """Whether the package gives in the fresh process what it gave here."""
    here, there = tensors_of(treated.output), fresh.tensors()
    equal = digest(here) == digest(there)
    told: dict[str, float] = {"equal": equal, "pid": fresh.pid}
    if not equal and math.isfinite(found := sqnr_db(here, there)):
        told["sqnr_db"] = found
        said = f"in a fresh process the package gives another output: {found:.1f} dB"
        run.record.reason = "; ".join(filter(None, [run.record.reason, said]))
    run.record.details["fresh_package"] = told

"""A task that measures nothing: int8dq pays from K = 1000 on and is not to be had below 300, int8wo never pays."""

from src.context import RunContext
from src.records.record import Outcome


def pays_from_1000(run: RunContext) -> None:
    k = run.cfg.model.dims["K"]
    if run.cfg.quant.name == "int8dq" and k < 300:
        run.record.outcome, run.record.reason = Outcome.UNSUPPORTED, "K is less than 300"
        return
    ratio = (k / 1000) ** 0.1 if run.cfg.quant.name == "int8dq" else 0.7
    low, high = ratio / 1.005, ratio * 1.005
    run.record.outcome = Outcome.OK
    run.record.verdict = "helps" if low > 1.02 else "hurts" if high < 1 / 1.02 else "neutral"
    run.record.metrics |= {"speedup/ratio": ratio, "speedup/ci_low": low, "speedup/ci_high": high}
    run.record.shape = {"M": run.cfg.model.dims["M"], "K": k, "N": run.cfg.model.dims["N"]}

"""Every conf/quant and conf/compile entry is a run that ends in a finding on a CPU."""

import pytest

from src.outcomes import RunEndedError
from src.records.record import Outcome
from src.treatments.scheme import make_scheme
from src.workloads.device import Device
from tests.conftest import ROOT, SMALL_LINEAR, synthetic_rounds


def names(group):
    return sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))


@pytest.fixture(autouse=True)
def _no_search(monkeypatch):
    monkeypatch.setattr(
        "src.treatments.autoquant.measure_interleaved", lambda *_, **__: synthetic_rounds(1.5)
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("quant", names("quant"))
def test_a_scheme_runs_or_says_why_not(compose, execute_run, quant, dtype):
    record = execute_run(compose(*SMALL_LINEAR, f"quant={quant}", f"dtype={dtype}"))
    assert record.outcome in (Outcome.OK, Outcome.UNSUPPORTED), record.reason
    assert bool(record.reason) or record.outcome is Outcome.OK
    assert "\n" not in record.reason


@pytest.mark.parametrize("quant", names("quant"))
def test_a_scheme_on_rows_of_any_number(compose, execute_run, quant):
    record = execute_run(compose(*SMALL_LINEAR, f"quant={quant}", "model.dims.M=7"))
    assert record.outcome in (Outcome.OK, Outcome.UNSUPPORTED), record.reason


@pytest.mark.parametrize("mode", names("compile"))
def test_a_compile_mode_runs(compose, execute_run, mode):
    record = execute_run(compose(*SMALL_LINEAR, "quant=none", f"compile={mode}"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["compile/graph_breaks"] == 0
    assert record.metrics["compile/recompiles"] == 0


@pytest.mark.parametrize("group", ["quant", "compile", "gpu", "measure"])
def test_entries_say_what_they_are(compose, group):
    for name in names(group):
        node = getattr(compose(f"{group}={name}"), group)
        assert node.name == name
        assert node.description


@pytest.mark.parametrize("capability", [8.0, 8.9, 9.0, 10.0])
@pytest.mark.parametrize("quant", names("quant"))
def test_requirements_of_a_scheme_have_a_remedy(compose, quant, capability):
    device = Device(kind="cuda", name="NVIDIA GPU", memory_gib=80.0, compute_capability=capability)
    scheme = make_scheme(compose(f"quant={quant}").quant)
    try:
        scheme.check(device, "bfloat16")
    except RunEndedError as refused:
        outcome, remedy = refused.outcome, refused.remedy
    else:
        return
    assert outcome is Outcome.UNSUPPORTED
    assert remedy

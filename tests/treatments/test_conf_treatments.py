"""Every conf/quant and conf/compile entry is a run that ends in a finding on a CPU."""

import pytest

from src.compilation.exported import compile_ahead_of_time
from src.devices.capability import Status, capability
from src.devices.device import Device
from src.outcomes import RunEndedError
from src.records.record import EMULATED, Outcome
from src.treatments.scheme import make_scheme
from tests.conftest import SMALL_LINEAR, canonical, schemes, synthetic_rounds


@pytest.fixture(autouse=True)
def _no_search(monkeypatch):
    def come_out_faster(*_, rounds, **__):
        for own in rounds:
            vars(own).update(vars(synthetic_rounds(1.5)))

    monkeypatch.setattr("src.autoquant.trials.measure_jointly", come_out_faster)


@pytest.mark.parametrize("quant", schemes())
def test_on_this_cpu_a_scheme_does_what_is_predicted(compose, execute_run, cpu, quant):
    """A weight of 128 x 1024, so that what is stored can be compared with the bits that the entry names."""
    rows = 16 if quant == "codebook" else 128  # k-means takes seconds
    dims = f"model.dims={{M:16,K:1024,N:{rows}}}"
    cfg = compose("model=linear", dims, f"quant={quant}", "quant.emulate=true")
    predicted = capability(cfg.quant, cpu, cfg.dtype)
    record = execute_run(cfg)
    if predicted.status is Status.UNSUPPORTED:
        assert (record.outcome, record.reason) == (Outcome.UNSUPPORTED, predicted.reason)
        assert record.remedy
        return
    assert record.outcome is Outcome.OK, record.reason
    assert (record.verdict == EMULATED) == (predicted.status is Status.EMULATED)
    bits = cfg.quant.on("cpu").bits
    if bits is not None:
        assert record.metrics["quantize/layers"] == 1
        assert record.metrics["quality/sqnr_db"] > (8 if bits > 3 else 0)
        assert record.metrics["memory/model_gib"] * 2**33 / (rows * 1024) == pytest.approx(bits, abs=0.05)


@pytest.mark.parametrize("quant", schemes())
def test_in_other_dtypes_and_on_rows_of_any_number_a_scheme_runs_or_says_why_not(compose, execute_run, quant):
    for other in ("dtype=float16", "dtype=float32", "model.dims.M=7"):
        less = ("model.dims.N=32",) if quant == "codebook" else ()
        record = execute_run(compose(*SMALL_LINEAR, *less, f"quant={quant}", other))
        assert record.outcome in (Outcome.OK, Outcome.UNSUPPORTED), (other, record.reason)
        assert bool(record.reason) or record.outcome is Outcome.OK
        assert "\n" not in record.reason


@pytest.fixture(scope="module")
def codes():
    """What AOTInductor made of the one Linear of this file."""
    return []


@pytest.mark.parametrize("mode", canonical("compile"))
def test_a_compile_mode_runs(compose, execute_run, monkeypatch, codes, mode):
    """Packages of both arms and both modes hold the same code: g++ works on it once.

    A start in fresh processes: `tests/serialization/test_packages.py`.
    """

    def made_once(*asked):
        codes[:] = codes or [compile_ahead_of_time(*asked)]
        return codes[0]

    monkeypatch.setattr("src.serialization.package.compile_ahead_of_time", made_once)
    record = execute_run(compose(*SMALL_LINEAR, "quant=none", f"compile={mode}", "measure.startup=false"))
    assert record.outcome is Outcome.OK, record.reason
    assert record.metrics["compile/graph_breaks"] == 0
    assert record.metrics["compile/recompiles"] == 0


def test_schemes_say_what_they_are(entries):
    assert [conf.name for conf in entries.values()] == list(entries) == canonical("quant")
    assert all(conf.description for conf in entries.values())


@pytest.mark.parametrize("group", ["compile", "gpu", "measure"])
def test_entries_say_what_they_are(compose, group):
    for name in canonical(group):
        node = getattr(compose("model=linear", f"{group}={name}"), group)
        assert node.name == name
        assert node.description


@pytest.mark.parametrize("quant", schemes())
def test_requirements_of_a_scheme_have_a_remedy(entries, quant):
    scheme = make_scheme(entries[quant])
    for cc in (8.0, 8.9, 9.0, 10.0):
        device = Device(kind="cuda", name="NVIDIA GPU", memory_gib=80.0, compute_capability=cc)
        try:
            scheme.check(device, "bfloat16")
        except RunEndedError as refused:
            assert refused.outcome is Outcome.UNSUPPORTED  # noqa: PT017
            assert refused.remedy  # noqa: PT017

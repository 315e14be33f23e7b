"""What the report and the sentences say of packages."""

import pandas as pd

from src.analysis.runs.frame import MODES_OF
from src.report.runs.filters import Filters
from src.report.runs.starts import starts_in_words, starts_section


def frame(*rows):
    usual = dict.fromkeys(MODES_OF) | {
        "model": "flux-tiny",
        "target": "denoiser",
        "batch": 1,
        "resolution": 256,
        "dtype": "bfloat16",
        "device": "a <CPU>",
        "task": "latency",
        "quant": "int8wo",
        "variant": "",
        "outcome": "ok",
        "verdict": "neutral",
        "withheld": False,
        "reason": "",
    }
    return pd.DataFrame([usual | row for row in rows])


def packaged(start_s, **more):
    found = {
        "start_s": start_s,
        "compile_cold_s": 40.0,
        "compile_cached_s": 6.0,
        "size_mib": 4.25,
        "build_s": 33.0,
    }
    return (
        {"compile": "aot", "latency/median_ms": 20.0} | {f"package/{k}": v for k, v in found.items()} | more
    )


def test_without_packages_nothing_is_said():
    runs = frame({"compile": "default", "latency/median_ms": 21.5})
    assert starts_section(runs, Filters(runs)) == ""
    assert [*starts_in_words(runs)] == []


def test_a_package_stands_beside_torch_compile_of_the_same_scheme():
    runs = frame(
        packaged(0.05),
        {"compile": "default", "latency/median_ms": 21.5},
        {"compile": "none", "latency/median_ms": 19.25},
        {"compile": "default", "latency/median_ms": 17.25, "quant": "none"},
        {"compile": "default", "latency/median_ms": 11.25, "batch": 4},
        {"compile": "default", "latency/median_ms": 13.25, "variant": "layers=field_default"},
        {"compile": "default", "latency/median_ms": 77.25, "withheld": True},
    )
    text = starts_section(runs, Filters(runs))
    for cell in (">0.05<", ">6<", ">40<", ">4.2<", ">33<", ">20<", ">21.5<", "from a package: 0.05 s"):
        assert cell in text
    for other in ("19.2", "17.2", "11.2", "13.2", "77.2"):
        assert other not in text
    (said,) = starts_in_words(runs)
    assert said == (
        "Compiled ahead of time on a <CPU>: 1 package started in 0.05 s, which saves 5.95 s against torch.compile "
        "from its cache and 40 s against torch.compile with an empty one."
    )


def test_several_packages_have_a_range():
    (said,) = starts_in_words(frame(packaged(0.05), packaged(1.5, batch=4)))
    assert "2 packages started in 0.05 to 1.5 s" in said
    assert "busy" not in said


def test_each_device_has_its_own_range():
    said = [*starts_in_words(frame(packaged(0.05), packaged(9.0, device="a GPU")))]
    assert [sentence.partition(",")[0] for sentence in said] == [
        "Compiled ahead of time on a <CPU>: 1 package started in 0.05 s",
        "Compiled ahead of time on a GPU: 1 package started in 9 s",
    ]


def test_a_busy_machine_is_said():
    runs = frame(packaged(0.05, withheld=True, reason="other processes used 3 CPUs"))
    assert "int8wo · aot (busy)" in starts_section(runs, Filters(runs))
    assert next(iter(starts_in_words(runs))).endswith("Other processes kept the machine busy meanwhile.")

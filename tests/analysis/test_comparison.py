"""Two sweeps held against each other: real records on disk, the whole command."""

import csv
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from src.analysis import comparison
from src.analysis.comparison import BROKE, FASTER, MENDED, PAYS_LESS, SAME, SLOWER, UNDECIDED
from src.analysis.latencies import latency
from src.analysis.runs.recorded import recorded
from src.compare import compare
from src.config.errors import ConfigError
from src.config.schema.root import CompareConf
from src.records.pooled import process_folder
from src.records.record import Outcome, read_record
from src.records.store import SweepManifest
from tests.analysis.synthetic import Made, made

Put = Callable[..., Path]


def timed(key: str, quant: str, ms: float, baseline_ms: float = 84.2, **more: object) -> Made:
    """A run of a quantized arm's ms, spread by a percent."""
    found = made(key, baseline_ms / ms, spread=0.002, quant=quant, **more)  # type: ignore[arg-type]
    for arm, median in (("", ms), ("baseline_", baseline_ms)):
        found.record.metrics |= {
            f"latency/{arm}{name}_ms": median * factor
            for name, factor in {"median": 1.0, "p10": 0.99, "p90": 1.01}.items()
        }
    return found


def in_processes(key: str, *times_ms: float, **more: object) -> Made:
    """A run in several processes of such times of the quantized arm, of which the first gives the record."""
    found = timed(key, "int8wo", times_ms[0], **more)
    found.record.details["processes"] = {
        "planned": len(times_ms),
        "each": [
            {"process": number, "counts": True, "ratio": 84.2 / ms, "ci_low": 84 / ms, "ci_high": 84.4 / ms,
             "median_ms": ms, "baseline_median_ms": 84.2}
            for number, ms in enumerate(times_ms, 1)
        ],
    }  # fmt: skip
    found.record.metrics["speedup/processes"] = float(len(times_ms))
    return found


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """put("before", runs...): a folder of their records."""

    def write(name: str, *runs: Made) -> Path:
        outputs = tmp_path / name
        for run in runs:
            folder = outputs / "runs" / run.record.run_key / f"{run.record.attempt:03d}"
            folder.mkdir(parents=True, exist_ok=True)
            run.record.write(folder)
            if run.params:
                (folder / "config.yaml").write_text(yaml.dump(run.params))
        return outputs

    return write


def what(before: Path, after: Path, margin: float = 0.02, between: float = 0.0) -> dict[str, str]:
    """Scheme -> what became of it."""
    sides = [
        comparison.side(str(folder), Path("nowhere"), key)
        for key, folder in (("before", before), ("after", after))
    ]
    found = comparison.compare(sides[0], sides[1], margin, between)
    return {str(cell.after["quant"]): cell.what for cell in found.cells}


def test_each_cell_says_what_became_of_it(put: Put) -> None:
    no = {"outcome": Outcome.COMPILE_ERROR, "reason": "no kernel"}
    before = put(
        "before", timed("a", "int8wo", 100), timed("b", "int8dq", 100), timed("c", "float8wo", 100),
        made("d", quant="int4wo", **no), timed("e", "float8dq", 100), timed("f", "nf4", 100, 200),
    )  # fmt: skip
    after = put(
        "after", timed("a2", "int8wo", 90), timed("b2", "int8dq", 110), timed("c2", "float8wo", 100.5),
        timed("d2", "int4wo", 100), made("e2", quant="float8dq", **no), timed("f2", "nf4", 100, 150),
    )  # fmt: skip
    assert what(before, after) == {
        "int8wo": FASTER, "int8dq": SLOWER, "float8wo": SAME, "int4wo": MENDED, "float8dq": BROKE,
        "nf4": PAYS_LESS,  # as fast as before, but the unquantized model became faster
    }  # fmt: skip


def test_what_processes_differ_by_is_no_change(put: Put) -> None:
    before, after = put("before", timed("a", "int8wo", 100)), put("after", timed("a", "int8wo", 95))
    assert what(before, after) == {"int8wo": FASTER}
    assert what(before, after, between=0.03) == {"int8wo": UNDECIDED}


def test_processes_of_a_run_say_themselves_what_they_differ_by(put: Put) -> None:
    """4 % slower in 3 processes each, which differ by a few tenths of a percent; one each could not tell."""
    sides = [
        put(name, in_processes("a", *(ms * factor for factor in (0.998, 1.0, 1.003))))
        for name, ms in (("before", 100), ("after", 104.5))
    ]
    assert what(*sides, between=0.03) == {"int8wo": SLOWER}
    for side, ms in zip(
        sides, (100, 104.5), strict=True
    ):  # as records before told only the processes' speedups
        record = read_record(side / "runs" / "a" / "001" / "record.json")
        for each in record.details["processes"]["each"]:
            own = each.pop("median_ms"), each.pop("baseline_median_ms")
            left = timed("a", "int8wo", *own).record
            left.write(process_folder(side / "runs" / "a" / "001", each["process"]))
        record.write(side / "runs" / "a" / "001")
        assert record.metrics["latency/median_ms"] == ms * 0.998
    assert what(*sides, between=0.03) == {"int8wo": SLOWER}
    for each in (each for side in sides for each in side.glob("runs/a/001/processes/*/record.json")):
        each.unlink()
    assert what(*sides, between=0.03) == {"int8wo": PAYS_LESS}  # of the times only one process' are known


def test_times_of_another_device_or_manner_are_not_pooled(put: Put) -> None:
    def at(ms: float, attempt: int, device: str = "card", dtype: str = "bfloat16") -> Made:
        found = timed("a", "int8wo", ms, attempt=attempt, device=device)
        found.record.started_at = f"2026-11-0{attempt}T10:00:00+00:00"
        found.record.details |= {"baseline": {"dtype": dtype, "text": dtype}}
        return found

    before = put("before", at(300, 1, dtype="float16"), at(100, 2))
    after = put("after", at(300, 1, device="other"), at(100, 2))
    sides = [comparison.side(str(each), Path(), "") for each in (before, after)]
    (cell,) = comparison.compare(*sides, 0.02, 0.0).cells
    assert cell.what == SAME
    assert cell.time is not None
    assert cell.time.ratio == pytest.approx(1.0)


def test_what_the_device_tells_is_not_added_twice(put: Put) -> None:
    """An interval with the spread of other runs in it has no more to hold; one without gets 3 %."""
    others = [in_processes(f"o{batch}", 100.0, 100.5, 99.6, batch=batch) for batch in (2, 4, 8, 16)]
    sides = [(timed("a", "int8wo", 100, ms),) for ms in (84.2, 80.0)]
    assert what(put("b", *sides[0]), put("a", *sides[1]), between=0.03) == {"int8wo": UNDECIDED}
    before, after = (put(name, *side, *others) for name, side in zip(("b2", "a2"), sides, strict=True))
    found = comparison.compare(
        *(comparison.side(str(each), Path(), "") for each in (before, after)), 0.02, 0.03
    )
    (cell,) = (cell for cell in found.cells if cell.after["batch"] == 1)
    assert cell.what == PAYS_LESS
    assert cell.speedup is not None
    assert cell.speedup.high / cell.speedup.low < 1.06


def test_a_disturbed_run_is_neither_slower_nor_faster_and_that_is_said(
    put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    busy = timed("a", "int8wo", 125)
    busy.record.verdict, busy.record.details["withheld"] = "inconclusive", True
    busy.record.reason = "other processes used 3.0 of 4 CPUs"
    before, after = put("before", timed("a", "int8wo", 100)), put("after", busy)
    assert what(after, before) == {"int8wo": UNDECIDED}
    conf = CompareConf(str(before), str(after), str(tmp_path), str(tmp_path / "page"))
    assert compare(conf, Console(width=250)) == 0
    said = "nothing is said, as the measuring was disturbed after: other processes used 3.0 of 4 CPUs"
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "page" / "comparison.html").read_text()


@pytest.mark.parametrize("device", ["card A", "card B"])
def test_another_value_of_an_option_is_another_treatment(put: Put, device: str) -> None:
    def run(key: str, preset: str, on: str = "card A", **options: str) -> Made:
        chosen = {"quant.layers.name": preset, "quant.layers.include": f"those of {preset}"}
        return timed(key, "int8wo", 100, device=on, params=chosen | options)

    before = put("before", run("a", "all"), run("b", "attention", **{"quant.group_size": "64"}))
    after = put("after", run("c", "field_default", device), run("d", "attention", device))
    sides = [comparison.side(str(each), Path(), "") for each in (before, after)]
    found = comparison.compare(*sides, 0.02, 0.0)
    assert [(cell.before["run_key"], cell.after["run_key"]) for cell in found.cells] == [
        ("before/b", "after/d")
    ]
    assert [*found.only_before["run_key"], *found.only_after["run_key"]] == ["before/a", "after/c"]


def test_treatments_that_go_by_other_options_are_both_told(
    put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"quant.config.group_size": "64"}
    before, after = (
        put("before", timed("a", "int8wo", 100)),
        put("after", timed("b", "int8wo", 50, params=given)),
    )
    conf = CompareConf(str(before), str(after), str(tmp_path), str(tmp_path / "page"))
    assert compare(conf, Console(width=250)) == 0
    told = capsys.readouterr().out
    assert "int8wo (group_size=default) · default → int8wo (group_size=64) · default" in told


def test_two_machines_are_compared_and_a_variant_that_only_one_tells_is_let_go_of(
    put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    first = timed("a", "int8wo", 100, device="card A", params={"quant.layers.name": "all"})
    second = timed("b", "int8wo", 50, device="card B")
    before, after = put("before", first), put("after", second)
    assert what(before, after) == {"int8wo": FASTER}
    compare(CompareConf(str(before), str(after), report=str(before / "page")), Console(width=120))
    assert "device: card A → card B" in capsys.readouterr().out


def test_what_only_one_side_says_of_its_versions_is_no_difference(
    put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = timed("a", "int8wo", 100), timed("a", "int8wo", 100)
    first.record.environment |= {"cuda": "none", "driver": "550"}
    second.record.environment |= {"driver": "560"}
    before, after = put("before", first), put("after", second)
    compare(CompareConf(str(before), str(after), report=str(before / "page")), Console(width=120))
    told = capsys.readouterr().out
    assert "driver: 550 → 560" in told
    assert "cuda" not in told
    assert "none → unknown" in (before / "page" / "comparison.html").read_text()


def test_attempts_of_one_key_are_two_sides_in_two_sweeps(
    put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command on the same versions, with rerun=true."""
    outputs = put("o", timed("a", "int8wo", 100), timed("a", "int8wo", 130, attempt=2))
    for number, sweep in ((1, "old"), (2, "new")):
        manifest = SweepManifest.start(sweep, [])
        manifest.add("a", number, skipped=False)
        manifest.write(outputs)
    conf = CompareConf("old", "new", str(outputs), str(tmp_path / "page"))
    assert compare(conf, Console(width=120)) == 1
    told = capsys.readouterr().out
    assert "▼ slower" in told
    assert "1 slower" in told
    assert compare(CompareConf("new", "old", str(outputs), str(tmp_path / "page")), Console()) == 0
    page = (tmp_path / "page" / "comparison.html").read_text()
    assert "from new to old" in page
    assert not re.search(r"<(script|link)[^>]+(src|href)=\"http", page)
    (row,) = csv.DictReader((tmp_path / "page" / "comparison.csv").open())
    assert (row["what"], row["before/run_key"]) == ("faster", "a")
    low, high = (float(row[f"change/quantized/{end}"]) for end in ("low", "high"))
    assert low < 1.3 < high


def test_what_only_one_side_has_is_told_and_two_without_a_common_cell_are_refused(
    put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = put("before", timed("a", "int8wo", 100)), put("after", timed("b", "int8dq", 100))
    conf = CompareConf(str(before), str(after), str(tmp_path), str(tmp_path / "page"))
    with pytest.raises(ConfigError, match="no workload and treatment is in both"):
        compare(conf, Console(width=200))
    told = capsys.readouterr().out
    assert "only before, 1 runs: flux-tiny b1 256px int8wo · default" in told
    assert (tmp_path / "page" / "comparison.html").exists()


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"cache": "cold"}, "caches were warm before, cold after"),
        ({"pairing": "in_turn"}, "arms were interleaved before, in_turn after"),
        ({"power_cap": {}}, "speedups come from alternating rounds before, blocks after"),
    ],
)
@pytest.mark.parametrize("shape", [None, (16, 512, 512)])
def test_runs_that_were_measured_in_two_ways_are_not_compared(
    put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str], told: dict[str, object], says: str,
    shape: tuple[int, int, int] | None,
) -> None:  # fmt: skip
    before, after = (timed(key, "int8wo", ms, shape=shape) for key, ms in (("a", 100), ("b", 150)))
    for run in (before, after):
        run.record.details |= {"cache": "warm"}
    after.record.details |= told
    if "power_cap" in told:
        after.record.metrics["speedup/alternating_ratio"] = 1.0
    sides = put("before", before), put("after", after)
    assert what(*sides) == {"int8wo": UNDECIDED}
    conf = CompareConf(*map(str, sides), str(tmp_path), str(tmp_path / "page"))
    assert compare(conf, Console(width=250)) == 0
    assert f"nothing is said, as they were not measured alike: {says}" in capsys.readouterr().out


def test_what_a_record_does_not_say_of_its_caches_its_configuration_does(put: Put) -> None:
    sides = [
        put(name, timed(name, "int8wo", 100, params={"measure.cache": cache}))
        for name, cache in (("before", "warm"), ("after", "cold"), ("auto", "auto"))
    ]
    assert what(*sides[:2]) == {"int8wo": UNDECIDED}
    assert what(*sides[1:]) == {"int8wo": SAME}


def test_against_another_dtype_only_the_times_of_the_quantized_arm_are_compared(put: Put) -> None:
    def run(key: str, ms: float, dtype: str) -> Made:
        found = timed(key, "int8wo", ms)
        found.record.details |= {"baseline": {"dtype": dtype, "text": dtype}}
        return found

    before = put("before", run("a", 100, "bfloat16"))
    for name, ms, becomes in (("slow", 130, SLOWER), ("same", 100, UNDECIDED)):
        sides = [comparison.side(str(s), Path(), "") for s in (before, put(name, run("b", ms, "float16")))]
        (cell,) = comparison.compare(*sides, 0.02, 0.0).cells
        assert (cell.what, cell.baseline, cell.speedup) == (becomes, None, None)
        assert cell.time is not None
        assert cell.why == "the fastest unquantized dtype was bfloat16 before, float16 after"


def test_steps_and_other_treatments_are_compared_too(
    put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def side(name: str, ms: float) -> Path:
        on_ladder = {"ladder.step": "compiled", "ladder.order": '["compiled", "quantized"]'}
        return put(
            name,
            timed(f"{name}1", "none", ms, treatment="compile", params=on_ladder),
            timed(f"{name}2", "none", 100, treatment="recipe.fused_qkv"),
            timed(f"{name}3", "int8wo", 100),
        )

    sides = side("before", 100), side("after", 300)
    conf = CompareConf(*map(str, sides), str(tmp_path), str(tmp_path / "page"))
    assert compare(conf, Console(width=250)) == 1
    said = capsys.readouterr().out
    assert re.search(r"slower +flux-tiny b1 256px +none · default \[compiled\]", said)
    assert "none · default [recipe.fused_qkv]" in said
    assert "1 slower, 2 undecided" in said  # 3 % between processes


def test_a_run_whose_settings_cannot_be_read_is_left_out_and_named(
    put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = [put(name, timed("a", "int8wo", 100), timed("b", "int8dq", 100)) for name in ("before", "after")]
    config = sides[1] / "runs" / "b" / "001" / "config.yaml"
    for text in (b"a: [1", b"\xff\xfe", b"- 1"):
        config.write_bytes(text)
        assert what(*sides) == {"int8wo": SAME}
        frame, _ = recorded(sides[1], 0.02)
        assert frame["quant"].tolist() == ["int8wo"]
        assert f"{config}: not readable YAML" in capsys.readouterr().err
    conf = CompareConf(*map(str, sides), str(tmp_path), str(tmp_path / "page"))
    assert compare(conf, Console(width=250)) == 0
    assert f"{config.parent}: left out ({config}: not readable YAML" in capsys.readouterr().out
    assert "not readable YAML" in (tmp_path / "page" / "comparison.html").read_text()


def test_a_record_that_cannot_be_read_is_named(
    put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = [put(name, timed("a", "int8wo", 100), timed("b", "int8dq", 100)) for name in ("before", "after")]
    path = sides[1] / "runs" / "b" / "001" / "record.json"
    path.write_text("{")
    assert recorded(sides[1], 0.02)[0]["quant"].tolist() == ["int8wo"]
    assert f"{path}: not a readable record" in capsys.readouterr().err
    conf = CompareConf(*map(str, sides), str(tmp_path), str(tmp_path / "page"))
    assert compare(conf, Console(width=250)) == 0
    assert f"{path}: not a readable record" in capsys.readouterr().out


def test_what_is_no_sweep_and_no_folder_of_runs_is_one_line(put: Put, tmp_path: Path) -> None:
    put("empty")
    (tmp_path / "empty" / "runs").mkdir(parents=True)
    newer = tmp_path / "newer" / "runs" / "key" / "001" / "record.json"
    newer.parent.mkdir(parents=True)
    newer.write_text('{"schema_version": 99}')
    for given, problem in (
        ("20991231", "neither a sweep in"),
        (str(tmp_path / "empty"), "no readable records there$"),
        (str(tmp_path / "newer"), r"no readable records there \(.*record schema 99 is newer"),
    ):
        with pytest.raises(ConfigError, match=problem):
            comparison.side(given, tmp_path, "before")


def test_a_time_from_few_rounds_is_less_sure_than_a_normal_has_it(tmp_path: Path) -> None:
    """By Student's t: the fewer rounds, the less is known of their noise."""
    halves = []
    for pairs in (4.0, 4000.0):
        run = timed("a", "int8wo", 70.0).record
        run.metrics["speedup/pairs"] = pairs
        found = latency([(run, tmp_path)], "", 0.0, 0.95)
        assert found is not None
        halves.append(found.half * math.sqrt(pairs))
    assert halves[0] / halves[1] == pytest.approx(3.182 / 1.96, rel=0.01)

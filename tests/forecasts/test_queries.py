"""The shapes that a user asks about, and where they are taken to be meant."""

import pandas as pd
import pytest
import yaml

from src.config.errors import ConfigError
from src.forecasts.evidence.cells import OWN
from src.forecasts.forecast import UNKNOWN, Forecaster
from src.forecasts.queries import kernels_of, read_queries, usual_place
from tests.conftest import ROOT
from tests.forecasts.synthetic import DEVICE, made_cells


def asked(tmp_path, *lines: str):
    path = tmp_path / "shapes.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_queries(
        path, made_cells("grid.csv"), {"fp8dq": "float8dq"}, usual_place(made_cells("grid.csv"))
    )


def test_what_a_row_does_not_say_is_where_most_was_measured(tmp_path):
    (query,), refused = asked(tmp_path, "M,K,N,quant", "64,3072,3072,fp8dq")
    assert (query.device, query.compile, query.dtype, query.quant) == (
        DEVICE,
        "default",
        "bfloat16",
        "float8dq",
    )
    assert not refused


def test_a_row_may_name_device_compile_and_dtype(tmp_path):
    lines = ("M,K,N,quant,device,compile,dtype", "64,3072,3072,int8wo,5000,none,float32")
    (query,), _ = asked(tmp_path, *lines)
    assert (query.device, query.compile, query.dtype) == (DEVICE, "none", "float32")


def test_an_own_runs_device_is_the_usual_one():
    own = made_cells(OWN, device="Here, 2 threads").head(3)
    assert usual_place(pd.concat([made_cells("grid.csv"), own]))["device"] == "Here, 2 threads"


def test_wrong_rows_are_refused_and_missing_columns_an_error(tmp_path):
    rows = [f"{m},{k},64,int8wo" for m, k in ((0, 64), (8, 10**9), (8, 64))]
    queries, refused = asked(tmp_path, "M,K,N,quant", *rows)
    assert len(queries) == 1
    assert "shapes.csv, line 2: M=0: must be above 0" in refused[0]
    assert "line 3: K=1000000000" in refused[1]
    with pytest.raises(ConfigError, match=r"predict=.*column quant is missing; wanted are M, K, N, quant"):
        asked(tmp_path, "M,K,N", "1,2,3")


@pytest.mark.parametrize("cpu", ["cpu", "AMD EPYC 9654", "Intel Xeon Platinum 8480C"])
def test_a_cpu_is_not_predicted_by_the_cells_of_a_gpu(tmp_path, cpu):
    queries, _ = asked(tmp_path, "M,K,N,quant,device", f"1024,3072,3072,float8dq,{cpu}")
    (told,) = Forecaster(made_cells("grid.csv"))(queries).to_dict("records")
    assert told["verdict"] == UNKNOWN
    assert told["reason"] == f"nothing was measured on a device like {cpu}"


EPYCS = ("AMD EPYC (Zen 5), 2 threads", "AMD EPYC (Zen 4), 8 threads")


def test_a_part_of_several_names_is_no_device(tmp_path):
    both = pd.concat([made_cells(OWN, device=device) for device in EPYCS])
    path = tmp_path / "shapes.csv"
    path.write_text("M,K,N,quant,device\n8,64,64,int8wo,epyc\n8,64,64,int8wo,Zen 4\n8,64,64,int8wo,cpu\n")
    queries, refused = read_queries(path, both, {}, usual_place(both))
    assert [query.device for query in queries] == [EPYCS[1]]
    assert [line.partition("line ")[2] for line in refused] == [
        f"2: device=epyc: may be {EPYCS[0]} or {EPYCS[1]}; write more of the name",
        f"4: device=cpu: may be {EPYCS[0]} or {EPYCS[1]}; write more of the name",
    ]
    with pytest.raises(
        ConfigError, match=r"device=epyc: may be AMD EPYC \(Zen 5\), 2 threads or AMD EPYC \(Zen 4\)"
    ):
        usual_place(both, "epyc")


def test_cpu_is_the_only_one_that_is_known():
    both = pd.concat([made_cells("grid.csv"), made_cells(OWN, device=EPYCS[0])])
    assert usual_place(both, "cpu")["device"] == EPYCS[0]


def test_a_column_that_is_there_twice_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"predict=.*shapes.csv: column M is there twice"):
        asked(tmp_path, "M,K,N,quant,M", "1,2,3,int8wo,4")


def test_columns_that_are_not_read_are_said(tmp_path):
    queries, refused = asked(
        tmp_path, "M,K,N,quant,Device,gpu,Compile,note,,", "1,2,3,int8wo,H100,H100,none,mine,,"
    )
    assert len(queries) == 1
    assert [line.partition("line 1: ")[2] for line in refused] == [
        "column Device is not read; did you mean device?",
        "column gpu is not read; did you mean device?",
        "column Compile is not read; did you mean compile?",
        "column note is not read",
    ]
    _, refused = asked(tmp_path, "M,K,N,quant,device,gpu", "1,2,3,int8wo,H100,H100")
    assert [line.partition("line 1: ")[2] for line in refused] == ["column gpu is not read"]


def test_a_comma_among_the_digits_of_a_side_is_no_decimal(tmp_path):
    _, (refused,) = asked(tmp_path, "M,K,N,quant", '"1,024",2,3,int8wo')
    assert refused.endswith("line 2: M=1,024: a comma among the digits; write 1024")
    _, (refused,) = asked(tmp_path, "M,K,N,quant", "1,024,2,3,int8wo")
    assert refused.endswith("line 2: 5 values for 4 columns; a comma in a number?")


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (("quant=int4wo",), {"int4wo": "int4wo"}),
        (("quant=int4wo", "quant.group_size=32"), {"int4wo": "int4wo (group_size=32)"}),
        (("quant=uint4wo", "quant.group_size=32"), {"uint4wo": "uint4wo (group_size=32)"}),
        (("quant=autoquant", "quant.candidates.int4wo.group_size=32"), {"int4wo": "int4wo (group_size=32)"}),
        (("quant=int8wo", "quant.config.set_inductor_config=true"),
         {"int8wo": "int8wo (set_inductor_config=true)"}),
    ],
    ids=lambda given: " ".join(given),
)  # fmt: skip
def test_a_scheme_is_named_by_what_its_own_entry_has_otherwise(compose, overrides, names):
    """As `predict=model` names it by the words of a command, which a run does not know."""
    quant = compose(*overrides).quant
    others = {name: name for name in quant.candidates}
    assert kernels_of(quant) == others | names


def test_every_scheme_as_it_comes_is_named_by_its_name(compose):
    quant = compose("quant=autoquant").quant
    for path in (ROOT / "conf" / "quant").glob("*.yaml"):
        entry = yaml.safe_load(path.read_text())
        if "config" in entry:
            named = compose(f"quant={path.stem}").quant
            assert kernels_of(named) == {named.name: named.name}
    assert all(name == kernel for name, kernel in kernels_of(quant).items())

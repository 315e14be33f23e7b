import json

import pytest
from pandas.testing import assert_frame_equal

from src.analysis.runs.apart import of_sweep, sweep_keys
from src.analysis.runs.frame import WORKLOAD, compared, layer_level, model_level, standing, tidy
from src.analysis.runs.tracked.local_store import experiment_of, files_of
from src.analysis.runs.tracked.tracker import Tracker
from src.analysis.shapes import breakeven_table, shapes
from src.analysis.verdicts import image_metrics, workload_text
from src.config.errors import ConfigError
from src.config.schema.root import TrackingConf
from src.launching.preparation import write_config
from src.records.mlflow.content import settings
from src.records.mlflow.options import options
from src.records.record import Outcome
from src.records.store import SweepManifest
from tests.analysis.conftest import verdicts_table
from tests.analysis.synthetic import CPU, linear_runs, made, publish


def frame_of(store, runs, margin=0.02):
    name, _ = store.experiment(runs)
    return tidy(Tracker(TrackingConf(name="sqlite", uri=store.uri), name).runs(), margin)


def test_one_row_per_run_with_axes_metrics_and_verdict(store):
    frame = frame_of(
        store, [made("a", 1.2, batch=4), made("b", outcome=Outcome.UNSUPPORTED, reason="no <GPU>")]
    )
    ran, ended = frame.iloc[1], frame.iloc[0]
    assert (ran["model"], ran["quant"], ran["batch"], ran["resolution"]) == ("flux-tiny", "int8dq", 4, 256)
    assert (ran["verdict"], ran["speedup/ratio"]) == ("helps", pytest.approx(1.2))
    assert ran["memory/saved"] == pytest.approx(0.48)
    assert (ended["outcome"], ended["verdict"], ended["reason"]) == ("unsupported", "", "no <GPU>")
    assert frame["M"].isna().all()
    assert len(compared(frame)) == 1


def test_the_newest_attempt_with_a_finding_stands_for_a_key(store):
    runs = [
        made("k", 1.1, attempt=1),
        made("k", 1.3, attempt=2),
        made("k", attempt=3, outcome=Outcome.TIMEOUT),
    ]
    frame = frame_of(store, runs)
    assert frame["attempt"].tolist() == [2]
    assert frame["latency/median_ms"].tolist() == [pytest.approx(84.2 / 1.3)]
    assert frame["speedup/ratio"].tolist() == [pytest.approx((1.1 * 1.3) ** 0.5)]


def test_without_any_finding_the_newest_attempt_is_shown(store):
    frame = frame_of(store, [made("k", attempt=n, outcome=Outcome.KILLED) for n in (1, 2)])
    assert frame["attempt"].tolist() == [2]
    assert not frame["finding"].any()


def test_of_doubled_runs_the_first_counts(store):
    first, second = made("k", 1.1), made("k", 1.4)
    assert frame_of(store, [first, second])["run_id"].tolist() == first.run_ids


def test_runs_that_are_not_published_yet_are_left_out(store):
    name, experiment_id = store.experiment([made("a", 1.2)])
    publish(store.database, experiment_id, [made("b", 1.2)], published=False)
    store.client.create_run(experiment_id, tags={"kind": "sweep", "published": "1"})
    assert len(Tracker(TrackingConf(name="s", uri=store.uri), name).runs()) == 1


def test_options_that_tell_runs_apart_become_a_variant(store):
    runs = [made(f"g{size}", 1.0 + size / 1000, quant="int4wo",
                 params={"quant.group_size": str(size), "quant.name": "int4wo", "measure.budget_s": str(size)})
            for size in (32, 128)]  # fmt: skip
    frame = frame_of(store, runs)
    assert sorted(frame["variant"]) == ["group_size=128", "group_size=32"]
    assert frame["stands"].all()


def test_an_option_is_told_once_whatever_follows_from_it(store, compose, tmp_path):
    """As a configuration has it: an argument of the config, and a condition on layers."""
    runs = []
    for size in (32, 64):
        write_config(compose("quant=int4wo", f"quant.group_size={size}"), tmp_path)
        run = made(f"g{size}", 1.1, quant="int4wo")
        run.params |= options(settings(run.record, tmp_path))
        runs.append(run)
    frame = frame_of(store, runs)
    assert sorted(frame["variant"]) == ["group_size=32", "group_size=64"]
    runs[1].params["quant.per_device.cpu.config.group_size"] = "16"
    assert "per_device.cpu.config.group_size=16" in sorted(frame_of(store, runs)["variant"])[1]


def test_a_parameter_of_a_newer_schema_is_no_variant(store):
    runs = [made("old", 1.1), made("new", 1.2, params={"quant.min_gain": "0.02"}),
            made("free", 1.3, params={"quant.config.act": "x", "quant.min_gain": "0.02"})]  # fmt: skip
    assert sorted(frame_of(store, runs)["variant"]) == ["act=default", "act=default", "act=x"]


@pytest.mark.parametrize(
    ("others", "told"),
    [([], [""]),
     ([{"model.factory.num_layers": "2"}], ["", "options unknown"]),
     ([{"model.factory.num_layers": "2"}, {}],
      ["factory.num_layers=2", "factory.num_layers=default", "options unknown"])],
)  # fmt: skip
def test_what_a_record_without_its_configuration_was_told_is_not_the_default(store, others, told):
    """Records are published without `config.yaml`, and their options are not known."""
    bare = made("bare", 1.1)
    bare.params.clear()
    runs = [bare, *(made(f"known{at}", 1.2, params=each) for at, each in enumerate(others))]
    frame = frame_of(store, runs)
    assert sorted(frame["variant"]) == sorted(frame["model_options"]) == told
    assert frame["stands"].all()


@pytest.mark.parametrize(
    ("name", "texts", "told"),
    [("side", ("resolution // 16", "resolution / 16"), ["", ""]),  # what it comes to is in the workload's axes
     ("side", ("resolution / 8", "resolution / 16"), ["dims.side=resolution / 16", "dims.side=resolution / 8"]),
     ("side", ("resolution // 16", "(resolution + 15) // 16"),
      ["dims.side=(resolution + 15) // 16", "dims.side=resolution // 16"]),
     ("width", ("16 * resolution / 9", "resolution * 16 / 9"), ["", ""]),
     ("latent_frames", ("(frames - 1) / 4 + 1", "(frames + 3) / 4"), ["", ""]),
     ("side", ("no_such / 16", "no_such // 16"), ["dims.side=no_such / 16", "dims.side=no_such // 16"]),
     ("text_tokens", ("512 // 2", "512 // 4"), ["dims.text_tokens=512 // 2", "dims.text_tokens=512 // 4"]),
     ("text_tokens", ("512 // 2", "256"), ["", ""]),
     ("text_tokens", ("512", "128"), ["dims.text_tokens=128", "dims.text_tokens=512"])],
)  # fmt: skip
def test_a_size_in_other_words_is_no_other_model(store, name, texts, told):
    runs = [made(text, 1.1, params={f"model.dims.{name}": text}) for text in texts]
    frame = frame_of(store, runs)
    assert sorted(frame["model_options"]) == sorted(frame["variant"]) == told


def test_a_size_is_told_with_the_sizes_that_it_is_made_of(store):
    """The same words of another side come to another size, and that is told by the side."""
    other = {"model.dims.area": "side * side", "model.dims.side": "resolution / 16"}
    runs = [made("a", 1.1, params=other | {"model.dims.area": "(resolution / 16) * side"}),
            made("b", 1.1, params=other), made("c", 1.1, params=other | {"model.dims.side": "resolution / 8"}),
            ]  # fmt: skip
    assert sorted(frame_of(store, runs[:2])["model_options"]) == ["", ""]
    assert sorted(frame_of(store, runs[1:])["model_options"]) == [
        "dims.side=resolution / 16",
        "dims.side=resolution / 8",
    ]


def test_a_newer_run_of_the_same_replaces_an_older_one(store):
    frame = frame_of(store, [made("old", 1.1), made("new", 1.3), made("newest", outcome=Outcome.FAILED)])
    assert standing(frame)["run_key"].tolist() == ["new"]
    assert len(frame) == 3


def test_the_margin_of_the_analysis_decides(store):
    assert frame_of(store, [made("a", 1.05)], margin=0.02)["verdict"].tolist() == ["helps"]
    assert frame_of(store, [made("a", 1.05)], margin=0.10)["verdict"].tolist() == ["neutral"]


def test_a_verdict_withheld_by_the_run_stays_withheld(store):
    busy = made("a", 1.5, params={"measure.margin": "0.02"})
    busy.record.verdict = "inconclusive"
    frame = frame_of(store, [busy, made("b", 1.5, batch=2, params={"measure.margin": "0.02"})])
    assert frame["verdict"].tolist() == ["inconclusive", "helps"]
    assert frame["withheld"].tolist() == [True, False]


def test_a_withheld_verdict_stays_withheld_at_any_margin(store):
    """Its interval crosses the run's own margin too, so that its verdict alone does not tell."""
    name, _ = store.experiment([busy := made("a", 1.015, params={"measure.margin": "0.02"})])
    assert busy.record.verdict == "inconclusive"
    store.client.set_tag(busy.run_ids[0], "withheld", "1")
    found = Tracker(TrackingConf(name="sqlite", uri=store.uri), name).runs()
    for margin in (0.001, 0.02, 0.1):
        frame = tidy(found, margin)
        assert (frame["verdict"].item(), frame["withheld"].item()) == ("inconclusive", True)


def test_two_sweeps_attempts_are_no_doubles(store):
    first, second = made("k", 1.1, sweep="ann"), made("k", 1.4, sweep="bob")
    assert frame_of(store, [first, second])["run_id"].tolist() == second.run_ids


def test_an_unsupported_linear_keeps_the_shape_that_was_asked_for(store):
    run = made("u", outcome=Outcome.UNSUPPORTED, shape=(16, 512, 2048), quant="float8dq", batch=4)
    frame = frame_of(store, [run, made("r", 1.1, shape=(16, 512, 512))])
    assert layer_level(frame)[["M", "K", "N"]].to_numpy().tolist() == [[16, 512, 512], [64, 512, 2048]]
    assert model_level(frame).empty


def test_a_sweep_includes_what_it_skipped(store):
    runs = [made("early", 1.1, sweep="one", batch=1), made("own", 1.2, sweep="two", batch=2),
            made("other", 1.2, sweep="one", batch=4)]  # fmt: skip
    name, _ = store.experiment(runs)
    frame = tidy(Tracker(TrackingConf(name="s", uri=store.uri), name).runs(), 0.02)
    manifest = SweepManifest("two")
    manifest.add("early", 1, skipped=True)
    manifest.add("own", 1, skipped=False)
    elsewhere = store.outputs / f"elsewhere-{name}"
    assert of_sweep(frame, "two", sweep_keys("two", elsewhere))["run_key"].tolist() == ["own"]
    manifest.write(elsewhere)
    keys = sweep_keys("two", elsewhere)
    assert keys == {"early", "own"}
    assert set(of_sweep(frame, "two", keys)["run_key"]) == keys


def test_a_sweep_finds_runs_that_mention_it(store):
    run = made("early", 1.1, sweep="one")
    name, _ = store.experiment([run])
    store.client.set_tag(run.run_ids[0], "sweeps", " one two ")
    frame = tidy(Tracker(TrackingConf(name="s", uri=store.uri), name).runs(), 0.02)
    assert len(of_sweep(frame, "two", set())) == 1


def test_series_are_no_columns(store):
    run = made("a", 1.1)
    run.record.metrics |= {"rounds/treated_ms": 3.0, "distribution/treated_ms": 3.0}
    assert not [name for name in frame_of(store, [run]) if name.startswith(("rounds/", "distribution/"))]


@pytest.mark.parametrize(
    ("uri", "says"),
    [("", "has no uri"), ("sqlite:////nowhere/mlflow.db", "no database at"),
     ("http://127.0.0.1:9", "Connection refused"), ("gibberish://x", "cannot be read")],
)  # fmt: skip
def test_a_store_that_cannot_be_read_is_a_config_error(uri, says):
    with pytest.raises(ConfigError, match=says) as raised:
        Tracker(TrackingConf(name="x", uri=uri))
    assert "\n" not in str(raised.value)


def test_a_password_is_not_repeated():
    with pytest.raises(ConfigError) as caught:
        Tracker(TrackingConf(name="server", uri="http://me:secret@127.0.0.1:9"))
    assert "http://127.0.0.1:9" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_a_config_error(tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_text("not a database, but long enough to be taken for one" * 50)
    with pytest.raises(ConfigError, match="cannot be read"):
        Tracker(TrackingConf(name="x", uri=f"sqlite:///{path}"))


def test_a_missing_experiment_is_a_config_error_that_names_what_is_there(store):
    name, _ = store.experiment()
    with pytest.raises(ConfigError, match=rf"experiment=typo: not in .*{name}"):
        Tracker(TrackingConf(name="x", uri=store.uri), "typo")


def test_a_pipeline_is_another_workload_than_its_denoiser(store):
    runs = [made("part", 1.2), made("whole", 1.1, target="pipeline"), *linear_runs(((512, 512),), (1, 256))]
    frame = frame_of(store, runs)
    assert frame["stands"].all()
    models = model_level(frame)
    assert set(models["target"]) == {"denoiser", "pipeline"}
    assert [rows["target"].unique().tolist() for _, rows in models.groupby(WORKLOAD)] == [
        ["denoiser"],
        ["pipeline"],
    ]
    assert {curve.group["target"] for curve in shapes(frame)} == {"linear"}
    assert set(breakeven_table(frame)["target"]) <= {"linear"}
    assert set(models.apply(workload_text, axis=1)) == {"flux-tiny b1 256px", "flux-tiny/pipeline b1 256px"}


def test_image_quality_is_shown_where_there_is_some(store):
    whole = made("whole", 1.1, target="pipeline")
    whole.record.metrics |= {"quality/psnr_db": 31.44, "quality/lpips": 0.0712}
    without, with_images = (
        frame_of(store, runs) for runs in ([made("part", 1.2)], [made("part", 1.2), whole])
    )
    assert image_metrics(without) == []
    assert "PSNR" not in verdicts_table(without)
    html = verdicts_table(with_images)
    assert [part in html for part in ("PSNR, dB", "LPIPS", "31.4", "0.071")] == [True] * 4
    assert html.count("<td") == 2 * html.count("<th ")


def test_runs_that_compare_no_speed_are_no_part_of_the_analysis(store, analysing):
    """`task=serialize`: ok without a speedup, or unsupported for a reason that says nothing about speed."""
    aside = {"task.compares": "false"}
    runs = [
        made("compared", 1.2, params={"task.compares": "true"}),
        made("saved", params=aside, task="serialize"),
        made(
            "pickle",
            outcome=Outcome.UNSUPPORTED,
            reason="only an unsafe pickle",
            params=aside,
            task="serialize",
        ),
    ]
    assert frame_of(store, runs)["run_key"].tolist() == ["compared"]
    name, _ = store.experiment([*runs, made("linear", params=aside, task="serialize", shape=(16, 512, 512))])
    status, printed = analysing(store.conf(name))
    assert status == 0
    assert "1 run on 1 device; 1 compared a treatment" in " ".join(printed.split())
    assert "unsafe pickle" not in printed


def test_an_experiment_of_such_runs_only_has_nothing_to_analyse(store, analysing):
    name, _ = store.experiment([made("saved", params={"task.compares": "false"}, task="serialize")])
    status, printed = analysing(store.conf(name))
    assert (status, "no finished runs yet" in printed) == (1, True)


def test_presets_of_layers_are_variants_by_their_names(store):
    rules = {"quant.layers.min_side": "0", "quant.layers.exclude": "[]", "quant.layers.name": "all"}
    large = {
        "quant.layers.min_side": "1024",
        "quant.layers.exclude": '["embed"]',
        "quant.layers.name": "large",
    }
    runs = [made("a", 1.1, params=rules), made("l", 1.2, params=large)]
    assert sorted(frame_of(store, runs)["variant"]) == ["layers=all", "layers=large"]
    runs.append(made("m", 1.3, params=rules | {"quant.layers.min_side": "64"}))
    assert "layers.exclude=[], layers.min_side=64" in set(frame_of(store, runs)["variant"])


def test_a_preset_that_leaves_layers_out_is_told_where_no_other_run_has_another(store):
    """Beside a scheme's rows that say layers=all, one that says nothing would read as that."""
    runs = [made("a", 1.1, params={"quant.layers.name": "large"}),
            made("b", 1.2, quant="int4wo", params={"quant.layers.name": "all"})]  # fmt: skip
    assert sorted(frame_of(store, runs)["variant"]) == ["", "layers=large"]


def test_two_machines_of_one_name_are_two_devices(store):
    """One published as 0.57x and one as 3.29x: neither stands in the other's way."""
    identities = [{"cache_mib": 32, "aten": "AVX512"}, {"cache_mib": 16, "aten": "AVX512"}, None]
    runs = [made(key, speedup) for key, speedup in (("a", 0.57), ("b", 3.29), ("c", 1.1))]
    name, _ = store.experiment(runs)
    for run, identity in zip(runs, identities, strict=True):
        if identity:
            store.client.set_tag(run.run_ids[0], "device_identity", json.dumps(identity))
    frame = tidy(Tracker(TrackingConf(name="sqlite", uri=store.uri), name).runs(), 0.02)
    assert frame["stands"].all()
    assert set(frame["device"]) == {
        f"{CPU} [cache_mib=32]",
        f"{CPU} [cache_mib=16]",
        f"{CPU} [identity not recorded]",
    }


def test_the_old_name_of_the_speedup_is_still_read(store):
    """Runs that were tracked when the trimmed mean was called a median."""
    old = made("a", 1.2)
    old.record.metrics["speedup/median"] = old.record.metrics.pop("speedup/ratio")
    frame = frame_of(store, [old])
    assert (frame["verdict"][0], frame["speedup/ratio"][0]) == ("helps", pytest.approx(1.2))


def test_crossings_that_are_kept_are_those_of_the_same_numbers(store, tmp_path, monkeypatch):
    frame = standing(frame_of(store, list(linear_runs(((512, 512), (4096, 4096)), (1, 16, 256, 4096)))))
    monkeypatch.setattr("src.analysis.shapes._MANY", 1)
    told = breakeven_table(frame)
    assert told["m"].notna().any()
    assert_frame_equal(breakeven_table(frame, tmp_path), told)
    with monkeypatch.context() as patched:
        patched.setattr("src.analysis.shapes.crossings", None)  # nothing is computed again
        assert_frame_equal(breakeven_table(frame, tmp_path), told)
    faster = frame.assign(**{"speedup/ratio": frame["speedup/ratio"] * 1.01})
    assert_frame_equal(breakeven_table(faster, tmp_path), breakeven_table(faster))


def test_a_runs_files_are_found_where_mlflow_keeps_them(store, tmp_path):
    name, _ = store.experiment([made("a", 1.2)])
    tracker = Tracker(TrackingConf(name="s", uri=store.uri), name)
    run_id = tracker.runs()[0].info.run_id
    store.client.log_text(run_id, "told", "a.txt")
    assert tracker.artifact(run_id, "a.txt", tmp_path).read_text() == "told"
    assert tracker.artifact(run_id, "b.txt", tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    database = store.outputs / "mlflow.db"
    assert files_of(database, "no such run") is None
    assert experiment_of(database, name).id == tracker.experiment_id
    assert experiment_of(database, "no such experiment") is None

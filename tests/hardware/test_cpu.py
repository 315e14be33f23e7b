"""CPUs as /proc/cpuinfo of real machines shows them (shortened), and what oneDNN and ATen may be told."""

import os

import pytest

from src.hardware.cpu import cpu_identity, cpu_name
from src.records.key import run_key

AVX2 = "fpu sse4_2 avx f16c fma avx2"
AVX512 = f"{AVX2} avx512f avx512dq avx512bw avx512vl"
ZEN4 = f"{AVX512} avx512_bf16 avx512_vnni"
SPR = f"{ZEN4} avx512_fp16 amx_bf16 amx_tile amx_int8"
EPYC = "AMD EPYC"


def cpuinfo(vendor, family, model, flags, brand, stepping=1):
    return (
        f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nmodel name\t: {brand}\n"
        f"stepping\t: {stepping}\nflags\t\t: {flags}\n\nprocessor\t: 1\n"
    )


@pytest.fixture
def identity(tmp_path):
    """identity(cpuinfo, aten=, threads=, **environ): of a machine with that /proc/cpuinfo."""

    def of(text, aten="AVX512", threads=2, **environ):
        (tmp_path / "proc").mkdir(exist_ok=True)
        (tmp_path / "proc" / "cpuinfo").write_text(text)
        return cpu_identity(threads, aten, tmp_path, environ)

    return of


@pytest.mark.parametrize(
    ("text", "aten", "name"),
    [
        (cpuinfo("AuthenticAMD", 25, 1, AVX2, EPYC), "AVX2", "AMD EPYC (Zen 3, AVX2), 2 threads"),
        (cpuinfo("AuthenticAMD", 25, 17, ZEN4, EPYC), "AVX512", "AMD EPYC (Zen 4, AVX-512, bf16), 2 threads"),
        (
            cpuinfo("AuthenticAMD", 26, 2, ZEN4, "AMD EPYC 9755 128-Core Processor"),
            "AVX512",
            "AMD EPYC 9755 (Zen 5, AVX-512, bf16), 2 threads",
        ),
        (
            cpuinfo("GenuineIntel", 6, 85, f"{AVX512} avx512_vnni", "Intel(R) Xeon(R) CPU @ 2.80GHz", 7),
            "AVX512",
            "Intel Xeon (Cascade Lake, AVX-512, VNNI), 2 threads",
        ),
        (
            cpuinfo("GenuineIntel", 6, 85, AVX512, "Intel(R) Xeon(R) Gold 6148 CPU @ 2.40GHz", 4),
            "AVX512",
            "Intel Xeon Gold 6148 (Skylake, AVX-512), 2 threads",
        ),
        (
            cpuinfo("GenuineIntel", 6, 143, SPR, "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"),
            "AVX512",
            "Intel Xeon Platinum 8481C (Sapphire Rapids, AVX-512, AMX, bf16), 2 threads",
        ),
        (cpuinfo("Made up", 1, 1, AVX2, "A CPU of 2040"), "AVX2", "A CPU of 2040 (AVX2), 2 threads"),
    ],
)
def test_a_name_that_a_person_can_tell_apart(identity, text, aten, name):
    assert cpu_name(identity(text, aten)) == name


def test_an_arm_cpu_has_no_model_name_and_other_words(identity):
    text = "CPU implementer\t: 0x41\nFeatures\t: asimd sve i8mm bf16\nCPU part\t: 0xd40\nCPU revision\t: 1\n"
    assert cpu_name(identity(text, "SVE256")).endswith(" (Neoverse V1, SVE, bf16), 2 threads")


@pytest.mark.parametrize(
    ("aten", "environ", "units"),
    [
        ("AVX512", {}, "AVX-512, bf16"),
        ("AVX2", {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "AVX2, held down from AVX-512"),
        ("AVX2", {}, "AVX-512, bf16, ATen held to AVX2"),
        ("AVX512", {"ONEDNN_MAX_CPU_ISA": "avx2"}, "AVX-512, bf16, oneDNN held to AVX2"),
        ("AVX512", {"DNNL_MAX_CPU_ISA": "AVX512_CORE_VNNI"}, "AVX-512, bf16, oneDNN held to AVX-512, VNNI"),
        ("AVX512", {"ONEDNN_MAX_CPU_ISA": "ALL"}, "AVX-512, bf16"),
        ("AVX512", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, "AVX-512, bf16"),
    ],
)
def test_a_cpu_that_is_told_to_use_less_is_another_device(identity, aten, environ, units):
    text = cpuinfo("AuthenticAMD", 25, 17, ZEN4, EPYC)
    found = identity(text, aten, **environ)
    assert cpu_name(found) == f"AMD EPYC (Zen 4, {units}), 2 threads"
    assert (found == identity(text)) == (units == "AVX-512, bf16")


def test_two_machines_of_one_name_have_two_keys(identity, compose):
    """As it was: an EPYC without bf16 and one with it, both 'AMD EPYC' to their hypervisor."""
    cfg = compose()
    keys = {
        run_key(cfg, {"name": EPYC, "identity": identity(text, aten)})
        for text, aten in (
            (cpuinfo("AuthenticAMD", 25, 1, AVX2, EPYC), "AVX2"),
            (cpuinfo("AuthenticAMD", 25, 17, ZEN4, EPYC), "AVX512"),
            (cpuinfo("AuthenticAMD", 26, 2, ZEN4, EPYC), "AVX512"),
        )
    }
    assert len(keys) == 3


def test_threads_that_share_a_core_say_so(identity, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    for cpu in (0, 1):
        topology = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text("0")
        (topology / "core_id").write_text("7")
    found = identity(cpuinfo("AuthenticAMD", 25, 1, AVX2, EPYC), "AVX2")
    assert cpu_name(found) == "AMD EPYC (Zen 3, AVX2), 2 threads on 1 core"
    assert found["cores"] == 1

"""Profiles: what is made of a GPU's trace, written by hand, and a whole one of a toy on the CPU."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.profiler import ProfileData

from fpmd_mjx.bench import profile
from fpmd_mjx.bench.plan import PROFILED, Cell
from fpmd_mjx.bench.profile import Event, aggregate, busy_seconds
from fpmd_mjx.bench.timing import Table
from fpmd_mjx.program import Program

from ..conftest import QUICK
from ..toy import Corridor, build, tiny_config

US = 1_000_000  # picoseconds

STREAMS = """
planes {
  name: "/device:GPU:0"
  lines {
    name: "Stream #13(Compute,MemcpyD2H,Memset)" timestamp_ns: 1000
    EVENTS_OF_13
  }
  lines {
    name: "Stream #14(Compute)" timestamp_ns: 1000
    EVENTS_OF_14
  }
  lines { name: "CUPTI overhead" timestamp_ns: 1000 events { metadata_id: 1 duration_ps: 9000000 } }
  lines { name: "XLA Ops" timestamp_ns: 1000 events { metadata_id: 1 duration_ps: 90000000 } }
  METADATA
  stat_metadata { key: 1 value { id: 1 name: "hlo_op" } }
  stat_metadata { key: 2 value { id: 2 name: "cuda_graph_id" } }
}
planes {
  name: "/host:CPU"
  lines {
    name: "tf_XLAPjRtCpuClient/1" timestamp_ns: 1000
    events { metadata_id: 1 duration_ps: 500000000 stats { metadata_id: 1 str_value: "x" } }
  }
  event_metadata { key: 1 value { id: 1 name: "wrapped_add" } }
  stat_metadata { key: 1 value { id: 1 name: "hlo_op" } }
}
"""

NAMES = [
    "loop_add_fusion_3",
    "gemm_fusion_dot_1",
    "MemcpyD2H",
    "step_8f2e_cuda_kernel_forward",
    "Memset",
    "MemoryAlloc",
]


def gpu_trace() -> ProfileData:
    """Two streams over 100 us. A graph's two kernels on the second overlap the first's by 5 us."""

    def event(name: str, start: int, duration: int, graph: int = 0) -> str:
        stats = f"stats {{ metadata_id: 2 uint64_value: {graph} }}" if graph else ""
        return (
            f"events {{ metadata_id: {NAMES.index(name) + 1} offset_ps: {start * US} "
            f"duration_ps: {duration * US} {stats} }}"
        )

    first = [
        event("loop_add_fusion_3", 0, 10),
        event("loop_add_fusion_3", 10, 10),
        event("gemm_fusion_dot_1", 30, 20),
        event("MemcpyD2H", 60, 2),
        event("MemcpyD2H", 70, 2),
        event("Memset", 80, 1),
        event("MemoryAlloc", 0, 100),
        event("step_8f2e_cuda_kernel_forward", 95, 5),
    ]
    second = [
        event("loop_add_fusion_3", 15, 10, graph=7),
        event("gemm_fusion_dot_1", 45, 0, graph=7),
    ]
    metadata = [
        f'event_metadata {{ key: {i} value {{ id: {i} name: "{name}" }} }}'
        for i, name in enumerate(NAMES, 1)
    ]
    text = STREAMS.replace("EVENTS_OF_13", "\n".join(first))
    text = text.replace("EVENTS_OF_14", "\n".join(second)).replace("METADATA", "\n".join(metadata))
    return ProfileData.from_serialized_xspace(ProfileData.text_proto_to_serialized_xspace(text))


def test_a_gpu_trace_is_its_streams() -> None:
    found = profile.events(gpu_trace())
    assert len(found) == 9
    assert {event.name for event in found} == set(NAMES) - {"MemoryAlloc"}
    assert found[1] == Event("loop_add_fusion_3", 11000.0, 21000.0)
    assert [event for event in found if event.in_graph] == [
        Event("loop_add_fusion_3", 16000.0, 26000.0, True),
        Event("gemm_fusion_dot_1", 46000.0, 46000.0, True),
    ]


def test_what_a_gpu_trace_tells() -> None:
    found = aggregate(profile.events(gpu_trace()), vector_steps=2, updates=3)
    top = found.pop("top")
    assert found == {
        "busy_seconds": pytest.approx(55e-6),  # 0-25, 30-50, 60-62, 70-72, 80-81, 95-100
        "busy_share": pytest.approx(0.55),
        "kernels": 6,
        "graph_kernels_share": pytest.approx(2 / 6),
        "copies_to_host": 2,
        "kernels_per_vector_step": 3,
        "copies_to_host_per_vector_step": 1,
        "kernels_per_update": 2,
        "copies_share": pytest.approx(5 / 60),
        "warp_share": pytest.approx(5 / 60),
        "products_share": pytest.approx(20 / 60),
        "factorizations_share": 0,
        "indexing_share": 0,
        "fusions_share": pytest.approx(30 / 60),
        "other_share": 0,
    }
    assert isinstance(top, Table)
    assert top.columns == ("kernel", "kind", "count", "seconds", "share")
    assert [row[:3] for row in top.rows] == [
        ("loop_add_fusion_3", "fusions", 3),
        ("gemm_fusion_dot_1", "products", 2),
        ("step_8f2e_cuda_kernel_forward", "warp", 1),
        ("MemcpyD2H", "copies", 2),
        ("Memset", "copies", 1),
    ]
    assert top.rows[0][3:] == (pytest.approx(30e-6), pytest.approx(0.5))


def test_without_steps_or_updates_there_is_nothing_per_step_or_update() -> None:
    found = aggregate([Event("a", 0.0, 1.0)], vector_steps=0, updates=0)
    assert not any("_per_" in name for name in found)


def test_lines_that_are_no_streams_count_where_there_are_no_streams() -> None:
    text = STREAMS.replace("Stream #13(Compute,MemcpyD2H,Memset)", "some line")
    text = text.replace("Stream #14(Compute)", "XLA Modules").replace('name: "XLA Ops"', "")
    for word in ("EVENTS_OF_13", "EVENTS_OF_14"):
        text = text.replace(word, "")
    text = text.replace("METADATA", 'event_metadata { key: 1 value { id: 1 name: "k" } }')
    data = ProfileData.from_serialized_xspace(ProfileData.text_proto_to_serialized_xspace(text))
    assert {event.name for event in profile.events(data)} == {"k"}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nvjet_tst_128x64_64x8_2x1_v_bz_TNN", "products"),
        (
            "void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_64x64_16x6_nn_align4>(...)",
            "products",
        ),
        ("sm90_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize128x64x32", "products"),
        ("dot.3", "products"),
        ("void trsm_batch_left_kernel<float, 32>", "factorizations"),
        ("potrf_cta_32x32", "factorizations"),
        ("loop_dynamic_update_slice_fusion_2", "indexing"),
        ("dynamic-update-slice.4", "indexing"),
        ("wrapped_sort", "indexing"),
        ("input_scatter_fusion", "indexing"),
        ("loop_convert_fusion", "fusions"),
        ("loop_copy_fusion", "fusions"),
        ("copy_fusion", "fusions"),
        ("copy.12", "copies"),
        ("MemcpyD2D", "copies"),
        ("_solve_b71c_cuda_kernel_backward", "warp"),
        ("void RngBitGenerator", "other"),
    ],
)
def test_kinds_are_told_by_names(name: str, kind: str) -> None:
    assert Event(name, 0.0, 1.0).kind == kind


def test_the_longest_kernels_are_listed_with_short_names() -> None:
    many = [Event(f"k{i}", 0.0, float(i)) for i in range(1, 40)]
    top: Any = aggregate([*many, Event("x" * 200, 0.0, 100.0)], 1, 1)["top"]
    assert len(top.rows) == profile.TOP
    assert top.rows[0][0] == "x" * 77 + "..."
    assert [row[0] for row in top.rows[1:4]] == ["k39", "k38", "k37"]


def test_busy_is_the_union_of_what_overlaps() -> None:
    spans = (0.0, 10.0), (2.0, 4.0), (6.0, 11.0), (12.0, 13.0)
    found = [Event("a", *span) for span in spans]
    assert busy_seconds(found) == pytest.approx(12e-9)
    assert busy_seconds(found[::-1]) == pytest.approx(12e-9)


def test_what_encloses_others_does_not_count_beside_them() -> None:
    loop, inner = Event("cond.1", 0.0, 10.0), Event("while.1", 1.0, 6.0)
    work = [
        Event("a", 1.0, 3.0),
        Event("b", 3.0, 6.0),
        Event("c", 7.0, 8.0),
        Event("d", 11.0, 11.0),
    ]
    assert profile.innermost([*work, inner, loop]) == work
    assert profile.innermost([]) == []


def test_the_loops_of_a_cpu_do_not_count_beside_what_they_run() -> None:
    def step(x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return jnp.sort(x @ x) / 10, None

    x = jnp.ones((128, 128))
    loop = jax.jit(lambda x: jax.lax.scan(step, x, None, 7)[0]).lower(x).compile()
    found, seconds = profile.trace(lambda: jax.block_until_ready(loop(x)))
    assert sum(event.kind == "products" for event in found) == 7
    assert any(event.name.startswith("sort") for event in found)
    assert not any(event.name.startswith(("while", "call", "end:")) for event in found)
    assert 0 < busy_seconds(found) <= seconds


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Program, "compiler_options", QUICK)
    words = "seeds=2", "learn.collect_steps=3", "warmup_steps=20"
    program = build(Corridor(), *words)
    monkeypatch.setattr(
        profile,
        "make_program",
        lambda config: Program(config, program.algorithm, program.vector),
    )


@pytest.mark.usefixtures("toy")
def test_a_training_program_is_profiled() -> None:
    config = tiny_config("seeds=2", "learn.collect_steps=3", "warmup_steps=20")
    found: Any = profile.profile(Cell("", config))
    per_step = found["profile.kernels_per_vector_step"]
    assert "profile.kernels_per_update" not in found  # not those of updates alone
    assert found["profile.kernels"] == per_step * 3 * profile.ITERATIONS
    assert per_step > 5
    assert 0 < found["profile.busy_share"] <= 1
    assert found["profile.seconds"] > 0
    assert found["profile.tracing_slowdown"] > 0.2
    kinds = [*profile.KINDS, "other"]
    assert sum(found[f"profile.{kind}_share"] for kind in kinds) == pytest.approx(1)
    rows = found["profile.top"].rows
    assert 5 < len(rows) <= profile.TOP
    assert [row[3] for row in rows] == sorted((row[3] for row in rows), reverse=True)


@pytest.mark.usefixtures("toy")
def test_the_kernels_of_updates_are_counted_alone() -> None:
    config = tiny_config("seeds=2", "learn.collect_steps=3", "warmup_steps=20")
    found = profile.profile(Cell("", config, part="learn"))
    updates = profile.ITERATIONS * config.learn.updates
    assert found["profile.kernels"] == found["profile.kernels_per_update"] * updates
    assert "profile.kernels_per_vector_step" not in found


@pytest.mark.usefixtures("toy")
def test_a_part_alone_and_a_profiler_that_sees_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def trace(run: Callable[[], None]) -> Any:
        run()
        ran.append(run)
        return [], 1.0

    monkeypatch.setattr(profile, "trace", trace)
    config = tiny_config("seeds=2", "learn.collect_steps=3", "warmup_steps=20")
    assert profile.profile(Cell("", config, part="collect")) == {}
    assert len(ran) == 1
    assert "recorded no kernels on cpu" in " ".join(capsys.readouterr().err.split())


def test_a_chunk_has_few_iterations_whatever_an_epoch_has() -> None:
    for overrides in (["epoch_steps=400000"], ["epoch_steps=1", "learn.collect_steps=3"]):
        config = profile.shortened(tiny_config(*overrides))
        assert config.iterations_per_epoch == profile.ITERATIONS


def test_every_part_is_known() -> None:
    assert set(profile.PARTS) == set(PROFILED)

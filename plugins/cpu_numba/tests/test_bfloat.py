"""Products on a matrix unit: right where there is one, compiled everywhere with all sums in its registers."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from harness import DEVICE, check, graph_of, node, offers_of, random, run_offer, target
from softneuro_cpu_numba.amx import SIDE, Tiles, has_matrix_unit, tile_config
from softneuro_cpu_numba.bfloat import MIN_SPLIT_ROWS, SPLIT_ERROR, multiplies_bfloat
from softneuro_cpu_numba.emit.compile import assembly
from softneuro_cpu_numba.matrix_rows import MatrixRows
from softneuro_cpu_numba.native import emitted_text

from softneuro_core.device import Target
from softneuro_core.windows import Window, as_window

needs_unit = pytest.mark.skipif(not has_matrix_unit(target(), "AMX_BF16"), reason="this CPU has no matrix unit")
CONVOLUTIONS = [  # channels, outputs, size, kernel, strides, pads, dilations
    (64, 64, (14, 14), (1, 1), (1, 1), (0, 0), (1, 1)),
    (2, 1, (1, 1), (1, 1), (1, 1), (0, 0), (1, 1)),
    (24, 40, (5, 7), (1, 1), (1, 1), (0, 0), (1, 1)),
    (34, 17, (7, 9), (1, 1), (2, 2), (0, 0), (1, 1)),
    (32, 33, (7, 7), (3, 3), (1, 1), (1, 1), (1, 1)),
    (20, 96, (14, 30), (3, 3), (1, 1), (1, 1), (1, 1)),
    (16, 48, (19, 35), (3, 3), (2, 2), (1, 1), (1, 1)),
    (8, 24, (12, 11), (5, 3), (2, 1), (2, 0), (1, 2)),
    (3, 32, (23, 37), (3, 3), (2, 2), (1, 1), (1, 1)),
    (1, 16, (9, 20), (7, 7), (1, 1), (3, 3), (1, 1)),
    (4, 20, (33, 18), (7, 7), (2, 2), (3, 3), (1, 1)),
]


@needs_unit
@pytest.mark.parametrize("tail", ["none", "residual", "clip"])
@pytest.mark.parametrize("channels, outputs, size, kernel, strides, pads, dilations", CONVOLUTIONS)
def test_convolution(
    channels: int,
    outputs: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int],
    dilations: tuple[int, int],
    tail: str,
) -> None:
    x, w = random(2, channels, *size), random(outputs, channels, *kernel, seed=1)
    conv = node("Conv", "xwb", "c", strides=strides, pads=[*pads, *pads], dilations=dilations)
    nodes, inputs, constants = [conv], {"x": x}, {"w": w, "b": random(outputs, seed=2)}
    if tail == "residual":
        out = [
            (n + 2 * p - (k - 1) * d - 1) // s + 1
            for n, p, k, d, s in zip(size, pads, kernel, dilations, strides, strict=True)
        ]
        nodes += [node("Add", "cr", "s"), node("Relu", "s", "y")]
        inputs["r"] = random(2, outputs, *out, seed=3)
    elif tail == "clip":
        most = np.float32(3 * np.sqrt(w[0].size))
        nodes += [node("Clip", ["c", "low", "high"], "y")]
        constants |= {"low": np.float32(0), "high": most}
    few = size == (1, 1)
    check(nodes, inputs, constants, expect=["cpu/conv_bfloat16"] + ["cpu/conv_bfloat16x3"] * (not few))


@needs_unit
@pytest.mark.parametrize("rows, depth, columns", [(1, 64, 10), (5, 2, 16), (197, 192, 576), (33, 40, 50)])
def test_matrix_product(rows: int, depth: int, columns: int) -> None:
    nodes = [node("MatMul", "ab", "p"), node("Add", "pc", "s"), node("Gelu", "s", "y")]
    constants = {"b": random(depth, columns, seed=1), "c": random(columns, seed=2)}
    check(nodes, {"a": random(rows, depth)}, constants, opset=20, expect=["cpu/gemm_bfloat16"])
    offered = {routine.name for routine, _, _ in offers_of(graph_of(nodes, {"a": random(rows, depth)}, constants, 20))}
    assert ("cpu/gemm_bfloat16x3" in offered) == (rows >= MIN_SPLIT_ROWS)


def split_of(nodes: list[onnx.NodeProto], x: np.ndarray, constants: dict[str, np.ndarray]) -> np.ndarray:
    """What the routine of three products computes."""
    for routine, region, offer in offers_of(graph_of(nodes, {"x": x}, constants)):
        if routine.name.endswith("bfloat16x3"):
            assert not offer.uses, "float32 in and out, nothing to be allowed"
            return run_offer(routine, region, offer, [x])
    raise AssertionError("not offered")


@needs_unit
def test_three_products_have_the_accuracy_of_float32() -> None:
    """About 3e-5 of the absolute products at worst; of 600 that add up, a fifteenth of that at most is seen."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((40, 600)).astype(np.float32) * np.exp2(rng.integers(-20, 20, (40, 1))).astype(np.float32)
    b = rng.standard_normal((600, 70)).astype(np.float32)
    seen = split_of([node("MatMul", "xb", "y")], x, {"b": b})
    exact, size = x.astype(np.float64) @ b, np.abs(x).astype(np.float64) @ np.abs(b)
    assert np.max(np.abs(seen - exact) / size) < 2e-6 < SPLIT_ERROR


@needs_unit
def test_what_is_no_number_stays_so_and_infinities_are_no_finite_result() -> None:
    x = np.ones((4, 8), np.float32)
    x[0, 3], x[1, 3], x[2, 3] = np.inf, -np.inf, np.nan
    seen = split_of([node("MatMul", "xb", "y")], x, {"b": np.full((8, 3), 0.3, np.float32)})
    assert not np.isfinite(seen[:3]).any()
    np.testing.assert_allclose(seen[3], 2.4, rtol=1e-5)


@needs_unit
@pytest.mark.parametrize("shape, streams", [((264, 512, 3, 3), 4), ((520, 1040, 1, 1), 4), ((264, 512, 1, 1), 2)])
def test_weights_that_stream(shape: tuple[int, ...], streams: int) -> None:
    """Every two tiles ask for a share of the next panel, in several places; that changes no result."""
    out, channels, side, _ = shape
    conv = node("Conv", "xw", "y", pads=[side // 2] * 4)
    made = check([conv], {"x": random(1, channels, 7, 7)}, {"w": random(*shape)}, expect=["cpu/conv_bfloat16"])
    assert {"unit": "amx"} in [offer.params for _, offer in made]
    window = Window(1, channels, (7, 7), (7, 7), (side, side), (1, 1), (1, 1), (side // 2,) * 4)
    rows = MatrixRows(window, channels // 2, out, side == 1, 1)
    tiles = rows.tiles
    assert tiles.streams == streams
    assert 2 * tiles.lines * tiles.streams >= 2 * rows.step  # two pairs of tiles hold all pixels


@pytest.mark.skipif(not multiplies_bfloat(target()), reason="this CPU does not multiply bfloat16")
@pytest.mark.parametrize("strides, pads", [([1, 1], [1, 1, 1, 1]), ([2, 1], [0, 0, 0, 0])])
def test_vectors_of_pairs(strides: list[int], pads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("softneuro_cpu_numba.bfloat.has_matrix_unit", lambda target, feature: False)
    nodes = [node("Conv", "xwb", "c", strides=strides, pads=pads), node("Relu", "c", "y")]
    constants = {"w": random(41, 10, 3, 3, seed=1), "b": random(41, seed=2)}
    found = check(nodes, {"x": random(2, 10, 9, 7)}, constants, expect=["cpu/conv_bfloat16"])
    assert {"unit": "avx512"} in [offer.params for _, offer in found]
    product = [node("MatMul", "ab", "y")]
    check(product, {"a": random(5, 66)}, {"b": random(66, 20, seed=1)}, expect=["cpu/gemm_bfloat16"])


@pytest.mark.parametrize("source, parts, loads", [("pointwise", 1, 4), ("runs", 1, 4), ("runs", 2, 8)])
def test_no_sum_leaves_its_register(source: str, parts: int, loads: int) -> None:
    """The busiest loop holds four products for four loads (twelve for eight in two parts), nothing else of memory."""
    product = "tdpbf16ps"
    params = {"tiles": Tiles(16, 16, pixels_first=True, parts=parts), "last": (2, 0), "source": source, "planes": 0}
    text = assembly(
        emitted_text("bfloat", "rows", "amx!", **params, act="relu", residual=True, stored="bfloat16"), "amx!"
    )
    loops = re.split(r"\n\.LBB", text)
    busiest = max(loops, key=lambda lines: lines.count(product))
    assert busiest.count(product) == 4 * (2 * parts - 1)
    assert busiest.count("tileloadd") == loads
    between = busiest[busiest.index("tileloadd") : busiest.rindex(product)]
    assert "tilestored" not in busiest and "(%rsp" not in between


def test_only_what_the_processor_has() -> None:
    plain = Target(DEVICE, 1, "AVX2,FMA3")
    assert not has_matrix_unit(plain, "AMX_BF16")


def test_shapes_of_the_registers() -> None:
    config = tile_config(13, 12)
    assert config[0] == 1
    assert config[16:32].view(np.uint16).tolist() == [64, 64, 64, 64, 48, 48, 64, 64]
    assert config[48:56].tolist() == [13] * 6 + [12] * 2


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "window",
    [
        as_window(49, 16),
        Window(2, 16, (7, 7), (7, 7), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
        Window(1, 16, (14, 30), (14, 30), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
        Window(1, 16, (15, 35), (8, 18), (3, 3), (2, 2), (1, 1), (1, 1, 1, 1)),
    ],
)
def test_every_output_pixel_is_in_a_tile_once(window: Window, threads: int, parts: int) -> None:
    rows = MatrixRows(window, 8, 32, window.is_pointwise and parts == 1, threads, parts=parts)
    if rows.in_place:
        assert rows.tile_rows <= min(SIDE, window.pixels)
        assert -(-window.pixels // rows.tile_rows) == -(-window.pixels // SIDE)
        return
    *_, counts, firsts, pixels = rows.words_of(0, pitched=False)
    assert isinstance(counts, np.ndarray) and isinstance(firsts, np.ndarray) and isinstance(pixels, np.ndarray)
    most = rows.cut.most_rows
    found = sorted(n for n in pixels.tolist() if 0 <= n < most * window.out[1])
    assert found == list(range(most * window.out[1]))
    assert counts[most] == len(firsts)


@pytest.mark.parametrize("side", [7, 14, 28])
def test_blocks_of_one_thread_are_alike(side: int) -> None:
    """A last block of few rows would read all weights for little."""
    window = Window(1, 512, (side, side), (side, side), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1))
    cut = MatrixRows(window, 256, 512, False, 1).cut
    blocks = [min(cut.most_rows, side - first) for first in range(0, side, cut.most_rows)]
    assert max(blocks) - min(blocks) < len(blocks)

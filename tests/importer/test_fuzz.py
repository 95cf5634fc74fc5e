"""Mutated model files: each loads or gives one error of ours, quickly and in bounded memory."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from evaluate import model
from shared_models import ROOT

from softneuro_core.errors import SoftneuroError
from softneuro_core.importer import load

SMALL = [
    """g (float[N,3,8,8] x) => (float[N,K] y)
    <float[4,3,1,1] w = {1,2,3,4,5,6,7,8,9,1,2,3}, float[4] b = {1,2,3,4}, int64[2] s = {0,-1}> {
        c = Conv <pads = [1,1,1,1], strides = [2,2]> (x, w, b) r = Relu(c) p = MaxPool <kernel_shape = [2,2]> (r)
        h = Shape(p) y = Reshape(p, s) }""",
    """g (bool c, float[4] x) => (float[4] y, float[K,4] all) <int64 n = {3}, bool go = {1}> {
        z = If (c) <then_branch = t () => (float[4] a) { a = Neg(x) },
                    else_branch = e () => (float[4] b) { b = Abs(x) }>
        y, all = Loop (n, go, z) <body = b (int64 i, bool p, float[4] s) => (bool q, float[4] t, float[4] u) {
            q = Identity(p) t = Add(s, x) u = Neg(t) }> }""",
    """g (uint8[1,4] x) => (uint8[1,2] y) 
    <float s = {0.5}, uint8 z = {7}, int8[4,2] w = {1,2,3,4,5,6,7,8}, int8 o = {0}> {
        d = DequantizeLinear(x, s, z) f = DequantizeLinear(w, s, o) m = MatMul(d, f) y = QuantizeLinear(m, s, z) }""",
]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The file with some bytes changed, cut out, put in or cut off; aimed at the structure more than at weights."""
    made = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        if not made:
            break
        place = rng.randrange(len(made))
        if rng.random() < 0.6:
            place = max(made.find(b"\n", place), 0)
        how = rng.random()
        if how < 0.5:
            made[place] = rng.randrange(256)
        elif how < 0.7:
            made[place] ^= 1 << rng.randrange(8)
        elif how < 0.8:
            del made[place : place + rng.randrange(1, 20)]
        elif how < 0.9:
            made[place:place] = rng.randbytes(rng.randrange(1, 9))
        else:
            del made[place:]
    return bytes(made)


def loads_or_refuses(data: bytes) -> bool:
    """True if it loads; any exception that is not ours goes through."""
    try:
        load(data).check()
    except SoftneuroError as error:
        assert str(error) and "\n" not in str(error)
        return False
    return True


def fuzz(originals: list[bytes], seed: int, count: int) -> None:
    rng = random.Random(seed)
    results = [loads_or_refuses(mutated(rng.choice(originals), rng)) for _ in range(count)]
    assert 0 < sum(results) < count  # some mutants hit only weights and names, some are broken


def test_mutants_of_small_models() -> None:
    fuzz([model(text, opset=13).SerializeToString() for text in SMALL], seed=1, count=600)


@pytest.mark.long
@pytest.mark.models
@pytest.mark.parametrize("seed", range(4))
def test_mutants_of_real_models(seed: int) -> None:
    paths = [p for p in sorted(ROOT.glob("*/*.onnx")) if p.stat().st_size < 2_500_000]
    if not paths:
        pytest.skip("the shared models are not here")
    fuzz([Path(p).read_bytes() for p in paths], seed=seed, count=1000)

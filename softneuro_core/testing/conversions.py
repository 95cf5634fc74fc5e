"""An adapter on a value: which conversions it accepts, and whether each keeps its promises."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from softneuro_core.catalog import Catalog
from softneuro_core.device import is_handed_over
from softneuro_core.encoding import encode
from softneuro_core.graph import Value
from softneuro_core.routine import Adapter
from softneuro_core.spec import DType, Layout, QParams, TensorSpec
from softneuro_core.testing.checks import run_checks
from softneuro_core.testing.measure import Expected, compare
from softneuro_core.testing.subject import Finding, Report, Subject

LAYOUTS = tuple(map(Layout, ("NCHW", "NHWC", "NCHW4c", "NCHW8c", "NCHW16c")))
SHAPES = ((), (7,), (3, 17), (2, 5, 9), (1, 1, 1, 1), (2, 3, 5, 7), (1, 16, 4, 4), (1, 17, 3, 33), (1, 5, 2, 3, 4))
DTYPES = ("float32", "float16", "bfloat16", "float64", "int8", "uint8", "int32", "int64", "bool")
QUANTISED = ("int8", "uint8")


@dataclass(frozen=True, slots=True)
class Conversion:
    """One value to be converted: its shape and dtype, from and to which spec, plain or with NaN and infinities."""

    shape: tuple[int, ...]
    dtype: DType
    src: TensorSpec
    dst: TensorSpec
    special: bool = False

    @property
    def name(self) -> str:
        shape = "x".join(map(str, self.shape)) or "scalar"
        specs = f"{self.src}-to-{self.dst}".replace(":", "_")
        return f"{specs}-{shape}" + ("-nan" if self.special else "")

    def value(self) -> Value:
        """A value named ``x`` of this shape; with scale and zero point where a spec is quantised."""
        schemes = {self.src.dtype.name, self.dst.dtype.name} & set(QUANTISED) if self.dtype.is_float else set()
        numbers = None
        if schemes:
            zero = np.array(3, np.int8) if "int8" in schemes else np.array(130, np.uint8)
            numbers = QParams(np.array(0.03, np.float32), zero, on_grid=True)
        return Value("x", self.dtype, self.shape, qparams=numbers)

    def array(self, seed: int) -> np.ndarray:
        """Contents in the value's dtype, ONNX order."""
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        if not self.dtype.is_float:
            high = 2 if self.dtype.name == "bool" else 100
            return rng.integers(0, high, self.shape).astype(self.dtype.numpy)
        array = rng.standard_normal(self.shape).astype(self.dtype.numpy)
        if self.special:
            flat = array.reshape(-1)
            flat[:: max(1, flat.size // 7)] = np.nan
            flat[1::5], flat[2::5] = np.inf, -np.inf
        return array


def conversions(catalog: Catalog, adapter: Adapter, layouts: Iterable[Layout] = ()) -> Iterator[Conversion]:
    """Everything the adapter accepts between the catalog's devices, over :data:`LAYOUTS` and those given."""
    known = dict.fromkeys([*LAYOUTS, *layouts])
    names = [DType.parse(name) for name in DTYPES]
    specs = [TensorSpec(d, t, layout) for d, t, layout in product(catalog.devices, names, known)]
    for src, dst in product(specs, specs):
        for dtype in dict.fromkeys((src.dtype, dst.dtype)):
            yield from _accepted(adapter, src, dst, dtype)


def _accepted(adapter: Adapter, src: TensorSpec, dst: TensorSpec, dtype: DType) -> Iterator[Conversion]:
    if src == dst or not all(_holds(spec, dtype) for spec in (src, dst)):
        return
    for shape in SHAPES:
        if all(_is_meant_for(spec.layout, len(shape)) for spec in (src, dst)):
            found = Conversion(shape, dtype, src, dst)
            if adapter.accepts(src, dst, found.value()):
                yield found
                if src.dtype.is_float and dst.dtype.is_float and len(shape) == 4:
                    yield Conversion(shape, dtype, src, dst, special=True)


def _holds(spec: TensorSpec, dtype: DType) -> bool:
    """A value may be stored in its own type, in another float, or quantised if it is real."""
    return spec.dtype == dtype or (dtype.is_float and (spec.dtype.is_float or spec.dtype.name in QUANTISED))


def _is_meant_for(layout: Layout, rank: int) -> bool:
    return rank >= 3 if not layout.is_plain(rank) or str(layout) != "NCHW" else True


def check_adapter(catalog: Catalog, name: str, conversion: Conversion) -> Report:
    """All checks on one conversion."""
    adapter = catalog.adapters[name]
    value, where = conversion.value(), f"{name} on {conversion.name}"
    problems = [Finding(check, where, detail) for check, detail in _answers(adapter, conversion, value)]
    accuracy = adapter.error(conversion.src, conversion.dst, value)
    subject = Subject(
        name=where,
        catalog=catalog,
        device=name.partition("/")[0],
        prepare=lambda target: adapter.prepare(conversion.src, conversion.dst, value, target),
        inputs=((value, conversion.src),),
        outputs=((value, conversion.dst),),
        arrays=[conversion.array(0)],
        wanted=_wanted(conversion, value, 0),
        other_arrays=[conversion.array(1)],
        other_wanted=_wanted(conversion, value, 1),
        accuracy=accuracy if conversion.dst.dtype.is_float else max(accuracy, 0.0),
        inplace=0 if is_handed_over(conversion.src, conversion.dst, catalog.homes) else None,
    )
    outcome = run_checks(subject)
    found = outcome.found or list(_round_trip(catalog, adapter, conversion, subject))
    problems += [Finding(check, where, detail) for check, detail in found]
    return Report(1, tuple(problems), outcome.max_error, outcome.nmse)


def _wanted(conversion: Conversion, value: Value, seed: int) -> Expected:
    """The value as the source holds it: what the source's type has lost is not the adapter's fault."""
    array = conversion.array(seed)
    held = encode(array, value, conversion.src)
    if held.dtype.kind in "iu" and value.dtype.is_float:
        assert value.qparams is not None
        scale, zero = value.qparams.scale, value.qparams.zero_point
        array = (held.astype(np.float64) - zero.astype(np.float64)) * scale.astype(np.float64)
        return Expected((array,), 0.0)
    with np.errstate(all="ignore"):
        return Expected((held.astype(np.float64) if value.dtype.is_float else held,), 0.0)


def _answers(adapter: Adapter, conversion: Conversion, value: Value) -> Iterator[tuple[str, str]]:
    if not all(adapter.accepts(conversion.src, conversion.dst, value) for _ in range(3)):
        yield "pure", "accepts() changed its mind"
    errors = {adapter.error(conversion.src, conversion.dst, value) for _ in range(3)}
    error = errors.pop()
    if errors or not (isinstance(error, (int, float)) and error >= 0):
        yield "pure", f"error() says {error!r}" + (f", then {errors}" if errors else ", wanted a number of 0 or more")


def _round_trip(catalog: Catalog, adapter: Adapter, there: Conversion, subject: Subject) -> Iterator[tuple[str, str]]:
    """There and back gives the value again, within what both conversions declare."""
    value = there.value()
    back = next((a for a in _backwards(catalog, adapter) if a.accepts(there.dst, there.src, value)), None)
    if back is None or (there.dst.dtype.name in QUANTISED and there.src.dtype.is_float):
        return
    first = subject.rig(subject.prepare(subject.target()))
    first.load(subject.arrays)
    first.run()
    device = back.name.partition("/")[0]
    kernel = back.prepare(there.dst, there.src, value, catalog.target(device, 1))
    second = _reversed(subject, device).rig(kernel)
    second.load([first.outputs()[0].astype(value.dtype.numpy, copy=False)])
    second.run()
    allowed = adapter.error(there.src, there.dst, value) + back.error(there.dst, there.src, value)
    error = compare(second.outputs()[0], subject.wanted.arrays[0], value, there.src, allowed)
    if error.problem:
        yield "round-trip", f"back by {back.name}: {error.problem}"


def _backwards(catalog: Catalog, adapter: Adapter) -> Sequence[Adapter]:
    return [adapter, *(a for a in catalog.adapters.values() if a is not adapter)]


def _reversed(subject: Subject, device: str) -> Subject:
    from dataclasses import replace

    return replace(subject, device=device, inputs=subject.outputs, outputs=subject.inputs)

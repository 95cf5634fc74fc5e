"""Run by test_oclgrind in a process whose only OpenCL device is Oclgrind's interpreter: every offer of every routine on
a few of the kit's smallest cases. What a kernel does wrong the interpreter writes to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import softneuro_opencl
from softneuro_opencl import programs

import softneuro_core as sn
from softneuro_core.catalog import Catalog
from softneuro_core.graph import Region
from softneuro_core.rig import Rig
from softneuro_core.routine import Offer, Routine
from softneuro_core.testing.case import Case
from softneuro_core.testing.cases import all_cases
from softneuro_core.testing.routines import regions_of

CASES_EACH = 3
MOST_ELEMENTS = 3000


def main() -> None:
    catalog = sn.load_plugins(only=(), modules={"opencl": softneuro_opencl})
    device = catalog.devices["opencl"]
    assert "Oclgrind" in device.fingerprint(), device.fingerprint()
    small = sorted((c for c in all_cases() if size(c) <= MOST_ELEMENTS), key=size)
    for name, routine in catalog.routines.items():
        if not name.startswith("opencl/"):
            continue
        tried = 0
        for case in small:
            offers = list(offered(catalog, routine, case))
            for region, offer in offers:
                run(catalog, routine, case, region, offer)
            tried += bool(offers)
            if tried == CASES_EACH:
                break
        print(f"{name}: {tried} cases", flush=True)
        assert tried, f"{name} is offered for no small case"


def size(case: Case) -> int:
    return sum(array.size for array in (*case.inputs.values(), *case.constants.values()))


def offered(catalog: Catalog, routine: Routine, case: Case) -> Iterator[tuple[Region, Offer]]:
    target = catalog.target("opencl", 1)
    for region in regions_of(routine, case.graph(catalog.operators)):
        yield from ((region, offer) for offer in routine.offers(region, target))


def run(catalog: Catalog, routine: Routine, case: Case, region: Region, offer: Offer) -> None:
    kernel = routine.prepare(region, offer, catalog.target("opencl", 1))
    ends = [list(zip(v, s, strict=True)) for v, s in ((region.inputs, offer.inputs), (region.outputs, offer.outputs))]
    rig = Rig(kernel, *ends, catalog.devices, routine_device="opencl")
    rig.load([case.inputs[value.name] for value in region.inputs])
    rig.calls[0].run()
    rig.synchronize()
    assert rig.zones_intact() is None, f"{routine.name} on {case.name}"
    assert all(np.asarray(made).size for made in rig.outputs())


def wrong() -> None:
    """A row too many: read and written behind the end."""
    import pyopencl as cl

    (device,) = softneuro_opencl.softneuro_devices()
    kernel = programs.kernel(device, "rows.cl", "softmax", {"ITEMS": 1})
    x, y = device.constant(np.ones(8, np.float32)), device.alloc(32)
    kernel.set_args(x, np.uint64(0), y, np.uint64(0), np.int32(4))
    cl.enqueue_nd_range_kernel(device.queue, kernel, (3,), (1,))
    device.synchronize()


if __name__ == "__main__":
    wrong() if sys.argv[1:] == ["wrong"] else main()

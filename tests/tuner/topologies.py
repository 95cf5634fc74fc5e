"""Selection problems on real and realistic topologies with made-up costs, straight from ONNX protos or by hand."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import onnx

from softneuro_core.tuner.problem import Conversion, Option, Problem

LIGHT_NETS = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)


@dataclass
class Topology:
    """Layers as (inputs, outputs) of value numbers; ``kind`` decides which routines a layer has."""

    sources: tuple[int, ...]
    layers: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    sinks: tuple[int, ...] = ()
    next_value: int = 0

    @classmethod
    def begin(cls) -> Topology:
        return cls((0,), next_value=1)

    def add(self, kind: str, *inputs: int) -> int:
        """Appends a layer of one output, and returns that value."""
        self.layers.append((kind, inputs, (self.next_value,)))
        self.next_value += 1
        return self.next_value - 1


def light_net(name: str) -> Topology:
    """The graph of ``light_<name>.onnx`` of the onnx wheel; constants and what follows from them are left out."""
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    graph = onnx.load(str(folder / f"light_{name}.onnx")).graph
    constant = {tensor.name for tensor in graph.initializer}
    numbers: dict[str, int] = {}
    topology = Topology(())
    for value in graph.input:
        if value.name not in constant:
            numbers[value.name] = len(numbers)
    topology.sources = tuple(numbers.values())
    for node in graph.node:
        inputs = [name for name in node.input if name and name not in constant]
        if not inputs:
            constant.update(node.output)
            continue
        made = [numbers.setdefault(name, len(numbers)) for name in node.output if name]
        topology.layers.append((node.op_type, tuple(numbers[name] for name in inputs), tuple(made)))
    topology.sinks = tuple(numbers[value.name] for value in graph.output)
    topology.next_value = len(numbers)
    return topology


def yolo(stages: int = 4, depth: int = 2) -> Topology:
    """A backbone with skips, then a feature pyramid down (FPN) and up again (PAN), one head per scale."""
    net = Topology.begin()
    x, taps = 0, []
    for _ in range(stages):
        x = net.add("Relu", net.add("Conv", x))
        parts = [x]
        for _ in range(depth):
            x = net.add("Add", x, net.add("Conv", net.add("Conv", x)))
            parts.append(x)
        x = net.add("Conv", net.add("Concat", *parts))
        taps.append(x)
    down = [taps[-1]]
    for tap in reversed(taps[1:-1]):
        up = net.add("Resize", net.add("Conv", down[-1]))
        down.append(net.add("Conv", net.add("Concat", up, tap)))
    up_path = [down[-1]]
    for feature in reversed(down[:-1]):
        strided = net.add("Conv", up_path[-1])
        up_path.append(net.add("Conv", net.add("Concat", strided, feature)))
    heads = [net.add("Conv", net.add("Conv", feature)) for feature in up_path]
    net.sinks = (net.add("Concat", *heads), up_path[0])
    return net


def nasnet(cells: int = 4) -> Topology:
    """Cells of five pairwise sums over the outputs of the two cells before, all concatenated."""
    net = Topology.begin()
    before = net.add("Conv", 0)
    last = net.add("Conv", before)
    for _ in range(cells):
        a, b = net.add("Conv", last), net.add("Conv", before)
        sums = [
            net.add("Add", net.add("Conv", a), net.add("Conv", b)),
            net.add("Add", net.add("Conv", b), net.add("Conv", b)),
            net.add("Add", net.add("AveragePool", a), b),
            net.add("Add", net.add("AveragePool", b), net.add("AveragePool", b)),
            net.add("Add", net.add("Conv", a), a),
        ]
        before, last = last, net.add("Concat", b, *sums)
    net.sinks = (net.add("GlobalAveragePool", last),)
    return net


def dense_block(layers: int = 10) -> Topology:
    """DenseNet as papers draw it: every layer concatenates all values before it."""
    net = Topology.begin()
    values = [net.add("Conv", 0)]
    for _ in range(layers):
        values.append(net.add("Conv", net.add("Relu", net.add("Concat", *values))))
    net.sinks = (net.add("Concat", *values),)
    return net


@dataclass(frozen=True)
class Specs:
    """``count`` specs over ``devices`` devices: every conversion inside a device, transfers between a few."""

    count: int
    devices: int = 1

    def device(self, spec: int) -> int:
        return spec * self.devices // self.count

    def edges(self) -> Iterator[tuple[int, int]]:
        """Neighbours in layout or dtype within a device, the first two specs of devices with each other."""
        size = self.count // self.devices
        for a in range(self.count):
            for b in range(self.count):
                same = self.device(a) == self.device(b)
                if a != b and (_near(a % size, b % size) if same else a % size == b % size < 2):
                    yield a, b


def _near(a: int, b: int) -> bool:
    """Two specs of a device as (dtype, layout of four): one adapter changes one of them, layouts via plain NCHW."""
    return (a // 4 == b // 4 and 0 in (a % 4, b % 4)) or a % 4 == b % 4 == 0


def problem_of(net: Topology, specs: Specs, seed: int = 0, segment_ns: Mapping[int, int] | None = None) -> Problem:
    """Made-up costs of the right shape: compute layers dear and choosy, the others cheap in any uniform spec,
    conversions in proportion to a size per value, and every Conv+Relu and Conv+Add also as one routine."""
    rng = random.Random(seed)
    size = {value: rng.choice((20, 60, 200)) for value in range(net.next_value)}
    options = [option for i in range(len(net.layers)) for option in _single(net, i, specs, size, rng)]
    options += [option for i in range(len(net.layers)) for option in _fused(net, i, specs, size, rng)]
    tables = {n: {edge: Conversion(n * rng.randrange(60, 140)) for edge in specs.edges()} for n in (20, 60, 200)}
    return Problem(
        len(net.layers),
        tuple(options),
        {value: tables[n] for value, n in size.items()},
        dict.fromkeys(net.sources, 0),
        tuple((value, 0) for value in net.sinks),
        segment_ns or {},
    )


COMPUTE = frozenset({"Conv", "Gemm", "MatMul"})


def _single(net: Topology, layer: int, specs: Specs, size: dict[int, int], rng: random.Random) -> Iterator[Option]:
    kind, inputs, outputs = net.layers[layer]
    work = size[outputs[0]] * (1500 if kind in COMPUTE else 60)
    for spec in range(specs.count):
        made = spec
        if kind in COMPUTE and rng.random() < 0.3:  # some kernels read one layout and write another
            made = rng.choice([s for s in range(specs.count) if specs.device(s) == specs.device(spec)])
        time = work * rng.randrange(50, 200) // 100
        yield Option(
            (layer,), tuple((v, spec) for v in inputs), tuple((v, made) for v in outputs), specs.device(spec), time
        )


def _fused(net: Topology, layer: int, specs: Specs, size: dict[int, int], rng: random.Random) -> Iterator[Option]:
    kind, inputs, outputs = net.layers[layer]
    if kind not in ("Relu", "Add"):
        return
    readers, maker = _uses(net)
    for value in dict.fromkeys(inputs):
        head = maker.get(value)
        if head is None or readers[value] != [layer] or value in net.sinks or net.layers[head][0] != "Conv":
            continue
        outer = net.layers[head][1] + tuple(v for v in inputs if v != value)
        for spec in range(0, specs.count, 3):
            time = size[outputs[0]] * 1560 * rng.randrange(50, 200) // 100
            reads, made = tuple((v, spec) for v in outer), tuple((v, spec) for v in outputs)
            yield Option((head, layer), reads, made, specs.device(spec), time)


def _uses(net: Topology) -> tuple[dict[int, list[int]], dict[int, int]]:
    readers: dict[int, list[int]] = {}
    for i, (_, inputs, _) in enumerate(net.layers):
        for value in inputs:
            readers.setdefault(value, []).append(i)
    return readers, {value: i for i, (_, _, outputs) in enumerate(net.layers) for value in outputs}


@cache
def light_problem(name: str, count: int, devices: int = 1, segment_ns: int = 0) -> Problem:
    """A light net with costs."""
    segments = dict.fromkeys(range(1, devices), segment_ns) if segment_ns else {}
    return problem_of(light_net(name), Specs(count, devices), 1, segments)

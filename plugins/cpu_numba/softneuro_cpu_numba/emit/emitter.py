"""Writes LLVM IR: loops with carried values, vectors, pointers. Knows nothing of convolution.

Everything is emitted in SSA form with accumulators as phi nodes, so LLVM's middle-end passes are not run: they cost
more time than the code generator and gain nothing. ``llvm.fmuladd`` is an FMA where the CPU has one and a multiply
and an add elsewhere; no fast-math flag is used, so results do not depend on how a kernel was vectorised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from llvmlite import ir

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F32 = ir.FloatType()
Value = Any
"""An llvmlite IR value (llvmlite has no type stubs)."""
Index = Any
"""An i64 IR value or a Python int."""


class Bfloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not know."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bfloat)

    def __hash__(self) -> int:
        return hash(Bfloat)


class Emitter:
    """One kernel ``void name(const int64* args, int64 begin, int64 end, void* scratch)`` under construction.

    ``lanes`` is the width of its vectors in float32 elements. Offsets of loads and stores count elements.
    ``narrows_bfloat``: the target rounds to bfloat16 in one instruction.
    """

    def __init__(self, name: str, lanes: int, narrows_bfloat: bool = False) -> None:
        self.lanes, self.narrows_bfloat = lanes, narrows_bfloat
        self.module = ir.Module(name)
        signature = ir.FunctionType(ir.VoidType(), [I64.as_pointer(), I64, I64, I8.as_pointer()])
        self.function = ir.Function(self.module, signature, name)
        self.args, self.begin, self.end, self.scratch = self.function.args
        self.b = ir.IRBuilder(self.function.append_basic_block("entry"))
        self._constants: dict[str, Value] = {}

    def finish(self) -> str:
        """The module's text."""
        self.b.ret_void()
        return str(self.module)

    # -- integers and addresses

    def i(self, value: Index) -> Value:
        """An i64: a constant for a Python int, the value itself otherwise."""
        return ir.Constant(I64, value) if isinstance(value, int) else value

    def add(self, *terms: Index) -> Value:
        total = self.i(terms[0])
        for term in terms[1:]:
            if not (isinstance(term, int) and term == 0):
                total = self.b.add(total, self.i(term))
        return total

    def sub(self, x: Index, y: Index) -> Value:
        return self.b.sub(self.i(x), self.i(y))

    def mul(self, *factors: Index) -> Value:
        total = self.i(factors[0])
        for factor in factors[1:]:
            if not (isinstance(factor, int) and factor == 1):
                total = self.b.mul(total, self.i(factor))
        return total

    def divmod(self, x: Index, y: Index) -> tuple[Value, Value]:
        """Quotient and remainder of non-negative numbers."""
        quotient = self.b.udiv(self.i(x), self.i(y))
        return quotient, self.sub(x, self.mul(quotient, y))

    def less(self, x: Index, y: Index) -> Value:
        return self.b.icmp_signed("<", self.i(x), self.i(y))

    def smaller(self, x: Index, y: Index) -> Value:
        return self.b.select(self.less(x, y), self.i(x), self.i(y))

    def larger(self, x: Index, y: Index) -> Value:
        return self.b.select(self.less(x, y), self.i(y), self.i(x))

    def word(self, position: Index) -> Value:
        """Argument number ``position`` as an integer."""
        return self.b.load(self.b.gep(self.args, [self.i(position)]))

    def words(self, first: int, count: int) -> list[Value]:
        return [self.word(first + n) for n in range(count)]

    def number(self, position: int) -> Value:
        """Argument number ``position`` as the float32 in its low bits."""
        return self.b.bitcast(self.b.trunc(self.word(position), I32), F32)

    def floats(self, address: Value) -> Value:
        """A float pointer to an address (an integer or any pointer)."""
        if isinstance(address.type, ir.PointerType):
            return self.b.bitcast(address, F32.as_pointer())
        return self.b.inttoptr(address, F32.as_pointer())

    def stored(self, address: Value, dtype: str) -> Value:
        """A pointer to elements of ``dtype``, as :meth:`load_stored` takes it."""
        if dtype == "float32":
            return self.floats(address)
        return self.b.inttoptr(address, (I8 if dtype == "int8" else I16).as_pointer())

    def integers(self, address: Value) -> Value:
        return self.b.inttoptr(address, I64.as_pointer())

    def at(self, pointer: Value, offset: Index) -> Value:
        """The pointer ``offset`` elements on."""
        return pointer if isinstance(offset, int) and offset == 0 else self.b.gep(pointer, [self.i(offset)])

    def lookup(self, table: Sequence[int], index: Value) -> Value:
        """``table[index]`` of a constant table."""
        kind = ir.ArrayType(I64, len(table))
        constant = ir.GlobalVariable(self.module, kind, f"table{len(self.module.globals)}")
        constant.linkage, constant.global_constant = "private", True
        constant.initializer = ir.Constant(kind, [ir.Constant(I64, n) for n in table])
        return self.b.load(self.b.gep(constant, [self.i(0), index]))

    def integer(self, pointer: Value, offset: Index) -> Value:
        """The int64 at ``pointer[offset]``."""
        return self.b.load(self.at(pointer, offset))

    # -- vectors

    def vector_type(self, lanes: int | None = None, element: Any = F32) -> Any:
        return ir.VectorType(element, lanes or self.lanes)

    def constant(self, number: float) -> Value:
        """A vector of this number in every lane: always the same object, whose text llvmlite makes but once."""
        name = float(number).hex()  # 0.0 and -0.0 are equal
        if name not in self._constants:
            self._constants[name] = ir.Constant(self.vector_type(), [number] * self.lanes)
        return self._constants[name]

    def load(self, pointer: Value, offset: Index = 0) -> Value:
        place = self.b.bitcast(self.at(pointer, offset), self.vector_type().as_pointer())
        return self.b.load(place, align=4)

    def load_integers(self, pointer: Value, offset: Index, element: Any, lanes: int | None = None) -> Value:
        """A vector of integers of this type, from anywhere."""
        place = self.b.bitcast(self.at(pointer, offset), self.vector_type(lanes, element).as_pointer())
        return self.b.load(place, align=1)

    def load_stored(self, pointer: Value, offset: Index, dtype: str, mask: Value | int | None = None) -> Value:
        """A vector of float32 from elements of ``dtype`` (``pointer`` from :meth:`stored`); as :meth:`load_some`."""
        if dtype == "float32":
            return self.load(pointer, offset) if mask is None else self.load_some(pointer, offset, mask)
        bits = self._bits(pointer, offset, mask)
        if dtype in ("int8", "int16"):
            return self.b.sitofp(self.b.sext(bits, self.vector_type(element=I32)), self.vector_type())
        if dtype == "float16":
            return self.b.fpext(self.b.bitcast(bits, self.vector_type(element=ir.HalfType())), self.vector_type())
        return self.b.bitcast(self.high_halves(bits), self.vector_type())

    def high_halves(self, bits: Value) -> Value:
        """A vector of int32 with these bits (16) above zeros: those of bfloat16 become those of float32."""
        return self.b.shl(self.b.zext(bits, self.vector_type(element=I32)), self.whole(16))

    def _bits(self, pointer: Value, offset: Index, mask: Value | int | None) -> Value:
        """A vector of what ``pointer`` points to, integers of any width."""
        if mask is not None:
            return self.load_some(pointer, offset, mask)
        return self.load_integers(pointer, offset, pointer.type.pointee)

    def store_stored(
        self, value: Value, pointer: Value, offset: Index, dtype: str, mask: Value | int | None = None
    ) -> None:
        """Writes a vector of float32 as elements of ``dtype``, rounded to the nearest."""
        made = value if dtype == "float32" else self.narrowed(value, dtype)
        if mask is None:
            self.store(made, pointer, offset)
        else:
            self.store_some(made, pointer, offset, mask)

    def narrowed(self, value: Value, dtype: str) -> Value:
        """The bits (16) of a vector of float32 rounded to float16 or bfloat16, half to even; NaN stays NaN."""
        short = self.vector_type(element=I16)
        if dtype == "float16":
            return self.b.bitcast(self.b.fptrunc(value, self.vector_type(element=ir.HalfType())), short)
        if self.narrows_bfloat:
            return self.b.bitcast(self.b.fptrunc(value, self.vector_type(element=Bfloat())), short)
        bits = self.b.bitcast(value, self.vector_type(element=I32))
        odd = self.b.and_(self.b.lshr(bits, self.whole(16)), self.whole(1))
        rounded = self.b.add(bits, self.b.add(odd, self.whole(0x7FFF)))
        quiet = self.b.or_(bits, self.whole(0x400000))
        kept = self.b.select(self.b.fcmp_unordered("uno", value, value), quiet, rounded)
        return self.b.trunc(self.b.lshr(kept, self.whole(16)), short)

    def whole(self, number: int) -> Value:
        """A vector of this int32 in every lane."""
        return ir.Constant(self.vector_type(element=I32), [number] * self.lanes)

    def store(self, value: Value, pointer: Value, offset: Index = 0) -> None:
        place = self.b.bitcast(self.at(pointer, offset), value.type.as_pointer())
        self.b.store(value, place, align=_bytes(value))

    def broadcast(self, pointer: Value, offset: Index = 0) -> Value:
        """A vector of the one float at ``pointer[offset]``."""
        return self.splat(self.b.load(self.at(pointer, offset), align=4))

    def prefetch(self, pointer: Value, offset: Index = 0, write: bool = False, near: bool = True) -> None:
        """Asks for the cache line of ``pointer[offset]``, which need not exist; ``write``: to change it; not ``near``:
        into the second-level cache."""
        place = self.b.bitcast(self.at(pointer, offset), I8.as_pointer())
        hints = [ir.Constant(I32, n) for n in (int(write), 3 if near else 2, 1)]  # 1: data
        self.intrinsic("llvm.prefetch.p0", ir.VoidType(), [place, *hints])

    def splat(self, scalar: Value, lanes: int | None = None) -> Value:
        """A vector of the scalar, of whatever type it is."""
        kind = self.vector_type(lanes, scalar.type)
        undefined = ir.Constant(kind, ir.Undefined)
        single = self.b.insert_element(undefined, scalar, ir.Constant(I32, 0))
        zeros = ir.Constant(self.vector_type(lanes, I32), [0] * kind.count)
        return self.b.shuffle_vector(single, undefined, zeros)

    def joined(self, vectors: Sequence[Value]) -> Value:
        """The lanes of 1, 2, 4 ... vectors behind each other."""
        while len(vectors) > 1:
            lanes = 2 * vectors[0].type.count
            every = ir.Constant(self.vector_type(lanes, I32), list(range(lanes)))
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            vectors = [self.b.shuffle_vector(low, high, every) for low, high in pairs]
        return vectors[0]

    def intrinsic(self, name: str, result: Any, operands: Sequence[Value]) -> Value:
        """A call of an LLVM intrinsic under its full (mangled) name."""
        known = self.module.globals.get(name)
        if known is None:
            known = ir.Function(self.module, ir.FunctionType(result, [v.type for v in operands]), name)
        return self.b.call(known, operands)

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        """x * y + z."""
        return self.intrinsic(f"llvm.fmuladd.v{self.lanes}f32", x.type, [x, y, z])

    def dot_bfloat(self, x: Value, y: Value, z: Value) -> Value:
        """x[2i] * y[2i] + x[2i + 1] * y[2i + 1] + z[i] of words of two bfloat16; 16 lanes, AVX512_BF16."""
        pairs = self.vector_type(2 * self.lanes, Bfloat())
        operands = [z, self.b.bitcast(x, pairs), self.b.bitcast(y, pairs)]
        return self.intrinsic("llvm.x86.avx512bf16.dpbf16ps.512", z.type, operands)

    def maximum(self, x: Value, y: Value) -> Value:
        """The larger; y where x is NaN, so a NaN in y survives: put the data there (x86's own rule)."""
        return self.b.select(self.b.fcmp_ordered(">", x, y), x, y)

    def minimum(self, x: Value, y: Value) -> Value:
        """The smaller; y where either is NaN."""
        return self.b.select(self.b.fcmp_ordered("<", x, y), x, y)

    def lanes_below(self, count: Value) -> Value:
        """Mask of the first ``count`` lanes."""
        numbers = ir.Constant(self.vector_type(element=I32), list(range(self.lanes)))
        return self.b.icmp_signed("<", numbers, self.splat(self.b.trunc(count, I32)))

    def load_some(self, pointer: Value, offset: Index, mask: Value | int) -> Value:
        """A vector of what ``pointer`` points to, whose lanes outside ``mask`` (a mask, or how many of the first) are 0
        and not read."""
        kind = self.vector_type(element=pointer.type.pointee)
        nothing = ir.Constant(kind, [0] * self.lanes)
        if isinstance(mask, int):
            some = nothing
            for lane in range(mask):
                one = self.b.load(self.at(pointer, self.add(offset, lane)), align=_bytes(nothing))
                some = self.b.insert_element(some, one, ir.Constant(I32, lane))
            return some
        place = self.b.bitcast(self.at(pointer, offset), kind.as_pointer())
        operands = [place, ir.Constant(I32, _bytes(nothing)), mask, nothing]
        return self.intrinsic(f"llvm.masked.load.{_mangled(kind)}.p0", kind, operands)

    def store_some(self, value: Value, pointer: Value, offset: Index, mask: Value | int) -> None:
        """The lanes of ``mask`` (or so many of the first: a masked store takes as long as several plain ones)."""
        if isinstance(mask, int):
            first = 0
            while first < mask:
                count = 1 << ((mask - first).bit_length() - 1)
                lanes = ir.Constant(self.vector_type(count, I32), list(range(first, first + count)))
                self.store(self.b.shuffle_vector(value, value, lanes), pointer, self.add(offset, first))
                first += count
            return
        place = self.b.bitcast(self.at(pointer, offset), value.type.as_pointer())
        operands = [value, place, ir.Constant(I32, _bytes(value)), mask]
        self.intrinsic(f"llvm.masked.store.{_mangled(value.type)}.p0", ir.VoidType(), operands)

    # -- control

    def loop(
        self,
        count: Index,
        body: Callable[..., Iterable[Value] | None],
        carried: Sequence[Value] = (),
        step: Index = 1,
        first: Index = 0,
    ) -> list[Value]:
        """``for i in range(first, count, step): carried = body(i, *carried)``; returns what is carried out."""
        before, start = self.b.block, self.i(first)
        head, after = self.function.append_basic_block("loop"), self.function.append_basic_block("done")
        self.b.cbranch(self.less(start, count), head, after)
        self.b.position_at_end(head)
        index = self.b.phi(I64)
        index.add_incoming(start, before)
        phis = [self.b.phi(v.type) for v in carried]
        made = list(body(index, *phis) or ())
        assert len(made) == len(phis)
        following = self.b.add(index, self.i(step))
        index.add_incoming(following, self.b.block)
        for phi, begin, value in zip(phis, carried, made, strict=True):
            phi.add_incoming(begin, before)
            phi.add_incoming(value, self.b.block)
        last = self.b.block
        self.b.cbranch(self.less(following, count), head, after)
        self.b.position_at_end(after)
        results = [self.b.phi(v.type) for v in carried]
        for result, begin, value in zip(results, carried, made, strict=True):
            result.add_incoming(begin, before)
            result.add_incoming(value, last)
        return results

    def vectors(self, count: Index, body: Callable[[Value], None], first: Index = 0) -> None:
        """``body(i)`` at every vector of first .. count, of which at least one fits: the last is moved back to end
        there, so what it shares with the one before is done twice."""
        last = self.sub(count, self.lanes)
        self.loop(count, lambda i: body(self.smaller(i, last)), step=self.lanes, first=first)

    def strides(self, count: Index, body: Callable[[Value], Value], first: Index = 0) -> None:
        """``i = first; while i < count: i += body(i)``."""
        before, start = self.b.block, self.i(first)
        head, after = self.function.append_basic_block("loop"), self.function.append_basic_block("done")
        self.b.cbranch(self.less(start, count), head, after)
        self.b.position_at_end(head)
        index = self.b.phi(I64)
        index.add_incoming(start, before)
        following = self.b.add(index, body(index))
        index.add_incoming(following, self.b.block)
        self.b.cbranch(self.less(following, count), head, after)
        self.b.position_at_end(after)

    def when(
        self, condition: Value, then: Callable[[], Sequence[Value]], otherwise: Callable[[], Sequence[Value]]
    ) -> list[Value]:
        """Both ways of a branch; returns the values of the one taken."""
        places = [self.function.append_basic_block(n) for n in ("then", "otherwise", "joined")]
        self.b.cbranch(condition, places[0], places[1])
        made = []
        for place, branch in zip(places, (then, otherwise), strict=False):
            self.b.position_at_end(place)
            values = list(branch())
            made.append((values, self.b.block))
            self.b.branch(places[2])
        self.b.position_at_end(places[2])
        results = []
        for pair in zip(made[0][0], made[1][0], strict=True):
            phi = self.b.phi(pair[0].type)
            for value, (_, block) in zip(pair, made, strict=True):
                phi.add_incoming(value, block)
            results.append(phi)
        return results

    def zero_run(self, out: Value, count: Index) -> None:
        """``out[0:count] = 0``."""
        self.run(count, lambda i: self.store(self.constant(0.0), out, i), lambda i: self._put(out, i, None))

    def copy_run(self, out: Value, source: Value, count: Index, step: int = 1) -> None:
        """``out[0:count] = source[0:count * step:step]``, not overlapping."""
        one = lambda i: self._put(out, i, self.at(source, self.mul(i, step)))  # noqa: E731
        if step > 1:
            self.loop(count, one)
        else:
            self.run(count, lambda i: self.store(self.load(source, i), out, i), one)

    def _put(self, out: Value, offset: Value, source: Value | None) -> None:
        value = ir.Constant(F32, 0.0) if source is None else self.b.load(source, align=4)
        self.b.store(value, self.at(out, offset), align=4)

    def run(
        self, count: Index, vector: Callable[[Value], None], scalar: Callable[[Value], None], lanes: int | None = None
    ) -> None:
        """``vector(i)`` at every ``lanes`` of 0 .. count, ``scalar(i)`` for the rest."""
        step = lanes or self.lanes
        whole = self.b.and_(self.i(count), self.i(-step))
        self.loop(whole, lambda i: vector(i), step=step)
        self.loop(count, lambda i: scalar(i), first=whole)


def _bytes(vector: Value) -> int:
    """Of one element."""
    element = vector.type.element
    return 4 if isinstance(element, ir.FloatType) else element.width // 8


def _mangled(vector: Any) -> str:
    """A vector type as names of intrinsics spell it: v8f32, v8i8."""
    element = vector.element
    return f"v{vector.count}{'f32' if isinstance(element, ir.FloatType) else f'i{element.width}'}"

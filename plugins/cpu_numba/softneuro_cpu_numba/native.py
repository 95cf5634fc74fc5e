"""The native ABI of this plugin: compiled kernels by address, their disk cache, and the Call made of one.

Every kernel is ``void kernel(const int64* args, int64 task_begin, int64 task_end, void* scratch)``. Its Python source
stands in ``kernels/`` as a factory marked :func:`kernel`; numba is imported only when the object code is not
cached yet, so a cached plan loads through llvmlite alone. Knows nothing of layers.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import math
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from softneuro_core import knobs
from softneuro_core.device import Buffer
from softneuro_core.packing import kept
from softneuro_core.pages import fresh
from softneuro_core.routine import Call, NativeCall

ABI = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
NEVER_CALLED = (
    "numba_gil_ensure",
    "numba_gil_release",
    "numba_do_raise",
    "numba_unpickle",
    "numba_runtime_build_excinfo_struct",
    "NRT_Free",
)
_COMPILE_LOCK = threading.RLock()
Factory = TypeVar("Factory", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class In:
    """Stands in an argument list for the address of input ``index`` plus ``offset`` bytes."""

    index: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Out:
    """Stands in an argument list for the address of output ``index`` plus ``offset`` bytes."""

    index: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Scratch:
    """Stands in an argument list for the shared scratch buffer plus ``offset`` bytes (not a thread's own)."""

    offset: int = 0


@dataclass(frozen=True, slots=True)
class Pitch:
    """Stands in an argument list for the elements between two pixels (the last axis but one) of output ``index``: its
    channels, or those of the larger buffer it lies in."""

    index: int = 0


Argument = int | float | np.ndarray | In | Out | Scratch | Pitch | None


def kernel(factory: Factory) -> Factory:
    """Marks ``factory(**params) -> function(args, begin, end, scratch)`` as loadable by :func:`address_of`."""
    factory.is_kernel = True  # type: ignore[attr-defined]
    return factory


def emitted(factory: Factory) -> Factory:
    """Marks ``factory(emitter, **params)`` in ``emit/``, which writes its kernel with the emitter, as loadable by
    :func:`emitted_address`."""
    factory.is_emitted = True  # type: ignore[attr-defined]
    return factory


@dataclass(frozen=True, slots=True)
class NativeKernel:
    """A prepared step that is one native kernel.

    ``args`` are ints, floats (stored as float32 bits), constant arrays (their address), None (0), and operand
    markers. ``scratch`` is what each thread needs; unlinked runs use the one buffer given to ``bind``.
    """

    address: int
    args: tuple[Argument, ...]
    tasks: int
    scratch: int = 0

    @property
    def constant_bytes(self) -> int:
        return sum(a.nbytes for a in self.args if isinstance(a, np.ndarray))

    def bind(self, inputs: Sequence[Any], outputs: Sequence[Any], scratch: Buffer | None) -> Call:
        args = np.array([_resolve(a, inputs, outputs, scratch) for a in self.args], np.int64)
        return native_call(self.address, args, self.tasks, scratch, self.scratch, keep=(self, inputs, outputs))


def _resolve(argument: Argument, inputs: Sequence[Any], outputs: Sequence[Any], scratch: Buffer | None) -> int:
    match argument:
        case None:
            return 0
        case In(index, offset):
            return int(inputs[index].address) + offset
        case Out(index, offset):
            return int(outputs[index].address) + offset
        case Pitch(index):
            return int(outputs[index].strides[-2]) // int(outputs[index].dtype.itemsize)
        case Scratch(offset):
            assert scratch is not None
            return scratch.address + offset
        case np.ndarray():
            return int(argument.ctypes.data)
        case float() | np.floating():
            return int(np.float32(argument).view(np.int32))
    return int(argument)


def native_call(
    address: int, args: np.ndarray, tasks: int, scratch: Buffer | None, scratch_bytes: int, keep: object = None
) -> Call:
    """A Call of the kernel at ``address``; ``keep`` is held as long as the Call lives."""
    function, pointer = ABI(address), args.ctypes.data
    own = scratch.address if scratch is not None and scratch_bytes else 0

    def run(_keep: object = (args, keep, scratch)) -> None:
        if own:
            ctypes.memset(own, 0, 8)
        function(pointer, 0, tasks, own)

    return Call(run, NativeCall(address, args, tasks, scratch_bytes))


def aligned(array: np.ndarray) -> np.ndarray:
    """A C-contiguous copy whose first byte is 64-byte aligned."""
    made = aligned_empty(array.shape, array.dtype)
    np.copyto(made, array)
    return made


def aligned_empty(shape: Sequence[int], dtype: np.dtype | type) -> np.ndarray:
    """A C-contiguous array whose first byte is 64-byte aligned, contents undefined (``softneuro_core.pages``)."""
    kind = np.dtype(dtype)
    nbytes = math.prod(shape) * kind.itemsize
    return fresh(nbytes).view(kind).reshape(shape)


def packed(
    recipe: object, source: np.ndarray, shape: tuple[int, ...], dtype: np.dtype, fill: Callable[[np.ndarray], None]
) -> np.ndarray:
    """An array of weights, 64-byte aligned: what was kept of ``recipe`` and ``source``, else ``fill``\\ ed now."""
    nbytes = math.prod(shape) * dtype.itemsize
    entry = kept((recipe, _environment()), source, nbytes)
    made = None if entry is None else entry.read(shape, dtype)
    if made is None:
        made = aligned_empty(shape, dtype)
        fill(made)
        if entry is not None:
            entry.write(made)
    return made


def address_of(family: str, name: str, **params: Any) -> int:
    """Address of kernel ``kernels.<family>.<name>(**params)``: from memory, the disk cache, or compiled now."""
    return _address_of(family, name, tuple(sorted(params.items())))


def emitted_address(family: str, name: str, isa: str, **params: Any) -> int:
    """The same for a kernel written as LLVM IR, ``emit.<family>.<name>``; ``isa`` names a row of ``emit.isa``. Another
    plugin gives the full name of its module as ``family``."""
    return _address_of(family, name, tuple(sorted(params.items())), isa)


@cache
def _address_of(family: str, name: str, params: tuple[tuple[str, Any], ...], isa: str | None = None) -> int:
    with _COMPILE_LOCK:
        key = _key(family, name, params, isa)
        file = cache_folder() / f"{family}-{name}-{key}.o"
        stored = read_stored(file)
        if stored is None:
            stored = _compile(family, name, dict(params)) if isa is None else _emit(family, name, params, isa, key)
            store(file, stored)
        return _load(stored)


def read_stored(file: Path) -> bytes | None:
    """What :func:`store` wrote, None if it is missing, cut short or altered."""
    try:
        digest, _, stored = file.read_bytes().partition(b"\n")
    except OSError:
        return None
    return stored if digest == hashlib.sha256(stored).hexdigest().encode() else None


def _key(family: str, name: str, params: tuple[tuple[str, Any], ...], isa: str | None = None) -> str:
    plugin = sources_of(family.partition(".")[0]) if "." in family else ""
    text = repr((family, name, params, isa, _environment(), plugin))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@cache
def sources_of(package: str) -> str:
    """Hash of every module of an installed package."""
    folder = Path(importlib.import_module(package).__file__ or "").parent
    digest = hashlib.sha256()
    for source in sorted(folder.rglob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()


@cache
def _environment() -> tuple[str, ...]:
    """Everything besides the parameters that changes code: our sources, the compilers, the CPU."""
    from importlib.metadata import version

    import llvmlite.binding as llvm

    cpu = (llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten())
    overrides = tuple(f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith("NUMBA_"))
    return (sources_of(__package__ or ""), version("numba"), version("llvmlite"), sys.platform, *cpu, *overrides)


@cache
def cache_folder() -> Path:
    """Folder of compiled objects; a temporary one (this process only) where it cannot be written."""
    root = knobs.cache_folder() / "cpu_numba"
    try:
        root.mkdir(parents=True, exist_ok=True)
        if os.access(root, os.W_OK):
            return root
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="softneuro-"))


def _compile(family: str, name: str, params: dict[str, Any]) -> bytes:
    """Symbol name, newline, object code of one kernel."""
    from numba import cfunc, types

    factory = getattr(importlib.import_module(f"softneuro_cpu_numba.kernels.{family}"), name)
    assert factory.is_kernel
    function = factory(**params)
    signature = types.void(types.CPointer(types.int64), types.int64, types.int64, types.int64)
    flags = getattr(function, "fastmath", {"contract"})
    compiled = cfunc(signature, nopython=True, error_model="numpy", fastmath=flags)(function)
    code = compiled._library._get_compiled_object()
    return compiled._wrapper_name.encode() + b"\n" + code


def _emit(family: str, name: str, params: tuple[tuple[str, Any], ...], isa: str, key: str) -> bytes:
    """As :func:`_compile`, for a kernel of ``emit/``: straight through llvmlite."""
    from softneuro_cpu_numba.emit.compile import object_code

    symbol = f"{family.replace('.', '_')}_{name}_{key}"
    return symbol.encode() + b"\n" + object_code(emitted_text(family, name, isa, symbol, **dict(params)), isa)


def emitted_text(family: str, name: str, isa: str, symbol: str = "kernel", **params: Any) -> str:
    """The LLVM IR of one kernel of ``emit/``."""
    from softneuro_cpu_numba.emit.emitter import Emitter
    from softneuro_cpu_numba.emit.isa import find_isa

    module = family if "." in family else f"softneuro_cpu_numba.emit.{family}"
    factory = getattr(importlib.import_module(module), name)
    assert factory.is_emitted
    found = find_isa(isa)
    emitter = Emitter(symbol, found.lanes, found.narrows_bfloat)
    factory(emitter, **params)
    return emitter.finish()


def store(file: Path, content: bytes) -> None:
    """Writes atomically; a full disk or read-only folder only costs a later recompilation."""
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as part:
            part.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        os.replace(part.name, file)
    except OSError:
        pass


def _load(content: bytes) -> int:
    """Address of the kernel in an object file of ours; the engine that owns the code lives as long as the process."""
    import llvmlite.binding as llvm

    symbol, _, code = content.partition(b"\n")
    engine = _engine()
    code_file = llvm.ObjectFileRef.from_data(code)
    engine.add_object_file(code_file)
    engine.finalize_object()
    return int(engine.get_function_address(symbol.decode()))


@cache
def _engine() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    # numba names these on its error paths, which kernels that never raise do not take; once numba is imported
    # it defines them itself
    unused = ctypes.cast(ctypes.pythonapi.Py_FatalError, ctypes.c_void_p).value
    for symbol in NEVER_CALLED:
        if llvm.address_of_symbol(symbol) is None:
            llvm.add_symbol(symbol, unused)
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.softneuro_machine = machine  # the engine does not keep it alive
    return engine

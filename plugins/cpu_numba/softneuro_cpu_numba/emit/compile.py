"""From IR text to object code for an ISA."""

from __future__ import annotations

from functools import cache
from typing import Any

from softneuro_cpu_numba.emit.isa import find_isa


def object_code(text: str, isa: str) -> bytes:
    """Object code of a module; symbols keep their names."""
    import llvmlite.binding as llvm

    machine = _machine(isa)
    module = llvm.parse_assembly(text)
    module.verify()
    return bytes(machine.emit_object(module))


def assembly(text: str, isa: str) -> str:
    """The assembly of a module, for tests that read it."""
    import llvmlite.binding as llvm

    return str(_machine(isa).emit_assembly(llvm.parse_assembly(text)))


@cache
def _machine(name: str) -> Any:
    import llvmlite.binding as llvm

    isa = find_isa(name)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    if isa.triple:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    cpu, features = isa.cpu, isa.features
    if features is None:
        cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
        features += ",-prefer-256-bit"
    target = llvm.Target.from_triple(isa.triple or llvm.get_process_triple())
    return target.create_target_machine(cpu=cpu, features=features, opt=2, reloc="pic" if isa.triple else "default")

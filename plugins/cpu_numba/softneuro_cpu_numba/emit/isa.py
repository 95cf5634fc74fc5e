"""What the vector unit offers: lanes, registers, and the LLVM target a kernel is compiled for."""

from __future__ import annotations

from dataclasses import dataclass

from softneuro_core.device import Target, cpu_features

CACHE_LINE = 16
"""Floats that one request brings from memory."""


@dataclass(frozen=True, slots=True)
class Isa:
    """One row of the table. ``features`` None compiles for the host itself."""

    name: str
    lanes: int
    """float32 elements of a vector register."""
    registers: int
    cpu: str = ""
    features: str | None = None
    triple: str = ""

    @property
    def narrows_bfloat(self) -> bool:
        """Whether one instruction rounds float32 to bfloat16."""
        features = self.features
        if features is None:
            import llvmlite.binding as llvm

            features = llvm.get_host_cpu_features().flatten()
        return self.lanes == 16 and "+avx512bf16" in features

    def fits(self, rows: int, vectors: int) -> bool:
        """Whether a tile's accumulators, one row of the other factor and one broadcast stay in registers."""
        return rows * vectors + vectors + 1 <= self.registers


TABLE = {
    isa.name: isa
    for isa in (
        Isa("avx512", 16, 32, "skylake-avx512", "+avx512f,+avx512vl,+avx512bw,+avx512dq,+fma,-prefer-256-bit"),
        Isa("avx2", 8, 16, "haswell", "+avx2,+fma"),
        Isa("sse", 4, 16, "x86-64", ""),
        Isa("neon", 4, 32, "generic", "+neon", "aarch64-unknown-linux-gnu"),
    )
}
MATRIX_UNIT = Isa("amx", 16, 32, "sapphirerapids", f"{TABLE['avx512'].features},+avx512bf16,+amx-bf16,+amx-int8")
"""What kernels for a matrix unit need, to compile them elsewhere; where there is one, ``avx512`` has it."""
DOTS = {
    "avx512": Isa("avx512", 16, 32, "cascadelake", f"{TABLE['avx512'].features},+avx512vnni"),
    "avx2": Isa("avx2", 8, 16, "haswell", f"{TABLE['avx2'].features},+avxvnni"),
}
"""The classes whose processors may multiply words of four bytes, and what kernels for those that do need."""
DOT_FEATURES = {"avx512": "AVX512VNNI", "avx2": "AVX_VNNI"}
NATIVE = {name: Isa(name, isa.lanes, isa.registers) for name, isa in TABLE.items()}
"""The same classes compiled for exactly this CPU (its scheduling model and all its features)."""


def find_isa(name: str) -> Isa:
    """``avx2`` compiles for this very CPU, ``avx2!`` for any CPU of the class."""
    if name == "amx!":
        return MATRIX_UNIT
    if name.endswith("+dot!"):
        return DOTS[name.removesuffix("+dot!")]
    return TABLE[name[:-1]] if name.endswith("!") else NATIVE[name]


def isa_of(target: Target) -> str:
    """Name of the widest class the target has; with ``!`` where the target is not this CPU with all it can do."""
    features = target.isa.split(",")
    forced = "" if tuple(features) == cpu_features() else "!"
    if "AVX512F" in features and "AVX512VL" in features:
        return "avx512" + forced
    if "AVX2" in features and "FMA3" in features:
        return "avx2" + forced
    return ("neon" if "NEON" in features or "ASIMD" in features else "sse") + forced


def dot_isa_of(target: Target) -> str | None:
    """What kernels that multiply words of four bytes (vpdpbusd) are compiled for; None where the target has none."""
    name = isa_of(target)
    family = name.removesuffix("!")
    if DOT_FEATURES.get(family) not in target.isa.split(","):
        return None
    return name if name == family else f"{family}+dot!"


def lanes_of(target: Target) -> int:
    """float32 elements of one vector register."""
    return find_isa(isa_of(target)).lanes

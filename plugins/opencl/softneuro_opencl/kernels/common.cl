/* What all kernels share. Tensors lie in one allocation: an argument is the allocation and an offset in elements. */
#define TENSOR(type, name) __global type *name##_memory, const ulong name##_at
#define BEGIN(type, name) __global type *name = name##_memory + name##_at

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

/* DATA: what the network's tensors lie in; all sums are float. Vectors and single elements of them are read and written
   by LOADV, STOREV, LOAD, STORE; those of constants and scratch, always float, by LOADF, STOREF. WORD: an element as it
   is copied. */
#ifdef HALVES
#define DATA half
#define WORD ushort
#define LOAD(p) vload_half(0, (p))
#define STORE(v, p) vstore_half((v), 0, (p))
#else
#define DATA float
#define WORD uint
#define LOAD(p) (*(p))
#define STORE(v, p) (*(p) = (v))
#endif

#ifdef LANES
#if LANES == 1
typedef float floatv;
#define LOADF(p) (*(p))
#define STOREF(v, p) (*(p) = (v))
#else
typedef JOIN(float, LANES) floatv;
#define LOADF(p) JOIN(vload, LANES)(0, (p))
#define STOREF(v, p) JOIN(vstore, LANES)((v), 0, (p))
#endif
#if !defined(HALVES)
#define LOADV LOADF
#define STOREV STOREF
#elif LANES == 1
#define LOADV LOAD
#define STOREV STORE
#else
#define LOADV(p) JOIN(vload_half, LANES)(0, (p))
#define STOREV(v, p) JOIN(vstore_half, LANES)((v), 0, (p))
#endif
#endif

#ifdef FP_FAST_FMAF
#define MAD(a, b, c) fma((a), (b), (c))
#else
#define MAD(a, b, c) ((a) * (b) + (c))
#endif

#ifndef ACTIVATE
#define ACTIVATE(v) (v)
#endif

#ifdef LANES
floatv larger(const floatv a, const floatv b) { return (a > b || a != a) ? a : b; }
floatv smaller(const floatv a, const floatv b) { return (a < b || a != a) ? a : b; }
#endif

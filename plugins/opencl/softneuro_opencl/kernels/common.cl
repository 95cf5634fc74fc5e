/* What all kernels share. Tensors lie in one allocation: an argument is the allocation and an offset in elements. */
#define TENSOR(type, name) __global type *name##_memory, const ulong name##_at
#define BEGIN(type, name) __global type *name = name##_memory + name##_at

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

#ifdef LANES
#if LANES == 1
typedef float floatv;
#define LOADV(p) (*(p))
#define STOREV(v, p) (*(p) = (v))
#else
typedef JOIN(float, LANES) floatv;
#define LOADV(p) JOIN(vload, LANES)(0, (p))
#define STOREV(v, p) JOIN(vstore, LANES)((v), 0, (p))
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

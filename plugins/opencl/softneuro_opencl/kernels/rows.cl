/* What is made of whole rows: softmax, normalisation, reductions; and products of two computed matrices. A group of
   ITEMS items makes a row of ``length`` elements: one for devices with few cores, many where there are thousands. */
#ifdef ITEMS
#define OWN(i) (int i = get_local_id(0); i < length; i += ITEMS)

/* The sum, or the largest, of what the items of the group have, for each of them. */
float of_all(const float mine, __local float *held, const int is_largest) {
    if (ITEMS == 1)
        return mine;
    const int at = get_local_id(0);
    held[at] = mine;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int half_of = ITEMS / 2; half_of > 0; half_of /= 2) {
        if (at < half_of) {
            const float a = held[at], b = held[at + half_of];
            held[at] = !is_largest ? a + b : (a > b || a != a) ? a : b;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    const float found = held[0];
    barrier(CLK_LOCAL_MEM_FENCE);
    return found;
}

__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1)))
void softmax(TENSOR(const DATA, x), TENSOR(DATA, y), const int length) {
    BEGIN(const DATA, x);
    BEGIN(DATA, y);
    __local float held[ITEMS];
    x += (long)get_group_id(0) * length;
    y += (long)get_group_id(0) * length;
    float most = -INFINITY;
    for OWN(i) {
        const float v = LOAD(x + i);
        most = (most > v || most != most) ? most : v;
    }
    most = of_all(most, held, 1);
    float total = 0.0f;
    for OWN(i) {
        const float e = exp(LOAD(x + i) - most);
        STORE(e, y + i);
        total += e;
    }
    total = of_all(total, held, 0);
#ifdef LOGARITHM
    const float away = most + log(total);
    for OWN(i)
        STORE(LOAD(x + i) - away, y + i);
#else
    for OWN(i)
        STORE(LOAD(y + i) / total, y + i);
#endif
}

/* (x - mean) / sqrt(variance + epsilon) * scale + shift, both by element of a row. */
__kernel __attribute__((reqd_work_group_size(ITEMS, 1, 1)))
void normalised(TENSOR(const DATA, x), TENSOR(const float, scale), TENSOR(const float, shift), TENSOR(DATA, y),
                const int length, const float epsilon) {
    BEGIN(const DATA, x);
    BEGIN(const float, scale);
    BEGIN(const float, shift);
    BEGIN(DATA, y);
    __local float held[ITEMS];
    x += (long)get_group_id(0) * length;
    y += (long)get_group_id(0) * length;
    float total = 0.0f;
    for OWN(i)
        total += LOAD(x + i);
    const float mean = of_all(total, held, 0) / length;
    float squares = 0.0f;
    for OWN(i) {
        const float away = LOAD(x + i) - mean;
        squares += away * away;
    }
    const float factor = 1.0f / sqrt(of_all(squares, held, 0) / length + epsilon);
    for OWN(i)
        STORE((LOAD(x + i) - mean) * factor * scale[i] + shift[i], y + i);
}
#endif

#ifdef START
/* One number of ``length`` elements ``inner`` apart; ``inner`` results lie beside each other. An item makes one. */
__kernel void reduced(TENSOR(const DATA, x), TENSOR(DATA, y), const int length, const int inner) {
    BEGIN(const DATA, x);
    BEGIN(DATA, y);
    const long at = get_global_id(0);
    x += at / inner * inner * length + at % inner;
    float total = START;
    for (int i = 0; i < length; ++i) {
        const float v = LOAD(x + (long)i * inner);
        total = NEXT(total, v);
    }
    STORE(END(total), y + at);
}
#endif

/* Products of pairs of matrices: y[b] = x[b] @ w[b], with y of ``rows`` by ``columns``. An item makes one element. */
__kernel void products(TENSOR(const DATA, x), TENSOR(const DATA, w), TENSOR(DATA, y), TENSOR(const int, starts),
                       const int rows, const int depth, const int columns) {
    BEGIN(const DATA, x);
    BEGIN(const DATA, w);
    BEGIN(DATA, y);
    BEGIN(const int, starts);
    const int column = get_global_id(0), row = get_global_id(1), entry = get_global_id(2);
    x += starts[2 * entry] + (long)row * depth;
    w += starts[2 * entry + 1] + column;
    float total = 0.0f;
    for (int k = 0; k < depth; ++k)
        total = MAD(LOAD(x + k), LOAD(w + (long)k * columns), total);
    STORE(total, y + ((long)entry * rows + row) * columns + column);
}

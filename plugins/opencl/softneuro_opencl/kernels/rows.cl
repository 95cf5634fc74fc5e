/* Softmax and normalisation along the last axis: an item makes a row of ``length`` elements. Sums of the same lanes in
   the same order, whatever the device. */
__kernel void softmax(TENSOR(const float, x), TENSOR(float, y), const int length) {
    BEGIN(const float, x);
    BEGIN(float, y);
    x += (long)get_global_id(0) * length;
    y += (long)get_global_id(0) * length;
    float most = x[0];
    for (int i = 1; i < length; ++i)
        most = (x[i] > most || x[i] != x[i]) ? x[i] : most;
    float total = 0.0f;
    for (int i = 0; i < length; ++i) {
        const float e = exp(x[i] - most);
        y[i] = e;
        total += e;
    }
#ifdef LOGARITHM
    const float away = most + log(total);
    for (int i = 0; i < length; ++i)
        y[i] = x[i] - away;
#else
    for (int i = 0; i < length; ++i)
        y[i] /= total;
#endif
}

/* (x - mean) / sqrt(variance + epsilon) * scale + shift, both by element of a row. */
__kernel void normalised(TENSOR(const float, x), TENSOR(const float, scale), TENSOR(const float, shift),
                         TENSOR(float, y), const int length, const float epsilon) {
    BEGIN(const float, x);
    BEGIN(const float, scale);
    BEGIN(const float, shift);
    BEGIN(float, y);
    x += (long)get_global_id(0) * length;
    y += (long)get_global_id(0) * length;
    float total = 0.0f;
    for (int i = 0; i < length; ++i)
        total += x[i];
    const float mean = total / length;
    float squares = 0.0f;
    for (int i = 0; i < length; ++i)
        squares += (x[i] - mean) * (x[i] - mean);
    const float factor = 1.0f / sqrt(squares / length + epsilon);
    for (int i = 0; i < length; ++i)
        y[i] = (x[i] - mean) * factor * scale[i] + shift[i];
}

#ifdef START
/* One number of ``length`` elements ``inner`` apart; ``inner`` results lie beside each other. An item makes one. */
__kernel void reduced(TENSOR(const float, x), TENSOR(float, y), const int length, const int inner) {
    BEGIN(const float, x);
    BEGIN(float, y);
    const long at = get_global_id(0);
    x += at / inner * inner * length + at % inner;
    float total = START;
    for (int i = 0; i < length; ++i) {
        const float v = x[(long)i * inner];
        total = NEXT(total, v);
    }
    y[at] = END(total);
}
#endif

/* Products of pairs of matrices: y[b] = x[b] @ w[b], with y of ``rows`` by ``columns``. An item makes one element. */
__kernel void products(TENSOR(const float, x), TENSOR(const float, w), TENSOR(float, y), TENSOR(const int, starts),
                       const int rows, const int depth, const int columns) {
    BEGIN(const float, x);
    BEGIN(const float, w);
    BEGIN(float, y);
    BEGIN(const int, starts);
    const int column = get_global_id(0), row = get_global_id(1), entry = get_global_id(2);
    x += starts[2 * entry] + (long)row * depth;
    w += starts[2 * entry + 1] + column;
    float total = 0.0f;
    for (int k = 0; k < depth; ++k)
        total = MAD(x[k], w[(long)k * columns], total);
    y[((long)entry * rows + row) * columns + column] = total;
}

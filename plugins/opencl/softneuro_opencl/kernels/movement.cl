/* A box of elements copied: ``table`` holds the sizes of the AXES around its rows, their steps in x, their steps in y. A
   row is ``length`` elements, ``x_step`` and ``y_step`` apart; an item copies ``chunk`` of them. TYPE is a word as long
   as an element. */
__kernel void moved(TENSOR(const TYPE, x), TENSOR(TYPE, y), TENSOR(const int, table), const int x_first,
                    const int y_first, const int length, const int x_step, const int y_step, const int chunk) {
    BEGIN(const TYPE, x);
    BEGIN(TYPE, y);
    BEGIN(const int, table);
    x += x_first;
    y += y_first;
    for (int axis = AXES - 1, rest = get_global_id(1); axis >= 0; rest /= table[axis], --axis) {
        const int at = rest % table[axis];
        x += (long)at * table[AXES + axis];
        y += (long)at * table[2 * AXES + axis];
    }
    const int first = get_global_id(0) * chunk, end = min(first + chunk, length);
    if (x_step == 1 && y_step == 1)
        for (int i = first; i < end; ++i)
            y[i] = x[i];
    else
        for (int i = first; i < end; ++i)
            y[(long)i * y_step] = x[(long)i * x_step];
}

/* y[outer][position][inner] = x[outer][chosen[position]][inner]: nearest neighbours of one axis. An item makes a row of
   ``inner`` elements. */
__kernel void chosen(TENSOR(const TYPE, x), TENSOR(TYPE, y), TENSOR(const int, from), const int before, const int after,
                     const int inner) {
    BEGIN(const TYPE, x);
    BEGIN(TYPE, y);
    BEGIN(const int, from);
    const long position = get_global_id(0), outer = get_global_id(1);
    x += (outer * before + from[position]) * inner;
    y += (outer * after + position) * inner;
    for (int i = 0; i < inner; ++i)
        y[i] = x[i];
}

/* y[outer][position][inner] = the mean of two rows of x, weighted: linear interpolation along one axis. */
__kernel void interpolated(TENSOR(const float, x), TENSOR(float, y), TENSOR(const int, from), TENSOR(const float, share),
                           const int before, const int after, const int inner) {
    BEGIN(const float, x);
    BEGIN(float, y);
    BEGIN(const int, from);
    BEGIN(const float, share);
    const long position = get_global_id(0), outer = get_global_id(1);
    __global const float *low = x + (outer * before + from[2 * position]) * inner;
    __global const float *high = x + (outer * before + from[2 * position + 1]) * inner;
    const float part = share[position];
    y += (outer * after + position) * inner;
    for (int i = 0; i < inner; ++i)
        y[i] = MAD(part, high[i] - low[i], low[i]);
}

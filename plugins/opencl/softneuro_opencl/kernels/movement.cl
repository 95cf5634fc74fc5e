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

/* Images resized, NHWC: an output row blends the input rows ``rows`` names twice, the second with its weight, an output
   pixel columns likewise. An item makes an output pixel. */
__kernel void resized(TENSOR(const float, x), TENSOR(float, y), TENSOR(const int, rows), TENSOR(const float, row_weights),
                      TENSOR(const int, columns), TENSOR(const float, column_weights), const int channels,
                      const int in_height, const int in_width, const int height, const int width) {
    BEGIN(const float, x);
    BEGIN(float, y);
    BEGIN(const int, rows);
    BEGIN(const float, row_weights);
    BEGIN(const int, columns);
    BEGIN(const float, column_weights);
    const int column = get_global_id(0), image = get_global_id(1) / height, row = get_global_id(1) % height;
    x += (size_t)image * in_height * in_width * channels;
    y += (get_global_id(1) * width + column) * channels;
    const int left = columns[2 * column] * channels, right = columns[2 * column + 1] * channels;
    __global const float *top = x + (size_t)rows[2 * row] * in_width * channels;
#ifdef LINEAR
    __global const float *bottom = x + (size_t)rows[2 * row + 1] * in_width * channels;
    const float u = column_weights[column], v = row_weights[row];
    for (int c = 0; c < channels; ++c) {
        const float upper = top[left + c] + (top[right + c] - top[left + c]) * u;
        const float lower = bottom[left + c] + (bottom[right + c] - bottom[left + c]) * u;
        y[c] = upper + (lower - upper) * v;
    }
#else
    for (int c = 0; c < channels; ++c)
        y[c] = top[left + c];
#endif
}

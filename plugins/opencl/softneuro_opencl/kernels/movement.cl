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

/* An element of the result is the one of x at the sum of what the tables say of its place, ``fill`` where one of them
   is negative. ``table``: sizes of the AXES around the rows, the tables of these axes, from ``inner`` on that of the
   rows, which have ``length`` elements; an item makes ``chunk`` of one. */
__kernel void looked_up(TENSOR(const TYPE, x), TENSOR(const TYPE, fill), TENSOR(const int, table), TENSOR(TYPE, y),
                        const int length, const int inner, const int chunk) {
    BEGIN(const TYPE, x);
    BEGIN(const TYPE, fill);
    BEGIN(const int, table);
    BEGIN(TYPE, y);
    __global const int *places = table + inner;
    int outside = 0;
    for (int axis = AXES - 1, rest = get_global_id(1), at = inner; axis >= 0; rest /= table[axis], --axis) {
        at -= table[axis];
        const int place = table[at + rest % table[axis]];
        outside |= place < 0;
        x += max(place, 0);
    }
    y += (long)get_global_id(1) * length;
    const int first = get_global_id(0) * chunk, end = min(first + chunk, length);
    for (int i = first; i < end; ++i)
        y[i] = outside || places[i] < 0 ? *fill : x[places[i]];
}

#ifdef INDEX
/* Rows of ``length`` elements, ``count`` of each ``size``, as ``indices`` names them; an item copies ``chunk`` of one. */
__kernel void gathered(TENSOR(const TYPE, x), TENSOR(const INDEX, indices), TENSOR(TYPE, y), const int size,
                       const int count, const int length, const int chunk) {
    BEGIN(const TYPE, x);
    BEGIN(const INDEX, indices);
    BEGIN(TYPE, y);
    const int row = get_global_id(1);
    const INDEX named = indices[row % count], least = 0, most = size - 1;
    const INDEX place = clamp(named < 0 ? named + size : named, least, most);
    x += ((long)(row / count) * size + place) * length;
    y += (long)row * length;
    const int first = get_global_id(0) * chunk, end = min(first + chunk, length);
    for (int i = first; i < end; ++i)
        y[i] = x[i];
}
#endif

/* float32 to float16 (TO_HALVES) or back, ``chunk`` of ``length`` elements an item. */
#ifdef TO_HALVES
#define FROM float
#define INTO half
#define CONVERTED(i) vstore_half(x[i], i, y)
#else
#define FROM half
#define INTO float
#define CONVERTED(i) y[i] = vload_half(i, x)
#endif
__kernel void converted(TENSOR(const FROM, x), TENSOR(INTO, y), const int length, const int chunk) {
    BEGIN(const FROM, x);
    BEGIN(INTO, y);
    const int first = get_global_id(0) * chunk, end = min(first + chunk, length);
    for (int i = first; i < end; ++i)
        CONVERTED(i);
}

/* Images resized, NHWC: an output row blends the input rows ``rows`` names twice, the second with its weight, an output
   pixel columns likewise. An item makes an output pixel. */
__kernel void resized(TENSOR(const DATA, x), TENSOR(DATA, y), TENSOR(const int, rows), TENSOR(const float, row_weights),
                      TENSOR(const int, columns), TENSOR(const float, column_weights), const int channels,
                      const int in_height, const int in_width, const int height, const int width) {
    BEGIN(const DATA, x);
    BEGIN(DATA, y);
    BEGIN(const int, rows);
    BEGIN(const float, row_weights);
    BEGIN(const int, columns);
    BEGIN(const float, column_weights);
    const int column = get_global_id(0), image = get_global_id(1) / height, row = get_global_id(1) % height;
    x += (size_t)image * in_height * in_width * channels;
    y += (get_global_id(1) * width + column) * channels;
    const int left = columns[2 * column] * channels, right = columns[2 * column + 1] * channels;
    __global const DATA *top = x + (size_t)rows[2 * row] * in_width * channels;
#ifdef LINEAR
    __global const DATA *bottom = x + (size_t)rows[2 * row + 1] * in_width * channels;
    const float u = column_weights[column], v = row_weights[row];
    for (int c = 0; c < channels; ++c) {
        const float a = LOAD(top + left + c), b = LOAD(bottom + left + c);
        const float upper = a + (LOAD(top + right + c) - a) * u, lower = b + (LOAD(bottom + right + c) - b) * u;
        STORE(upper + (lower - upper) * v, y + c);
    }
#else
    for (int c = 0; c < channels; ++c)
        STORE(LOAD(top + left + c), y + c);
#endif
}

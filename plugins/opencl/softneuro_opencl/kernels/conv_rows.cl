/* Convolution, NHWC: PIXELS neighbours of an output row by VECTORS vectors of output channels in registers, one work
   item alone, ``count`` such tiles one after the other, ``span`` panels of each. The input has its border. Weights:
   [group][panel][tap][channel][VECTORS * LANES]. x of a group begins ``group_x`` elements behind that of the one before,
   y ``group_y``; results lie ``out_first`` elements in, pixels, rows and images so far apart as is said. */
#define WIDTH (VECTORS * LANES)

/* Results, and what is added to them, are asked for as their tile begins: up to 1.12 times as fast where memory decides
   (64 to 256 channels at 56x56). With NEXT_PIXELS also a pointwise convolution's next pixels, which lie behind these and
   are read as PIXELS streams no processor foresees: 256 to 64 channels at 56x56 1,823 and 1,118 us (one disturbed core of
   Sapphire Rapids). */
#if defined(PREFETCHES) && defined(__has_builtin)
#if __has_builtin(__builtin_prefetch)
#define SOON(p) __builtin_prefetch(p)
#endif
#endif
#ifndef SOON
#define SOON(p)
#endif

__kernel __attribute__((reqd_work_group_size(1, 1, 1)))
void conv_rows(TENSOR(const DATA, x), TENSOR(const DATA, w), TENSOR(const float, bias), TENSOR(const DATA, residual),
               TENSOR(DATA, y), const int channels, const int pixel, const int in_row, const int in_image,
               const int taps_y, const int taps_x, const int tap_row, const int tap_pixel, const int step_y,
               const int step_x, const int images, const int height, const int width, const int out_channels,
               const int out_pixel, const int out_row, const int out_image, const int out_first, const int panels,
               const int count, const int span, const int group_x, const int group_y, const float p0, const float p1) {
    BEGIN(const DATA, x);
    BEGIN(const DATA, w);
    BEGIN(const float, bias);
    BEGIN(const DATA, residual);
    BEGIN(DATA, y);
    const int begin_panel = get_global_id(1) * span, group = begin_panel / panels;
    x += (size_t)group * group_x;
    const int panel_size = taps_y * taps_x * channels * WIDTH;
    const int across = (width + PIXELS - 1) / PIXELS;
    const int begin = get_global_id(0) * count, end = min(begin + count, images * height * across);
    /* one loop over both: nested ones took three times as long with 6 by 4 vectors on Intel's runtime */
    for (int turn = 0; turn < (end - begin) * span; ++turn) {
        const int tile = begin + turn / span, number = begin_panel + turn % span;
        const int first = min(tile % across * PIXELS, width - PIXELS);
        const int image = tile / across / height, row = tile / across % height;
        const size_t place = (size_t)image * out_image + (size_t)row * out_row + (size_t)first * out_pixel
                           + (size_t)group * group_y + out_first;
        #pragma unroll
        for (int i = 0; i < PIXELS; ++i)
            for (int j = 0; j < VECTORS; ++j) {
                const size_t at = place + (size_t)i * out_pixel + (number % panels) * WIDTH + j * LANES;
                SOON(y + at);
#ifdef RESIDUAL
                SOON(residual + at);
#endif
            }
        floatv sums[PIXELS][VECTORS];
        #pragma unroll
        for (int i = 0; i < PIXELS; ++i)
            #pragma unroll
            for (int j = 0; j < VECTORS; ++j)
#ifdef NO_BIAS
                sums[i][j] = (floatv)(0.0f);
#else
                sums[i][j] = LOADF(bias + number * WIDTH + j * LANES);
#endif

        __global const DATA *corner = x + (size_t)image * in_image + (size_t)row * step_y * in_row
                                         + (size_t)first * step_x * pixel;
        __global const DATA *factors = w + (size_t)number * panel_size;
        for (int ty = 0; ty < taps_y; ++ty)
            for (int tx = 0; tx < taps_x; ++tx) {
                __global const DATA *at = corner + ty * tap_row * in_row + tx * tap_pixel * pixel;
                for (int c = 0; c < channels; ++c) {
                    floatv column[VECTORS];
                    #pragma unroll
                    for (int j = 0; j < VECTORS; ++j)
                        column[j] = LOADV(factors + j * LANES);
#ifdef NEXT_PIXELS
                    SOON(corner + PIXELS * (pixel + c));
#endif
                    factors += WIDTH;
                    #pragma unroll
                    for (int i = 0; i < PIXELS; ++i) {
                        const floatv value = (floatv)(LOAD(at + i * step_x * pixel + c));
                        #pragma unroll
                        for (int j = 0; j < VECTORS; ++j)
                            sums[i][j] = MAD(value, column[j], sums[i][j]);
                    }
                }
            }

        #pragma unroll
        for (int i = 0; i < PIXELS; ++i)
            #pragma unroll
            for (int j = 0; j < VECTORS; ++j) {
                const int column = (number % panels) * WIDTH + j * LANES;
                const size_t at = place + (size_t)i * out_pixel + column;
                if (column + LANES <= out_channels) {
                    floatv v = sums[i][j];
#ifdef RESIDUAL
                    v += LOADV(residual + at);
#endif
                    STOREV(ACTIVATE(v), y + at);
                } else if (column < out_channels) {
                    float lanes[LANES];
                    STOREF(sums[i][j], lanes);
                    for (int l = 0; l < out_channels - column; ++l) {
                        float v = lanes[l];
#ifdef RESIDUAL
                        v += LOAD(residual + at + l);
#endif
                        STORE(ACTIVATE(v), y + at + l);
                    }
                }
            }
    }
}

/* Matrices [entry][depth][columns] as conv_rows reads its weights: [entry][panel][depth][WIDTH], zeros behind the last
   column. An item makes a panel. */
__kernel void panelled(TENSOR(const DATA, w), TENSOR(DATA, y), const int depth, const int columns) {
    BEGIN(const DATA, w);
    BEGIN(DATA, y);
    const int panel = get_global_id(0), first = panel * WIDTH, own = min(WIDTH, columns - first);
    w += (size_t)get_global_id(1) * depth * columns + first;
    y += ((size_t)get_global_id(1) * get_global_size(0) + panel) * depth * WIDTH;
    for (int k = 0; k < depth; ++k, w += columns, y += WIDTH)
        if (own == WIDTH) {
            #pragma unroll
            for (int j = 0; j < VECTORS; ++j)
                STOREV(LOADV(w + j * LANES), y + j * LANES);
        } else
            for (int c = 0; c < WIDTH; ++c)
                STORE(c < own ? LOAD(w + c) : 0.0f, y + c);
}

/* A copy of NHWC images with zeros around them; an item is a row of the result. */
__kernel void bordered(TENSOR(const WORD, x), TENSOR(WORD, y), const int channels, const int height, const int width,
                       const int top, const int left, const int rows, const int columns) {
    BEGIN(const WORD, x);
    BEGIN(WORD, y);
    const int image = get_global_id(0) / rows, row = (int)(get_global_id(0) % rows) - top;
    const int begin = left * channels, end = (left + width) * channels, all = columns * channels;
    y += get_global_id(0) * all;
    if (row < 0 || row >= height) {
        for (int i = 0; i < all; ++i)
            y[i] = 0;
        return;
    }
    x += ((size_t)image * height + row) * width * channels;
    for (int i = 0; i < begin; ++i)
        y[i] = 0;
    for (int i = 0; i < width * channels; ++i)
        y[begin + i] = x[i];
    for (int i = end; i < all; ++i)
        y[i] = 0;
}

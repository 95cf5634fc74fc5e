/* Windows that slide over every channel by itself, NHWC: depthwise convolution and pooling. An item makes PIXELS
   neighbours of an output row for LANES channels; the last items lie over the ones before. */
#define ITEM                                                                                                          \
    const int channel = min((int)get_global_id(0) * LANES, channels - LANES);                                         \
    const int first = min((int)get_global_id(1) * PIXELS, width - PIXELS);                                            \
    const int image = get_global_id(2) / height, row = get_global_id(2) % height;                                     \
    const int y0 = row * step_y - top, x0 = first * step_x - left;                                                    \
    x += (size_t)image * in_height * in_width * channels + channel;                                                   \
    y += ((size_t)(image * height + row) * width + first) * channels + channel

/* Adds the products of all taps to ``sums``; ``inside`` says whether column xx is one of the image: with a constant
   nothing is asked for every pixel. */
#define SUM_TAPS(inside)                                                                                              \
    for (int ty = 0; ty < taps_y; ++ty) {                                                                             \
        const int yy = y0 + ty * tap_row;                                                                             \
        if (yy < 0 || yy >= in_height)                                                                                \
            continue;                                                                                                 \
        __global const DATA *line = x + (long)yy * in_width * channels;                                              \
        for (int tx = 0; tx < taps_x; ++tx) {                                                                         \
            const floatv factor = LOADF(w + (ty * taps_x + tx) * channels + channel);                                 \
            _Pragma("unroll")                                                                                         \
            for (int i = 0; i < PIXELS; ++i) {                                                                        \
                const int xx = x0 + i * step_x + tx * tap_pixel;                                                      \
                if (inside)                                                                                           \
                    sums[i] = MAD(LOADV(line + (long)xx * channels), factor, sums[i]);                                \
            }                                                                                                         \
        }                                                                                                             \
    }

__kernel void depthwise(TENSOR(const DATA, x), TENSOR(const float, w), TENSOR(const float, bias),
                        TENSOR(const DATA, residual), TENSOR(DATA, y), const int channels, const int in_height,
                        const int in_width, const int top, const int left, const int taps_y, const int taps_x,
                        const int tap_row, const int tap_pixel, const int step_y, const int step_x, const int height,
                        const int width, const float p0, const float p1) {
    BEGIN(const DATA, x);
    BEGIN(const float, w);
    BEGIN(const float, bias);
    BEGIN(const DATA, residual);
    BEGIN(DATA, y);
    ITEM;
    floatv sums[PIXELS];
    const floatv start = LOADF(bias + channel);
    #pragma unroll
    for (int i = 0; i < PIXELS; ++i)
        sums[i] = start;
    const int last_x = x0 + (PIXELS - 1) * step_x + (taps_x - 1) * tap_pixel;
    if (x0 >= 0 && last_x < in_width)
        SUM_TAPS(1)
    else
        SUM_TAPS(xx >= 0 && xx < in_width)
    #pragma unroll
    for (int i = 0; i < PIXELS; ++i) {
        floatv v = sums[i];
#ifdef RESIDUAL
        v += LOADV(residual + (y - (y_memory + y_at)) + i * channels);
#endif
        STOREV(ACTIVATE(v), y + i * channels);
    }
}

/* MAXIMUM: the largest; else the average over what lies inside, or, with COUNT_PAD, over ``inside_y`` and ``inside_x``
   (the image with its border). */
__kernel void pooled(TENSOR(const DATA, x), TENSOR(DATA, y), const int channels, const int in_height,
                     const int in_width, const int top, const int left, const int taps_y, const int taps_x,
                     const int tap_row, const int tap_pixel, const int step_y, const int step_x, const int height,
                     const int width, const int bottom, const int right) {
    BEGIN(const DATA, x);
    BEGIN(DATA, y);
    ITEM;
    for (int i = 0; i < PIXELS; ++i) {
#ifdef MAXIMUM
        floatv total = (floatv)(-INFINITY);
#else
        floatv total = (floatv)(0.0f);
        int count = 0;
#endif
        for (int ty = 0; ty < taps_y; ++ty)
            for (int tx = 0; tx < taps_x; ++tx) {
                const int yy = y0 + ty * tap_row, xx = x0 + i * step_x + tx * tap_pixel;
#if !defined(MAXIMUM) && defined(COUNT_PAD)
                count += yy < in_height + bottom && xx < in_width + right;
#endif
                if (yy < 0 || yy >= in_height || xx < 0 || xx >= in_width)
                    continue;
                const floatv v = LOADV(x + ((long)yy * in_width + xx) * channels);
#ifdef MAXIMUM
                total = (total > v || total != total) ? total : v;
#else
                total += v;
#ifndef COUNT_PAD
                ++count;
#endif
#endif
            }
#ifdef MAXIMUM
        STOREV(total, y + i * channels);
#else
        STOREV(total / (float)count, y + i * channels);
#endif
    }
}

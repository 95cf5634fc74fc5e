/* Winograd convolution, NHWC: tiles transformed, one product for each position of a tile (conv_rows), transformed back.
   APPLY_BT and APPLY_AT (of rows and of columns: _Y, _X) assign o(0) .. from i(0) ..: see winograd.py. */

/* data[position][tile][channel] of ``tiles`` tiles from ``first`` on; an item makes LANES channels of a tile. */
__kernel void forward(TENSOR(const DATA, x), TENSOR(float, data), const int channels, const int in_height,
                      const int in_width, const int top, const int left, const int tiles_y, const int tiles_x,
                      const int first, const int tiles) {
    BEGIN(const DATA, x);
    BEGIN(float, data);
    const int channel = min((int)get_global_id(0) * LANES, channels - LANES), tile = first + get_global_id(1);
    const int image = tile / (tiles_y * tiles_x), ty = tile / tiles_x % tiles_y, tx = tile % tiles_x;
    const int y0 = ty * OUT_Y * STEP_Y - top, x0 = tx * OUT_X * STEP_X - left;
    x += (size_t)image * in_height * in_width * channels + channel;
    data += get_global_id(1) * channels + channel;
    floatv d[PIXELS_Y][PIXELS_X], t[SIZE_Y][PIXELS_X];
    for (int i = 0; i < PIXELS_Y; ++i)
        for (int j = 0; j < PIXELS_X; ++j) {
            const int yy = y0 + i, xx = x0 + j;
            const int inside = yy >= 0 && yy < in_height && xx >= 0 && xx < in_width;
            d[i][j] = inside ? LOADV(x + ((size_t)yy * in_width + xx) * channels) : (floatv)(0.0f);
        }
#define I(k) d[k][j]
#define O(k) t[k][j]
    #pragma unroll
    for (int j = 0; j < PIXELS_X; ++j) {
        APPLY_BT_Y(O, I)
    }
#undef I
#undef O
#define I(k) t[i][k]
#define O(k) v[k]
    #pragma unroll
    for (int i = 0; i < SIZE_Y; ++i) {
        floatv v[SIZE_X];
        APPLY_BT_X(O, I)
        #pragma unroll
        for (int j = 0; j < SIZE_X; ++j)
            STOREF(v[j], data + (size_t)(i * SIZE_X + j) * tiles * channels);
    }
#undef I
#undef O
}

/* y from sums[position][tile][output channel] of the same tiles; an item makes the pixels of a tile for LANES channels. */
__kernel void backward(TENSOR(const float, sums), TENSOR(const float, bias), TENSOR(const DATA, residual),
                       TENSOR(DATA, y), const int out_channels, const int height, const int width, const int tiles_y,
                       const int tiles_x, const int first, const int tiles, const float p0, const float p1) {
    BEGIN(const float, sums);
    BEGIN(const float, bias);
    BEGIN(const DATA, residual);
    BEGIN(DATA, y);
    const int channel = min((int)get_global_id(0) * LANES, out_channels - LANES);
    const int tile = first + get_global_id(1);
    const int image = tile / (tiles_y * tiles_x), ty = tile / tiles_x % tiles_y, tx = tile % tiles_x;
    const int y0 = ty * OUT_Y, x0 = tx * OUT_X;
    sums += get_global_id(1) * out_channels + channel;
    floatv t[OUT_Y][SIZE_X];
#define I(k) d[k]
#define O(k) t[k][j]
    #pragma unroll
    for (int j = 0; j < SIZE_X; ++j) {
        floatv d[SIZE_Y];
        #pragma unroll
        for (int i = 0; i < SIZE_Y; ++i)
            d[i] = LOADF(sums + (size_t)(i * SIZE_X + j) * tiles * out_channels);
        APPLY_AT_Y(O, I)
    }
#undef I
#undef O
#define I(k) t[i][k]
#define O(k) v[k]
    const floatv start = LOADF(bias + channel);
    #pragma unroll
    for (int i = 0; i < OUT_Y; ++i) {
        floatv v[OUT_X];
        APPLY_AT_X(O, I)
        if (y0 + i < height)
            for (int j = 0; j < OUT_X && x0 + j < width; ++j) {
                const size_t at = (((size_t)image * height + y0 + i) * width + x0 + j) * out_channels + channel;
                floatv r = v[j] + start;
#ifdef RESIDUAL
                r += LOADV(residual + at);
#endif
                STOREV(ACTIVATE(r), y + at);
            }
    }
#undef I
#undef O
}

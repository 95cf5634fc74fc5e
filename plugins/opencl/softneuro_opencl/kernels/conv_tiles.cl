/* Convolution, NHWC, as a product of what lies under the windows by the weights: a work group of 16 x 16 items makes
   64 output pixels by 64 output channels, its share of both factors in local memory. Weights: [group][K][channels of the
   group], K = taps * channels. x of a group begins ``group_x`` elements behind that of the one before, y ``group_y``. */
#define SIDE 16
#define TILE 64
#define DEPTH 16

__kernel __attribute__((reqd_work_group_size(SIDE, SIDE, 1)))
void conv_tiles(TENSOR(const DATA, x), TENSOR(const DATA, w), TENSOR(const float, bias), TENSOR(const DATA, residual),
                TENSOR(DATA, y), const int channels, const int pixel, const int in_height, const int in_width,
                const int top, const int left, const int taps_y, const int taps_x, const int tap_row,
                const int tap_pixel, const int step_y, const int step_x, const int images, const int height,
                const int width, const int out_channels, const int out_pixel, const int group_x, const int group_y,
                const float p0, const float p1) {
    BEGIN(const DATA, x);
    BEGIN(const DATA, w);
    BEGIN(const float, bias);
    BEGIN(const DATA, residual);
    BEGIN(DATA, y);
    __local float under[DEPTH][TILE + 1], factor[DEPTH][TILE];
    const int lx = get_local_id(0), ly = get_local_id(1), item = ly * SIDE + lx;
    const int first = get_group_id(1) * TILE, column = get_group_id(0) * TILE, group = get_group_id(2);
    const int all = images * height * width, depth = taps_y * taps_x * channels;
    x += (size_t)group * group_x;
    y += (size_t)group * group_y;
    w += (size_t)group * depth * out_channels;

    /* every item reads for one pixel of the tile, four rows of K apart */
    const int mine = first + item % TILE, lane = item % TILE, down = item / TILE;
    const int image = mine / (height * width), row = mine / width % height, at = mine % width;
    const int y0 = row * step_y - top, x0 = at * step_x - left;
    const size_t origin = (size_t)image * in_height * in_width * pixel;

    float sums[4][4] = {{0.0f}};
    for (int k0 = 0; k0 < depth; k0 += DEPTH) {
        for (int r = down; r < DEPTH; r += SIDE * SIDE / TILE) {
            const int k = k0 + r, tap = k / channels, c = k % channels;
            const int yy = y0 + tap / taps_x * tap_row, xx = x0 + tap % taps_x * tap_pixel;
            const int inside = k < depth && mine < all && yy >= 0 && yy < in_height && xx >= 0 && xx < in_width;
            under[r][lane] = inside ? LOAD(x + origin + ((size_t)yy * in_width + xx) * pixel + c) : 0.0f;
            const int is_factor = k < depth && column + lane < out_channels;
            factor[r][lane] = is_factor ? LOAD(w + (size_t)k * out_channels + column + lane) : 0.0f;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (int k = 0; k < DEPTH; ++k) {
            float a[4], b[4];
            #pragma unroll
            for (int i = 0; i < 4; ++i) {
                a[i] = under[k][ly + i * SIDE];
                b[i] = factor[k][lx + i * SIDE];
            }
            #pragma unroll
            for (int i = 0; i < 4; ++i)
                #pragma unroll
                for (int j = 0; j < 4; ++j)
                    sums[i][j] = MAD(a[i], b[j], sums[i][j]);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }

    for (int i = 0; i < 4; ++i) {
        const int out = first + ly + i * SIDE;
        for (int j = 0; j < 4 && out < all; ++j) {
            const int channel = column + lx + j * SIDE;
            if (channel < out_channels) {
                const size_t place = (size_t)out * out_pixel + channel;
                float v = sums[i][j];
#ifndef NO_BIAS
                v += bias[group * out_channels + channel];
#endif
#ifdef RESIDUAL
                v += LOAD(residual + (size_t)group * group_y + place);
#endif
                STORE(ACTIVATE(v), y + place);
            }
        }
    }
}

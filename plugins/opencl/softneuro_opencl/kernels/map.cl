/* r = what STATEMENTS make of leaves: PARAMETERS and BEGINS declare them as a0, a1 ..., READS takes LANES of each. The
   result is rows of ``length`` elements; an item makes ``chunk`` of one. ``table``: sizes of the AXES around the rows,
   then by leaf how far each of them steps. */
#define LEAF(number)                                                                                                  \
    for (int axis = AXES - 1, rest = row; axis >= 0; rest /= table[axis], --axis)                                     \
        a##number += (long)(rest % table[axis]) * table[AXES * (1 + number) + axis]

__kernel void mapped(PARAMETERS TENSOR(RESULT_TYPE, r), TENSOR(const int, table), const int length, const int chunk) {
    BEGINS
    BEGIN(RESULT_TYPE, r);
    BEGIN(const int, table);
    const int row = get_global_id(1), first = get_global_id(0) * chunk;
    const int end = min(first + chunk, length);
    if (first >= length)
        return;
    LEAVES
    r += (long)row * length;
    for (int i = first; i < end; i += LANES) {
        const int at = min(i, length - LANES);
        READS
        STATEMENTS
        STOREV(RESULT, r + at);
    }
}

/* dtype.c: the rows of DTYPE_TABLE, found by number or by name. */
#include "engine/tensor/dtype.h"

#include "base/checked.h"

static const struct dtype_row dtype_rows[DTYPE_NUMBER_MAX] = {
#define X(id, number, name, weights, bytes) [number] = {name, weights, bytes},
    DTYPE_TABLE(X)
#undef X
};

const struct dtype_row *dtype_row(uint32_t number)
{
    if (number >= DTYPE_NUMBER_MAX || dtype_rows[number].name == NULL) {
        return NULL;
    }
    return &dtype_rows[number];
}

bool dtype_parse(struct str name, enum dtype *out)
{
    for (uint32_t i = 0; i < DTYPE_NUMBER_MAX; i++) {
        if (dtype_rows[i].name != NULL && str_eq_nocase(name, str_from(dtype_rows[i].name))) {
            *out = (enum dtype)i;
            return true;
        }
    }
    return false;
}

bool dtype_row_bytes(enum dtype t, uint64_t n_cols, uint64_t *out)
{
    const struct dtype_row *row = dtype_row((uint32_t)t);
    if (row == NULL || n_cols % row->block_weights != 0) {
        return false;
    }
    return checked_mul(n_cols / row->block_weights, (uint64_t)row->block_bytes, out);
}

/* print.c: see print.h. */
#include "cli/print.h"

#include <stdio.h>

void print_bytes(char out[32], uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < ARRAY_LEN(units)) {
        value /= 1024;
        unit++;
    }
    snprintf(out, 32, unit == 0 ? "%.0f %s" : "%.2f %s", value, units[unit]);
}

static void print_escape_byte(struct buf *out, unsigned char c)
{
    if (c == '\n') {
        buf_add_cstr(out, "\\n");
    } else if (c == '\t') {
        buf_add_cstr(out, "\\t");
    } else {
        buf_add_printf(out, "\\x%02x", c);
    }
}

void print_escaped(struct buf *out, struct str s, size_t n_max)
{
    for (size_t n = 0; s.len > 0; n++) {
        uint32_t cp = 0;
        size_t bytes = str_utf8_decode(s, &cp);
        if (n == n_max) {
            buf_add_cstr(out, "…");
            return;
        }
        bool control = cp < 0x20 || (cp >= 0x7F && cp < 0xA0);
        if (bytes == 0 || control) {
            print_escape_byte(out, (unsigned char)s.ptr[0]);
            bytes = MAX(bytes, (size_t)1);
        } else {
            buf_add(out, s.ptr, bytes);
        }
        s = str_slice(s, bytes, s.len);
    }
}

enum rc print_buf(const struct buf *b, struct err *err)
{
    if (!buf_ok(b)) {
        return err_set(err, RC_TOO_LARGE, "the output is too large");
    }
    struct str text = buf_str(b);
    if (fwrite(text.ptr, 1, text.len, stdout) != text.len) {
        return err_set(err, RC_IO, "cannot write to standard output: %m");
    }
    return RC_OK;
}

/* The usage journal's reader: any bytes as a file, and each of their lines with a checksum put
 * before it, so that what lies behind the checksum is reached. What is read must be written and
 * read again as the same. */
#include <stdint.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/hash.h"
#include "stores/usage_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_again(const struct usage_line *line)
{
    struct usage_line again;
    struct buf out;
    buf_init(&out, 64 << 10);
    usage_line_write(&out, line);
    ASSERT(buf_ok(&out) && out.ptr[out.len - 1] == '\n');
    ASSERT(line->kind == USAGE_NOTE || out.len <= USAGE_LINE_BYTES_MAX);
    struct str text = str_make(out.ptr, out.len - 1);
    ASSERT(usage_line_read(text, &again));
    ASSERT(again.kind == line->kind && again.row.id.len == line->row.id.len);
    ASSERT(again.row.cost_nano == line->row.cost_nano && str_eq(again.note, line->note));
    ASSERT(again.row.hedged.len == line->row.hedged.len);
    buf_deinit(&out);
}

static void with_checksum(struct str payload)
{
    struct usage_line line;
    struct buf out;
    buf_init(&out, 1 << 20);
    buf_add_printf(&out, "%016llx\t", (unsigned long long)hash_disk(payload));
    buf_add_str(&out, payload);
    if (buf_ok(&out) && usage_line_read(buf_str(&out), &line)) {
        read_again(&line);
    }
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct str bytes = {(const char *)data, size};
    struct usage_line line;
    struct str text, rest = bytes;
    uint64_t n_torn = 0;
    size_t at = 0;
    while (usage_line_next(bytes, &at, &line, &text, &n_torn)) {
        ASSERT(text.ptr >= bytes.ptr && text.ptr + text.len < bytes.ptr + bytes.len);
        read_again(&line);
    }
    ASSERT(at == size && n_torn <= size);
    while (rest.len > 0) {
        with_checksum(str_cut(&rest, '\n'));
    }
    return 0;
}

/* The configuration reader: any bytes as YAML, then as a catalogue and its parts. What is accepted
 * must be shown and read again as the same. */
#include <stdint.h>

#include "base/assert.h"
#include "base/yaml.h"
#include "gateway/catalog_rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

/* libfyaml 0.7 loses 2 KiB of its own over some wrong quoted texts (corpus: quotes). What we would
 * not give back to it is seen by the tests of yaml.c, which suppress nothing. */
const char *__lsan_default_suppressions(void)
{
    return "leak:libfyaml.so\n";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a;
    const struct json *root = NULL;
    struct cat_set set = {0}, again = {0};
    struct err err = {0};
    arena_init(&a, 8 << 20);
    if (yaml_parse(str_make((const char *)data, size), &a, &root, &err) == RC_OK &&
        conf_read(cat_set_rows, root, &a, &set, &err) == RC_OK) {
        struct buf out;
        buf_init(&out, 8 << 20);
        conf_show(cat_set_rows, &set, NULL, &out);
        if (buf_ok(&out) && out.len <= YAML_BYTES_MAX) {
            const struct json *shown = NULL;
            ASSERT(yaml_parse(buf_str(&out), &a, &shown, &err) == RC_OK ||
                   err.code == RC_TOO_LARGE);
            ASSERT(err.code == RC_TOO_LARGE ||
                   conf_read(cat_set_rows, shown, &a, &again, &err) == RC_OK ||
                   err.code == RC_TOO_LARGE || err.code == RC_INVALID);
        }
        buf_deinit(&out);
    }
    arena_deinit(&a);
    return 0;
}

#include "check.h"

#include <limits.h>

#include "base/file.h"
#include "engine/tensor/weight_source.h"

static char folder[] = "/tmp/bud-weights-XXXXXX";

static const char *in_folder(char *path, size_t bytes, const char *name)
{
    snprintf(path, bytes, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    char path[PATH_MAX];
    assert_int_equal(
        file_write_atomic(in_folder(path, sizeof(path), name), str_from(text), 0600, NULL), RC_OK);
}

static void remove_file(const char *name)
{
    char path[PATH_MAX];
    unlink(in_folder(path, sizeof(path), name));
}

static void weight_source_maps_a_file(void **state)
{
    (void)state;
    write_file("one.gguf", "hello weights");
    char path[PATH_MAX];
    struct weight_source *s;
    struct err err;
    assert_int_equal(weight_source_open_file(&s, in_folder(path, sizeof(path), "one.gguf"), &err),
                     RC_OK);
    assert_int_equal(s->size_bytes, 13);
    assert_string_equal(s->name, path);
    assert_memory_equal(s->map, "hello weights", 13);
    char part[7];
    assert_int_equal(s->read_at(s, 6, part, 7, &err), RC_OK);
    assert_memory_equal(part, "weights", 7);
    assert_int_equal(s->read_at(s, 13, part, 0, &err), RC_OK);
    weight_source_close(s);
    weight_source_close(NULL);
    remove_file("one.gguf");
}

static void weight_source_drops_pages_and_reads_them_again(void **state)
{
    (void)state;
    static char text[20001];
    memset(text, 'w', sizeof(text) - 1);
    write_file("big.gguf", text);
    char path[PATH_MAX];
    struct weight_source *s;
    struct err err;
    assert_int_equal(weight_source_open_file(&s, in_folder(path, sizeof(path), "big.gguf"), &err),
                     RC_OK);
    assert_memory_equal(s->map, text, 20000);
    s->drop(s, 3, 19990);
    s->drop(s, 20000, 0);
    assert_memory_equal(s->map, text, 20000);
    weight_source_close(s);
    remove_file("big.gguf");
}

static void weight_source_names_what_it_cannot_open(void **state)
{
    (void)state;
    struct weight_source *s;
    struct err err;
    assert_int_equal(weight_source_open_file(&s, "/nowhere/x.gguf", &err), RC_NOT_FOUND);
    assert_non_null(strstr(err.msg, "/nowhere/x.gguf"));
    assert_null(s);
    assert_int_equal(weight_source_open_file(&s, "/tmp", &err), RC_INVALID);
}

static void weight_source_opens_all_parts(void **state)
{
    (void)state;
    write_file("m-00001-of-00003.gguf", "a");
    write_file("m-00002-of-00003.gguf", "bb");
    write_file("m-00003-of-00003.gguf", "ccc");
    char path[PATH_MAX];
    in_folder(path, sizeof(path), "m-00001-of-00003.gguf");
    struct weight_source *parts[WEIGHT_SOURCES_MAX];
    uint32_t n;
    struct err err;
    assert_int_equal(weight_source_open_model(parts, &n, path, &err), RC_OK);
    assert_int_equal(n, 3);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(parts[i]->size_bytes, i + 1);
        weight_source_close(parts[i]);
    }
    remove_file("m-00002-of-00003.gguf");
    assert_int_equal(weight_source_open_model(parts, &n, path, &err), RC_NOT_FOUND);
    assert_non_null(strstr(err.msg, "m-00002-of-00003.gguf"));
    assert_int_equal(n, 0);
    in_folder(path, sizeof(path), "m-00003-of-00003.gguf");
    assert_int_equal(weight_source_open_model(parts, &n, path, &err), RC_INVALID);
    assert_non_null(strstr(err.msg, "first part"));
    remove_file("m-00001-of-00003.gguf");
    remove_file("m-00003-of-00003.gguf");
}

static void weight_source_bounds_the_parts(void **state)
{
    (void)state;
    struct weight_source *parts[WEIGHT_SOURCES_MAX];
    uint32_t n;
    struct err err;
    assert_int_equal(weight_source_open_model(parts, &n, "x-00001-of-99999.gguf", &err),
                     RC_UNSUPPORTED);
    /* Not the tail of a part: an ordinary file name. */
    write_file("m-00001-of-0000x.gguf", "a");
    char path[PATH_MAX];
    in_folder(path, sizeof(path), "m-00001-of-0000x.gguf");
    assert_int_equal(weight_source_open_model(parts, &n, path, &err), RC_OK);
    assert_int_equal(n, 1);
    weight_source_close(parts[0]);
    remove_file("m-00001-of-0000x.gguf");
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weight_source_maps_a_file),
        cmocka_unit_test(weight_source_drops_pages_and_reads_them_again),
        cmocka_unit_test(weight_source_names_what_it_cannot_open),
        cmocka_unit_test(weight_source_opens_all_parts),
        cmocka_unit_test(weight_source_bounds_the_parts),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

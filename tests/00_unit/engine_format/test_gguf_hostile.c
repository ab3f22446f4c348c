/* Files that are wrong on purpose: each is refused with its code and one line that names file, byte
 * and what is wrong. */
#include "check.h"

#include "gguf_make.h"

static void tensor_ok(struct gguf_make *m, const char *name, uint64_t offset)
{
    gguf_make_tensor(m, name, DTYPE_F32, 1, (uint64_t[]){8}, offset);
}

static void array_head(struct gguf_make *m, uint32_t item, uint64_t n)
{
    gguf_make_begin(m, 3, 0, 1);
    gguf_make_key(m, "k", GGUF_ARRAY);
    gguf_make_u32(m, item);
    gguf_make_u64(m, n);
}

static void one_tensor(struct gguf_make *m, uint32_t type, uint64_t d0, uint64_t d1, uint64_t off)
{
    gguf_make_begin(m, 3, 1, 0);
    gguf_make_tensor(m, "w", type, 2, (uint64_t[]){d0, d1}, off);
    gguf_make_data(m, 64);
}

#define MAKER(name) static void name(struct gguf_make *m)

MAKER(empty_file)
{
    buf_init(&m->bytes, 64);
}
MAKER(three_bytes)
{
    buf_init(&m->bytes, 64);
    buf_add_cstr(&m->bytes, "GGU");
}
MAKER(other_magic)
{
    gguf_make_begin(m, 3, 0, 0);
    m->bytes.ptr[0] = 'P';
}
MAKER(version_1)
{
    gguf_make_begin(m, 1, 0, 0);
}
MAKER(version_4)
{
    gguf_make_begin(m, 4, 0, 0);
}
MAKER(version_0)
{
    gguf_make_begin(m, 0, 0, 0);
}
MAKER(big_endian)
{
    gguf_make_begin(m, 3U << 24, 0, 0);
}
MAKER(header_cut)
{
    gguf_make_begin(m, 3, 0, 0);
    buf_truncate(&m->bytes, 20);
}
MAKER(huge_tensor_count)
{
    gguf_make_begin(m, 3, UINT64_MAX, 0);
}
MAKER(many_tensors)
{
    gguf_make_begin(m, 3, 1000000, 0);
    gguf_make_data(m, 4096);
}
MAKER(huge_key_count)
{
    gguf_make_begin(m, 3, 0, (uint64_t)1 << 63);
}
MAKER(many_keys)
{
    gguf_make_begin(m, 3, 0, 60000);
    gguf_make_data(m, 4096);
}
MAKER(key_longer_than_file)
{
    gguf_make_begin(m, 3, 0, 1);
    gguf_make_u64(m, UINT64_MAX);
    gguf_make_data(m, 32);
}
MAKER(key_empty)
{
    gguf_make_begin(m, 3, 0, 1);
    gguf_make_kv_u32(m, "", 1);
}
MAKER(key_with_newline)
{
    gguf_make_begin(m, 3, 0, 1);
    gguf_make_kv_u32(m, "a\nb", 1);
}
MAKER(value_type_unknown)
{
    gguf_make_begin(m, 3, 0, 1);
    gguf_make_key(m, "k", 13);
    gguf_make_u64(m, 0);
}
MAKER(value_cut)
{
    gguf_make_begin(m, 3, 0, 1);
    gguf_make_key(m, "k", GGUF_F64);
    gguf_make_u32(m, 0);
}
MAKER(bool_is_two)
{
    gguf_make_begin(m, 3, 0, 1);
    gguf_make_key(m, "k", GGUF_BOOL);
    buf_add_byte(&m->bytes, 2);
}
MAKER(array_of_arrays)
{
    array_head(m, GGUF_ARRAY, 1);
    gguf_make_u32(m, GGUF_U8);
    gguf_make_u64(m, 0);
}
MAKER(array_type_unknown)
{
    array_head(m, 99, 1);
}
MAKER(array_count_overflows)
{
    array_head(m, GGUF_U64, UINT64_MAX / 4);
}
MAKER(array_past_the_end)
{
    array_head(m, GGUF_F32, 1000);
    gguf_make_data(m, 32);
}
MAKER(strings_past_the_end)
{
    array_head(m, GGUF_STRING, 1000000);
    gguf_make_data(m, 32);
}
MAKER(string_past_the_end)
{
    gguf_make_begin(m, 3, 0, 1);
    gguf_make_key(m, "k", GGUF_STRING);
    gguf_make_u64(m, 1000);
}
MAKER(key_twice)
{
    gguf_make_begin(m, 3, 0, 2);
    gguf_make_kv_u32(m, "k", 1);
    gguf_make_kv_u32(m, "k", 2);
}
MAKER(alignment_odd)
{
    gguf_make_begin(m, 3, 0, 1);
    gguf_make_kv_u32(m, "general.alignment", 48);
}
MAKER(alignment_zero)
{
    gguf_make_begin(m, 3, 0, 1);
    gguf_make_kv_u32(m, "general.alignment", 0);
}
MAKER(alignment_huge)
{
    gguf_make_begin(m, 3, 0, 1);
    gguf_make_kv_u32(m, "general.alignment", 1U << 31);
}
MAKER(alignment_string)
{
    gguf_make_begin(m, 3, 0, 1);
    gguf_make_kv_str(m, "general.alignment", "32");
}
MAKER(tensor_type_unknown)
{
    one_tensor(m, 4, 8, 1, 0);
}
MAKER(tensor_type_huge)
{
    one_tensor(m, UINT32_MAX, 8, 1, 0);
}
MAKER(tensor_no_dims)
{
    gguf_make_begin(m, 3, 1, 0);
    gguf_make_tensor(m, "w", DTYPE_F32, 0, NULL, 0);
    gguf_make_data(m, 32);
}
MAKER(tensor_five_dims)
{
    gguf_make_begin(m, 3, 1, 0);
    gguf_make_tensor(m, "w", DTYPE_F32, 5, (uint64_t[]){1, 1, 1, 1, 1}, 0);
    gguf_make_data(m, 32);
}
MAKER(tensor_dim_zero)
{
    one_tensor(m, DTYPE_F32, 8, 0, 0);
}
MAKER(tensor_dim_negative)
{
    one_tensor(m, DTYPE_F32, 8, UINT64_MAX, 0);
}
MAKER(tensor_size_overflows)
{
    one_tensor(m, DTYPE_F32, (uint64_t)1 << 62, (uint64_t)1 << 62, 0);
}
MAKER(tensor_size_wraps_to_small)
{
    one_tensor(m, DTYPE_F32, (uint64_t)1 << 32, (uint64_t)1 << 30, 0);
}
MAKER(tensor_larger_than_file)
{
    one_tensor(m, DTYPE_F32, 1000, 1000, 0);
}
MAKER(tensor_width_uneven)
{
    one_tensor(m, DTYPE_Q4_0, 33, 1, 0);
}
MAKER(tensor_offset_uneven)
{
    one_tensor(m, DTYPE_F32, 4, 1, 4);
}
MAKER(tensor_offset_overflows)
{
    one_tensor(m, DTYPE_F32, 4, 1, UINT64_MAX - 31);
}
MAKER(tensor_offset_past_the_end)
{
    one_tensor(m, DTYPE_F32, 4, 1, 64);
}
MAKER(tensor_name_long)
{
    char name[400];
    memset(name, 'n', sizeof(name));
    name[399] = '\0';
    gguf_make_begin(m, 3, 1, 0);
    tensor_ok(m, name, 0);
    gguf_make_data(m, 32);
}
MAKER(tensor_name_twice)
{
    gguf_make_begin(m, 3, 2, 0);
    tensor_ok(m, "w", 0);
    tensor_ok(m, "w", 32);
    gguf_make_data(m, 64);
}
MAKER(tensors_overlap)
{
    gguf_make_begin(m, 3, 2, 0);
    gguf_make_tensor(m, "v", DTYPE_F32, 1, (uint64_t[]){16}, 0);
    tensor_ok(m, "w", 32);
    gguf_make_data(m, 64);
}
MAKER(tensor_data_cut)
{
    gguf_make_begin(m, 3, 1, 0);
    tensor_ok(m, "w", 0);
    gguf_make_data(m, 31);
}
MAKER(tensor_list_cut)
{
    gguf_make_begin(m, 3, 2, 0);
    tensor_ok(m, "w", 0);
    gguf_make_data(m, 0);
}
MAKER(split_part_alone)
{
    gguf_make_begin(m, 3, 0, 1);
    gguf_make_kv_u32(m, "split.count", 3);
}
MAKER(split_count_string)
{
    gguf_make_begin(m, 3, 0, 1);
    gguf_make_kv_str(m, "split.count", "3");
}

static const struct hostile_case {
    void (*make)(struct gguf_make *m);
    const char *message; /* behind "evil.gguf: at byte " */
} cases[] = {
    {empty_file, "0: file ends after 0 bytes, 4 more needed for the header"},
    {three_bytes, "0: file ends after 3 bytes, 1 more needed for the header"},
    {other_magic, "0: not a GGUF file: it starts with 50 47 55 46"},
    {version_0, "4: GGUF version 0 is not supported, only 2 and 3"},
    {version_1, "4: GGUF version 1 is not supported, only 2 and 3"},
    {version_4, "4: GGUF version 4 is not supported, only 2 and 3"},
    {big_endian, "4: big-endian GGUF files are not supported"},
    {header_cut, "20: file ends after 20 bytes, 4 more needed for the header"},
    {huge_tensor_count, "8: 18446744073709551615 tensors in a file of 24 bytes"},
    {many_tensors, "8: 1000000 tensors in a file of 4128 bytes"},
    {huge_key_count, "16: 9223372036854775808 keys in a file of 24 bytes"},
    {many_keys, "16: 60000 keys in a file of 4128 bytes"},
    {key_longer_than_file, "24: string of 18446744073709551615 bytes, but 32 are left"},
    {key_empty, "24: key is empty or has control characters"},
    {key_with_newline, "24: key is empty or has control characters"},
    {value_type_unknown, "33: key 'k' has unknown value type 13"},
    {value_cut, "37: key 'k': 1 items of type f64, but 4 bytes are left"},
    {bool_is_two, "37: key 'k': a bool is 2, expected 0 or 1"},
    {array_of_arrays, "37: key 'k': arrays of arrays are not supported"},
    {array_type_unknown, "37: key 'k' has unknown value type 99"},
    {array_count_overflows, "49: key 'k': 4611686018427387903 items of type u64, but 0 bytes"},
    {array_past_the_end, "49: key 'k': 1000 items of type f32, but 47 bytes are left"},
    {strings_past_the_end, "49: key 'k': 1000000 items of type string, but 47 bytes are left"},
    {string_past_the_end, "37: string of 1000 bytes, but 0 are left in the file"},
    {key_twice, "41: key 'k' appears twice"},
    {alignment_odd, "24: general.alignment is 48, expected a power of two"},
    {alignment_zero, "24: general.alignment is 0, expected a power of two"},
    {alignment_huge, "24: general.alignment is 2147483648, expected a power of two"},
    {alignment_string, "24: key 'general.alignment' is of type string, expected u32"},
    {tensor_type_unknown, "53: tensor 'w' has type 4, which is not supported"},
    {tensor_type_huge, "53: tensor 'w' has type 4294967295, which is not supported"},
    {tensor_no_dims, "33: tensor 'w' has 0 dimensions, expected 1 to 4"},
    {tensor_five_dims, "33: tensor 'w' has 5 dimensions, expected 1 to 4"},
    {tensor_dim_zero, "45: tensor 'w': dimension 1 is 0"},
    {tensor_dim_negative, "45: tensor 'w': dimension 1 is 18446744073709551615"},
    {tensor_size_overflows, "53: tensor 'w' [4611686018427387904, 4611686018427387904, 1, 1]"},
    {tensor_size_wraps_to_small, "53: tensor 'w' [4294967296, 1073741824, 1, 1] of F32 is larger"},
    {tensor_larger_than_file, "53: tensor 'w' [1000, 1000, 1, 1] of F32 is larger than the file"},
    {tensor_width_uneven, "53: tensor 'w': rows of 33 are no multiple of Q4_0's block of 32"},
    {tensor_offset_uneven, "57: tensor 'w': offset 4 is no multiple of the alignment 32"},
    {tensor_offset_overflows, "160: file ends inside tensor 'w'"},
    {tensor_offset_past_the_end, "160: file ends inside tensor 'w': 16 bytes at offset 64"},
    {tensor_name_long, "24: tensor name of 399 bytes, limit 256"},
    {tensor_name_twice, "128: tensor 'w' appears twice"},
    {tensors_overlap, "128: tensors 'v' and 'w' overlap"},
    {tensor_data_cut, "95: file ends inside tensor 'w': 32 bytes at offset 0 of the data at 64"},
    {tensor_list_cut, "8: 2 tensors in a file of 64 bytes"},
    {split_part_alone, "24: split.count is 3, but 1 part was opened"},
    {split_count_string, "24: split.count is -1, but 1 part was opened"},
};

static void gguf_refuses_hostile_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct gguf_make m;
        cases[i].make(&m);
        for (int mapped = 0; mapped < 2; mapped++) {
            struct gguf_make_source src;
            gguf_make_source_init(&src, "evil.gguf", m.bytes.ptr, m.bytes.len);
            src.source.map = mapped ? src.source.map : NULL;
            struct weight_source *list[] = {&src.source};
            struct gguf *g;
            struct err err = {0};
            if (gguf_open(&g, list, 1, &err) != RC_CORRUPT) {
                fail_msg("case %zu, '%s', was not refused", i, cases[i].message);
            }
            assert_null(g);
            char want[256];
            snprintf(want, sizeof(want), "evil.gguf: at byte %s", cases[i].message);
            if (strncmp(err.msg, want, strlen(want)) != 0) {
                fail_msg("case %zu: '%s' is not '%s…'", i, err.msg, want);
            }
            assert_null(strchr(err.msg, '\n'));
        }
        gguf_make_end(&m);
    }
}

/* Every prefix of a good file is refused, or is the file without padding that nothing needs. */
static void gguf_refuses_every_truncation(void **state)
{
    (void)state;
    struct gguf_make m;
    gguf_make_begin(&m, 3, 1, 2);
    gguf_make_kv_str(&m, "general.architecture", "llama");
    gguf_make_kv_u32(&m, "x", 1);
    tensor_ok(&m, "w", 0);
    gguf_make_data(&m, 32);
    for (size_t n = 0; n < m.bytes.len; n++) {
        struct gguf_make_source src;
        gguf_make_source_init(&src, "cut.gguf", m.bytes.ptr, n);
        struct weight_source *list[] = {&src.source};
        struct gguf *g;
        struct err err = {0};
        assert_int_equal(gguf_open(&g, list, 1, &err), RC_CORRUPT);
        assert_non_null(strstr(err.msg, "cut.gguf: at byte "));
    }
    gguf_make_end(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_refuses_hostile_files),
        cmocka_unit_test(gguf_refuses_every_truncation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

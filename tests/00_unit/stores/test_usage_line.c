/* Lines of the usage journal: read back as written, refused when anything is wrong with them. */
#include "check.h"

#include "base/hash.h"
#include "stores/usage_line.h"

static struct usage_line sample(enum usage_kind kind)
{
    return (struct usage_line){
        .kind = kind,
        .slot = kind == USAGE_OPEN ? 41 : 0,
        .price = kind == USAGE_OPEN ? (struct usage_price){1, 2, 3, 4} : (struct usage_price){0},
        .row = {.id = STR_LIT("0123456789abcdef-7"),
                .request_id = STR_LIT("req_1"),
                .route = STR_LIT("chat"),
                .key = STR_LIT("key_1"),
                .project = STR_LIT("p"),
                .model = STR_LIT("m"),
                .version = STR_LIT("v1"),
                .upstream = STR_LIT("local"),
                .status = STR_LIT("ok"),
                .http_status = 200,
                .started_ms = 1795392000123,
                .duration_ms = 17,
                .prompt_tokens = 31,
                .cached_tokens = 8,
                .output_tokens = 5,
                .images = 2,
                .cost_nano = INT64_MAX,
                .estimated = true},
        .note = STR_LIT("{\"a\":\"b c\"}"),
    };
}

static void written(struct buf *out, const struct usage_line *line)
{
    buf_reset(out);
    usage_line_write(out, line);
    assert_true(buf_ok(out));
    assert_int_equal(out->ptr[out->len - 1], '\n');
}

static void lines_are_read_back(void **state)
{
    (void)state;
    struct buf out;
    struct usage_line l;
    buf_init(&out, 64 << 10);
    struct usage_line open = sample(USAGE_OPEN), done = sample(USAGE_DONE),
                      note = sample(USAGE_NOTE);
    written(&out, &open);
    assert_true(usage_line_read(str_make(out.ptr, out.len - 1), &l));
    assert_int_equal(l.kind, USAGE_OPEN);
    assert_int_equal(l.slot, 41);
    assert_int_equal(l.price.image, 4);
    assert_true(str_eq(l.row.model, open.row.model));
    assert_int_equal(l.row.user.len, 0);
    written(&out, &done);
    assert_true(usage_line_read(str_make(out.ptr, out.len - 1), &l));
    assert_int_equal(l.kind, USAGE_DONE);
    assert_int_equal(l.row.cost_nano, INT64_MAX);
    assert_int_equal(l.row.images, 2);
    assert_true(l.row.estimated && str_eq(l.row.status, done.row.status));
    assert_int_equal(l.row.hedged.len, 0);
    done.row.hedged = STR_LIT("two");
    written(&out, &done);
    assert_true(usage_line_read(str_make(out.ptr, out.len - 1), &l));
    assert_true(l.row.estimated && str_is(l.row.hedged, "two"));
    written(&out, &note);
    assert_true(usage_line_read(str_make(out.ptr, out.len - 1), &l));
    assert_int_equal(l.kind, USAGE_NOTE);
    assert_true(str_eq(l.note, note.note));
    buf_deinit(&out);
}

static void the_longest_line_fits_its_room(void **state)
{
    (void)state;
    char text[200];
    struct buf out;
    struct usage_line l = sample(USAGE_DONE), back;
    memset(text, 'x', sizeof(text));
    text[1] = '\n'; /* would end the line */
    const struct str s = {text, sizeof(text)};
    buf_init(&out, 64 << 10);
    l.row.id = l.row.request_id = l.row.route = l.row.key = l.row.user = l.row.project = s;
    l.row.model = l.row.version = l.row.upstream = l.row.status = l.row.hedged = s;
    l.row.http_status = l.row.started_ms = l.row.duration_ms = l.row.images = INT64_MAX;
    l.row.prompt_tokens = l.row.cached_tokens = l.row.output_tokens = INT64_MAX;
    written(&out, &l);
    assert_true(out.len <= USAGE_LINE_BYTES_MAX);
    assert_true(usage_line_read(str_make(out.ptr, out.len - 1), &back));
    assert_int_equal(back.row.user.len, USAGE_TEXT_BYTES_MAX);
    assert_int_equal(back.row.user.ptr[1], '?');
    l.kind = USAGE_OPEN;
    written(&out, &l);
    assert_true(out.len <= USAGE_LINE_BYTES_MAX);
    buf_deinit(&out);
}

static void any_byte_changed_is_seen(void **state)
{
    (void)state;
    struct buf out;
    struct usage_line l = sample(USAGE_DONE);
    buf_init(&out, 64 << 10);
    written(&out, &l);
    for (size_t i = 0; i + 1 < out.len; i++) {
        out.ptr[i] ^= 1;
        assert_false(usage_line_read(str_make(out.ptr, out.len - 1), &l));
        out.ptr[i] ^= 1;
        assert_false(usage_line_read(str_make(out.ptr, i), &l));
    }
    buf_deinit(&out);
}

/* Lines whose checksum is right and whose fields are not. */
static void wrong_fields_are_refused(void **state)
{
    (void)state;
    static const char *const payloads[] = {
        "",
        "q",
        "d",
        "o\t1",
        "x\tid\treq\t5",
        "x\t\treq\t5\t{}",
        "x\tid\treq\tfive\t{}",
        "x\tid\treq\t5\t{}\tmore",
        "x\tid\treq\t99999999999999999999\t{}",
        "x\tid\treq\t-1\t{}",
        "o\t4294967296\tid\treq\tchat\tkey\t\t\tm\t1\t0\t0\t0\t0",
        "o\t1\tid\treq\tchat\tkey\t\t\tm\t1\t0\t0\t0",
    };
    struct buf out;
    struct usage_line l;
    buf_init(&out, 64 << 10);
    for (size_t i = 0; i < ARRAY_LEN(payloads); i++) {
        buf_reset(&out);
        buf_add_printf(&out, "%016llx\t%s", (unsigned long long)hash_disk(str_from(payloads[i])),
                       payloads[i]);
        assert_false(usage_line_read(buf_str(&out), &l));
    }
    assert_int_equal(hash_disk(STR_LIT("")), 0xef46db3751d8e999u); /* XXH64's own test value */
    buf_deinit(&out);
}

static void what_lies_between_lines_is_passed_over(void **state)
{
    (void)state;
    struct buf out;
    struct usage_line l = sample(USAGE_DONE);
    uint64_t n_torn = 0;
    size_t at = 0;
    int n = 0;
    buf_init(&out, 64 << 10);
    buf_add(&out, "\0\0", 2);
    usage_line_write(&out, &l);
    buf_add(&out, "torn\0\0\0line\n\n", 13);
    usage_line_write(&out, &l);
    buf_add(&out, "0123", 4); /* no end */
    while (usage_line_next(buf_str(&out), &at, &l, NULL, &n_torn)) {
        n++;
    }
    assert_int_equal(n, 2);
    assert_int_equal(n_torn, 4);
    assert_int_equal(at, out.len);
    buf_deinit(&out);
}

static void money_is_exact(void **state)
{
    (void)state;
    const struct usage_price p = {3000000, 1000000, 15000000, 40};
    const struct usage_price dear = {INT64_MAX, 0, 0, 0};
    const struct usage_price cheap = {1, 0, 0, 0};
    assert_int_equal(usage_cost(&p, 10, 4, 2, 0), 6 * 3 + 4 * 1 + 2 * 15);
    assert_int_equal(usage_cost(&p, 10, 40, 0, 3), 10 + 120); /* no more is cached than there is */
    assert_int_equal(usage_cost(&cheap, 1, 1, 0, 0), 1);      /* rounded up */
    assert_int_equal(usage_cost(&dear, UINT64_MAX, 0, 0, 0), INT64_MAX);
    struct meta_usage row = {0};
    usage_counts_unpack(usage_counts_pack(UINT32_MAX, 7, true), &row);
    assert_int_equal(row.prompt_tokens, INT32_MAX);
    assert_int_equal(row.output_tokens, 7);
    assert_true(row.estimated);
}

/* The fold's way through a living journal. */
static void open_lines_are_passed_over(void **state)
{
    (void)state;
    static const enum usage_kind kinds[] = {USAGE_OPEN, USAGE_DONE, USAGE_OPEN,
                                            USAGE_OPEN, USAGE_NOTE, USAGE_OPEN};
    struct buf out;
    struct str text;
    size_t at = 0;
    buf_init(&out, 64 << 10);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct usage_line l = sample(kinds[i]);
        usage_line_write(&out, &l);
    }
    struct usage_line l;
    assert_true(usage_line_next_settled(buf_str(&out), &at, &l, &text));
    assert_int_equal(l.kind, USAGE_DONE);
    assert_true(usage_line_next_settled(buf_str(&out), &at, &l, &text));
    assert_int_equal(l.kind, USAGE_NOTE);
    assert_false(usage_line_next_settled(buf_str(&out), &at, &l, &text));
    assert_int_equal(at, out.len);
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_read_back),
        cmocka_unit_test(the_longest_line_fits_its_room),
        cmocka_unit_test(any_byte_changed_is_seen),
        cmocka_unit_test(wrong_fields_are_refused),
        cmocka_unit_test(what_lies_between_lines_is_passed_over),
        cmocka_unit_test(open_lines_are_passed_over),
        cmocka_unit_test(money_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

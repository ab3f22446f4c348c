/* Server-sent events, cut anywhere. */
#include "check.h"

#include <string.h>

#include "net/sse.h"

/* Feeds `all` in two parts and writes the items as text. */
static void split(struct str all, size_t cut, size_t cap, struct buf *out)
{
    struct sse s;
    struct sse_item it;
    sse_init(&s, cap);
    struct str parts[2] = {str_slice(all, 0, cut), str_slice(all, cut, all.len)};
    for (int i = 0; i < 2; i++) {
        while (sse_next(&s, &parts[i], &it)) {
            buf_add_printf(out, "%s name=%.*s id=%.*s data=%.*s|\n",
                           it.kind == SSE_EVENT ? "event" : "comment", STR(it.name), STR(it.id),
                           STR(it.data));
        }
    }
    if (sse_failed(&s) != RC_OK) {
        buf_add_cstr(out, err_row(sse_failed(&s))->name);
    }
    sse_deinit(&s);
    sse_deinit(&s);
}

static void check_all_cuts(struct str all, size_t cap, const char *want)
{
    for (size_t cut = 0; cut <= all.len; cut++) {
        struct buf out;
        buf_init(&out, 1 << 16);
        split(all, cut, cap, &out);
        buf_add_byte(&out, '\0');
        assert_string_equal(out.ptr, want);
        buf_deinit(&out);
    }
}

static void reads_events_and_comments(void **state)
{
    (void)state;
    check_all_cuts(
        STR_LIT("\xEF\xBB\xBF"
                "data: one\n\n: n=3+4\ndata:two\ndata: three\nevent: e\n\n\n"
                "id: 7\ndata\n\nretry: 5\nunknown: x\n\ndata: [DONE]\n\ndata: unfinished\n"),
        1000,
        "event name= id= data=one|\n"
        "comment name= id= data=n=3+4|\n"
        "event name=e id= data=two\nthree|\n"
        "event name= id=7 data=|\n"
        "event name= id= data=[DONE]|\n");
}

static void takes_every_line_ending(void **state)
{
    (void)state;
    check_all_cuts(STR_LIT("data: a\r\n\r\ndata: b\r\rdata: c\n\r\n:x\r:y\r\n\r\n"), 1000,
                   "event name= id= data=a|\n"
                   "event name= id= data=b|\n"
                   "event name= id= data=c|\n"
                   "comment name= id= data=x|\n"
                   "comment name= id= data=y|\n");
}

static void a_comment_leaves_the_event_around_it(void **state)
{
    (void)state;
    check_all_cuts(STR_LIT("data: a\n: in between\ndata: b\n\n"), 1000,
                   "comment name= id= data=in between|\n"
                   "event name= id= data=a\nb|\n");
}

static void stops_at_the_cap(void **state)
{
    (void)state;
    check_all_cuts(STR_LIT("data: 0123\n\ndata: 0123456789abcdef\n\ndata: x\n\n"), 16,
                   "event name= id= data=0123|\nTOO_LARGE");
    check_all_cuts(STR_LIT("data: 01234567\ndata: 01234567\n\ndata: x\n\n"), 16, "TOO_LARGE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_events_and_comments),
        cmocka_unit_test(takes_every_line_ending),
        cmocka_unit_test(a_comment_leaves_the_event_around_it),
        cmocka_unit_test(stops_at_the_cap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

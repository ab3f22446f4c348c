/* body.c: how fast one core checks a chat body, for the bench: api_chat_parse over the bytes of a
 * file, again and again for about half a second. Prints `body_check_gb_s VALUE`. */
#include <stdio.h>

#include "api/chat.h"
#include "base/clock.h"
#include "base/file.h"

enum { BENCH_BODY_BYTES_MAX = 32 << 20, BENCH_ARENA_BYTES_MAX = 768 << 20 };
#define BENCH_BODY_NS 500000000u

int main(int argc, char **argv)
{
    struct buf body;
    struct arena arena;
    struct err err = {0};
    struct api_chat_request chat;
    buf_init(&body, BENCH_BODY_BYTES_MAX);
    arena_init(&arena, BENCH_ARENA_BYTES_MAX);
    if (argc != 2 || file_read(argv[1], &body, &err) != RC_OK) {
        fprintf(stderr, "usage: body FILE\n%s\n", err.msg);
        return 2;
    }
    uint64_t start = clock_mono_ns(clock_system());
    uint64_t ns = 0;
    uint64_t n = 0;
    while (ns < BENCH_BODY_NS) {
        arena_reset(&arena);
        if (api_chat_parse(buf_str(&body), &arena, &chat, &err) != RC_OK) {
            fprintf(stderr, "body: %s\n", err.msg);
            return 1;
        }
        n++;
        ns = clock_mono_ns(clock_system()) - start;
    }
    printf("body_check_gb_s %.3f\n", (double)(n * body.len) / (double)ns);
    arena_deinit(&arena);
    buf_deinit(&body);
    return 0;
}

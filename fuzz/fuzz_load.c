/* What `bud load` reads from people and servers: URLs keep their limits, answers and error bodies
 * of any shape are counted or refused. */
#include "base/arena.h"
#include "base/assert.h"
#include "cli/load_answer.h"
#include "cli/load_url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = str_make((const char *)data, size);
    struct load_url url;
    if (load_url_parse(&url, text, NULL) == RC_OK) {
        ASSERT(strlen(url.host) > 0 && url.path[0] == '/');
        ASSERT(url.is_unix || url.port > 0);
    }
    struct arena arena;
    struct load_answer answer;
    char line[LOAD_ERROR_BYTES_MAX];
    char model[64];
    arena_init(&arena, 1 << 20);
    if (load_answer_parse(&answer, text, &arena, NULL) != RC_OK) {
        ASSERT(!answer.has_text && !answer.has_usage);
    }
    load_answer_error(line, 500, text, &arena);
    ASSERT(strlen(line) < sizeof(line));
    if (load_answer_model(model, sizeof(model), text, &arena, NULL) == RC_OK) {
        ASSERT(strlen(model) < sizeof(model));
    }
    arena_deinit(&arena);
    return 0;
}

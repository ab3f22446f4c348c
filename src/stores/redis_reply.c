/* redis_reply.c: see redis_reply.h. hiredis calls back for every item that it has read; the tree is
 * built in an arena that is emptied before the next reply. */
#include "stores/redis_reply.h"

#include <hiredis/read.h>

#include "base/arena.h"
#include "base/assert.h"
#include "base/mem.h"

struct redis_reader {
    redisReader *reader;
    redisReplyObjectFunctions functions;
    struct arena arena;
    uint32_t n_items; /* of the reply being built */
    size_t n_bytes;   /* likewise */
    enum rc failed;
};

/* ---- what hiredis calls ---- */

/* How many arrays the item lies in; hiredis's own limit differs from version to version. */
static int task_depth(const redisReadTask *task)
{
    int depth = 0;
    for (const redisReadTask *t = task->parent; t != NULL; t = t->parent) {
        depth++;
    }
    return depth;
}

/* The next item: in its array, or the whole reply. NULL: over a limit. */
static struct redis_reply *reply_item(const redisReadTask *task, enum redis_type type)
{
    struct redis_reader *r = task->privdata;
    struct redis_reply *item = NULL;
    if (task_depth(task) > REDIS_REPLY_DEPTH_MAX) {
        r->failed = RC_TOO_LARGE;
        return NULL;
    }
    if (task->parent != NULL) {
        const struct redis_reply *array = task->parent->obj;
        ASSERT(array->type == REDIS_ARRAY && task->idx >= 0 && (uint32_t)task->idx < array->n);
        item = (struct redis_reply *)array->items + task->idx;
    } else if ((item = arena_alloc(&r->arena, sizeof(*item))) == NULL) {
        r->failed = RC_TOO_LARGE;
        return NULL;
    }
    item->type = type;
    return item;
}

static void *reply_text(const redisReadTask *task, char *bytes, size_t n)
{
    struct redis_reader *r = task->privdata;
    enum redis_type type = task->type == REDIS_REPLY_ERROR    ? REDIS_FAILED
                           : task->type == REDIS_REPLY_STATUS ? REDIS_STATUS
                                                              : REDIS_TEXT;
    struct redis_reply *item = reply_item(task, type);
    if (item == NULL) {
        return NULL;
    }
    item->text = arena_str(&r->arena, str_make(bytes, n));
    if (item->text.ptr == NULL) {
        r->failed = RC_TOO_LARGE;
        return NULL;
    }
    return item;
}

static void *reply_array(const redisReadTask *task, int n)
{
    struct redis_reader *r = task->privdata;
    if (n < 0 || (uint32_t)n > REDIS_REPLY_ITEMS_MAX - r->n_items) {
        r->failed = RC_TOO_LARGE;
        return NULL;
    }
    r->n_items += (uint32_t)n;
    struct redis_reply *item = reply_item(task, REDIS_ARRAY);
    if (item == NULL) {
        return NULL;
    }
    item->n = (uint32_t)n;
    item->items = n > 0 ? arena_alloc_array(&r->arena, (size_t)n, sizeof(*item->items)) : NULL;
    if (n > 0 && item->items == NULL) {
        r->failed = RC_TOO_LARGE;
        return NULL;
    }
    return item;
}

static void *reply_integer(const redisReadTask *task, long long value)
{
    struct redis_reply *item = reply_item(task, REDIS_INTEGER);
    if (item != NULL) {
        item->integer = value;
    }
    return item;
}

static void *reply_nil(const redisReadTask *task)
{
    return reply_item(task, REDIS_NIL);
}

/* Everything lies in the arena. */
static void reply_let_go(void *object)
{
    UNUSED(object);
}

/* ---- reading ---- */

static enum rc reader_fail(struct redis_reader *r, struct err *err)
{
    if (r->failed == RC_OK) {
        r->failed = RC_CORRUPT;
    }
    return r->failed == RC_TOO_LARGE
               ? err_set(err, RC_TOO_LARGE,
                         "redis: a reply over %d bytes, %d items or %d arrays deep",
                         REDIS_REPLY_BYTES_MAX, REDIS_REPLY_ITEMS_MAX, REDIS_REPLY_DEPTH_MAX)
               : err_set(err, RC_CORRUPT, "redis: not its protocol: %s", r->reader->errstr);
}

enum rc redis_reader_feed(struct redis_reader *r, struct str bytes, struct err *err)
{
    if (r->failed == RC_OK && bytes.len > REDIS_REPLY_BYTES_MAX - r->n_bytes) {
        r->failed = RC_TOO_LARGE;
    }
    if (r->failed != RC_OK || redisReaderFeed(r->reader, bytes.ptr, bytes.len) != REDIS_OK) {
        return reader_fail(r, err);
    }
    r->n_bytes += bytes.len;
    return RC_OK;
}

enum rc redis_reader_next(struct redis_reader *r, const struct redis_reply **out, struct err *err)
{
    void *reply = NULL;
    *out = NULL;
    if (r->failed != RC_OK) {
        return reader_fail(r, err);
    }
    if (r->reader->ridx < 0) { /* no reply is half read: the last one is done with */
        arena_reset(&r->arena);
        r->n_items = 0;
    }
    if (redisReaderGetReply(r->reader, &reply) != REDIS_OK) {
        return reader_fail(r, err);
    }
    if (reply != NULL) {
        r->n_bytes = r->reader->len - r->reader->pos; /* of what follows */
    }
    *out = reply;
    return RC_OK;
}

/* ---- life ---- */

void redis_reader_create(struct redis_reader **out)
{
    struct redis_reader *r = mem_zalloc(sizeof(*r));
    r->functions = (redisReplyObjectFunctions){
        .createString = reply_text,
        .createArray = reply_array,
        .createInteger = reply_integer,
        .createNil = reply_nil,
        .freeObject = reply_let_go,
    };
    r->reader = redisReaderCreateWithFunctions(&r->functions);
    ASSERT(r->reader != NULL); /* at start, as all memory of a process's own */
    r->reader->privdata = r;
    arena_init(&r->arena, REDIS_REPLY_BYTES_MAX);
    *out = r;
}

void redis_reader_destroy(struct redis_reader *r)
{
    if (r == NULL) {
        return;
    }
    redisReaderFree(r->reader);
    arena_deinit(&r->arena);
    mem_free(r);
}

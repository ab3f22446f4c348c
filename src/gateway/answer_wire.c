/* answer_wire.c: see answer_wire.h.
 *
 * In the scripts: what is told twice (its reply was lost) counts once, by the blocks' numbers; what
 * is told with a gap before it is taken only if its writer has nothing older any more (`anew`), and
 * then the window begins there. */
#include "gateway/answer_wire.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/mem.h"

#define ANSWER_LUA_NOW                                                                             \
    "local t = redis.call('TIME')\n"                                                               \
    "local ms = t[1] * 1000 + math.floor(t[2] / 1000)\n"                                           \
    "local function n(v) return string.format('%.0f', v) end\n"

/* Silence alone proves nothing: Redis may have stood still, or been away from the writer too. The
 * first who sees half of it notes a doubt, which a beat takes away; the other half is from there.
 */
#define ANSWER_LUA_DEAD                                                                            \
    "local function dead(beat, doubt, max)\n"                                                      \
    "  if ms - tonumber(beat) <= max / 2 then return false end\n"                                  \
    "  if not doubt then redis.call('HSET', KEYS[1], 'doubt', n(ms)) end\n"                        \
    "  return doubt and ms - tonumber(doubt) > max / 2\n"                                          \
    "end\n"

const char answer_script_claim[] = ANSWER_LUA_NOW ANSWER_LUA_DEAD
    "local tag, scope, body, last, from = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])\n"
    "local h = redis.call('HMGET', KEYS[1], 'tag', 'scope', 'body', 'state', 'beat', 'first', "
    "'n', 'doubt')\n"
    "if h[1] == tag then\n"
    "  redis.call('HSET', KEYS[1], 'beat', n(ms))\n"
    "  redis.call('HDEL', KEYS[1], 'doubt')\n"
    "  return {0, tag, 0}\n"
    "end\n"
    "local there = h[1] and h[2] == scope and h[4] ~= 'x'\n"
    "local runs = h[4] == 'r'\n"
    "if last ~= '' then\n"
    "  if not there or h[1] ~= last or from < tonumber(h[6]) or\n"
    "     (not runs and from > tonumber(h[7])) then return {3, tag, 0} end\n"
    "  if h[3] ~= body then return {2, tag, 0} end\n"
    "  return {1, h[1], tonumber(h[6])}\n"
    "end\n"
    "if there and h[4] ~= 'f' and not (runs and dead(h[5], h[8], tonumber(ARGV[6]))) then\n"
    "  if h[3] ~= body then return {2, tag, 0} end\n"
    "  if tonumber(h[6]) > 0 then return {4, tag, 0} end\n"
    "  return {1, h[1], 0}\n"
    "end\n"
    "redis.call('DEL', KEYS[1], KEYS[2])\n"
    "redis.call('HSET', KEYS[1], 'tag', tag, 'scope', scope, 'body', body, 'state', 'r',\n"
    "  'beat', n(ms), 'first', 0, 'n', 0, 'bytes', 0, 'cut', 0)\n"
    "redis.call('PEXPIRE', KEYS[1], ARGV[7])\n"
    "return {0, tag, 0}\n";

const char answer_script_tell[] = ANSWER_LUA_NOW
    "local tag, from, state, keep = ARGV[1], tonumber(ARGV[4]), ARGV[6], ARGV[9]\n"
    "local h = redis.call('HMGET', KEYS[1], 'tag', 'first', 'n', 'bytes')\n"
    "if h[1] and h[1] ~= tag then return -1 end\n"
    "local first, last, bytes = tonumber(h[2]), tonumber(h[3]), tonumber(h[4])\n"
    "if not h[1] or from > last then\n"
    "  if ARGV[5] ~= '1' then return -2 end\n"
    "  redis.call('DEL', KEYS[2])\n"
    "  first, last, bytes = from, from, 0\n"
    "  redis.call('HSET', KEYS[1], 'tag', tag, 'scope', ARGV[2], 'body', ARGV[3])\n"
    "end\n"
    "for i = 12 + last - from, #ARGV do\n"
    "  redis.call('RPUSH', KEYS[2], ARGV[i])\n"
    "  bytes, last = bytes + #ARGV[i], last + 1\n"
    "end\n"
    "while bytes > tonumber(ARGV[11]) and first < last do\n"
    "  local b = redis.call('LPOP', KEYS[2])\n"
    "  bytes, first = bytes - (b and #b or 0), first + 1\n"
    "end\n"
    "redis.call('HSET', KEYS[1], 'state', state, 'beat', n(ms), 'first', n(first), 'n', n(last),\n"
    "  'bytes', n(bytes), 'cut', ARGV[7])\n"
    "redis.call('HDEL', KEYS[1], 'doubt')\n"
    "if ARGV[8] ~= '' then redis.call('HSET', KEYS[1], 'head', ARGV[8]) end\n"
    "if state == 'x' then keep = ARGV[10] end\n"
    "redis.call('PEXPIRE', KEYS[1], keep)\n"
    "redis.call('PEXPIRE', KEYS[2], keep)\n"
    "return last\n";

const char answer_script_read[] = ANSWER_LUA_NOW ANSWER_LUA_DEAD
    "local h = redis.call('HMGET', KEYS[1], 'tag', 'state', 'beat', 'first', 'n', 'cut', 'head', "
    "'doubt')\n"
    "if h[1] ~= ARGV[1] then return {'-', 0, 0, 0, ''} end\n"
    "local state, first, last, at = h[2], tonumber(h[4]), tonumber(h[5]), tonumber(ARGV[2])\n"
    "if state == 'r' and dead(h[3], h[8], tonumber(ARGV[4])) then state = 'i' end\n"
    "local out = {state, first, last, tonumber(h[6]), ARGV[3] == '1' and h[7] or ''}\n"
    "local i, bytes = at - first, 0\n"
    "while i >= 0 and i < last - first and bytes < 262144 do\n"
    "  local part = redis.call('LRANGE', KEYS[2], i, i + 15)\n"
    "  if #part == 0 then break end\n"
    "  for _, b in ipairs(part) do\n"
    "    out[#out + 1] = b\n"
    "    bytes = bytes + #b\n"
    "  end\n"
    "  i = i + #part\n"
    "end\n"
    "return out\n";

/* ---- what is told ---- */

void answer_wire_keys(const unsigned char *name, struct answer_keys *out)
{
    char hex[2 * ANSWER_NAME_BYTES + 1];
    crypto_hex(name, ANSWER_NAME_BYTES, hex);
    snprintf(out->hash, sizeof(out->hash), "bud:answer:{%s}", hex);
    snprintf(out->blocks, sizeof(out->blocks), "bud:answer:{%s}:blocks", hex);
}

void answer_wire_tag(uint64_t tag, char out[ANSWER_WIRE_TAG_BYTES])
{
    for (unsigned i = 0; i < ANSWER_WIRE_TAG_BYTES; i++) {
        out[i] = (char)(tag >> (8 * (ANSWER_WIRE_TAG_BYTES - 1 - i)));
    }
}

/* ---- heads: "status length stream\n" and the lines, under a seal ---- */

enum rc answer_wire_seal_head(const struct answer *a, struct buf *out)
{
    unsigned char nonce[CRYPTO_NONCE_BYTES];
    struct buf text;
    ASSERT(a->begun);
    buf_init(&text, ANSWER_WIRE_HEAD_BYTES);
    buf_add_printf(&text, "%d %lld %d\n", a->head.status, (long long)a->head.length,
                   a->head.stream ? 1 : 0);
    buf_add_str(&text, a->head.lines);
    enum rc rc = buf_ok(&text) ? RC_OK : RC_TOO_LARGE;
    char *to = rc == RC_OK ? buf_reserve(out, CRYPTO_TAG_BYTES + text.len) : NULL;
    if (to != NULL) {
        answer_nonce(UINT64_MAX, nonce);
        rc = crypto_seal(a->key, nonce, STR_LIT("head"), buf_str(&text),
                         (unsigned char *)to + CRYPTO_TAG_BYTES, (unsigned char *)to);
        buf_commit(out, rc == RC_OK ? CRYPTO_TAG_BYTES + text.len : 0);
    }
    buf_deinit(&text);
    return to != NULL ? rc : RC_NOMEM;
}

static bool answer_read_head(struct str text, struct answer_head *out)
{
    struct str line = str_cut(&text, '\n');
    struct str status = str_cut(&line, ' '), length = str_cut(&line, ' ');
    uint64_t n_status, n_length = 0;
    bool known = !str_is(length, "-1");
    bool ok = str_to_u64(status, &n_status) && n_status >= 100 && n_status <= 599 &&
              (!known || (str_to_u64(length, &n_length) && n_length <= INT64_MAX)) &&
              (str_is(line, "0") || str_is(line, "1"));
    if (ok) {
        *out = (struct answer_head){.status = (int)n_status,
                                    .length = known ? (int64_t)n_length : -1,
                                    .stream = str_is(line, "1"),
                                    .lines = text};
    }
    return ok;
}

enum rc answer_wire_open_head(const struct answer *a, struct str sealed, struct buf *text,
                              struct answer_head *out)
{
    unsigned char nonce[CRYPTO_NONCE_BYTES];
    if (sealed.len < CRYPTO_TAG_BYTES || sealed.len > ANSWER_WIRE_HEAD_BYTES) {
        return RC_CORRUPT;
    }
    struct str bytes = str_slice(sealed, CRYPTO_TAG_BYTES, sealed.len);
    char *to = buf_reserve(text, bytes.len + 1);
    answer_nonce(UINT64_MAX, nonce);
    if (to == NULL ||
        crypto_open(a->key, nonce, STR_LIT("head"), bytes, (const unsigned char *)sealed.ptr,
                    (unsigned char *)to) != RC_OK) {
        return RC_CORRUPT;
    }
    buf_commit(text, bytes.len);
    return answer_read_head(buf_str(text), out) ? RC_OK : RC_CORRUPT;
}

/* ---- what is said ---- */

struct answer_block *answer_wire_take_block(struct str bytes)
{
    struct answer_block *b = NULL;
    if (bytes.len >= ANSWER_WIRE_BLOCK_MIN && bytes.len <= REDIS_REPLY_BYTES_MAX &&
        (unsigned char)bytes.ptr[0] <= 1) {
        b = mem_try_alloc(sizeof(*b) + bytes.len - ANSWER_WIRE_BLOCK_MIN);
    }
    if (b != NULL) {
        b->n_refs = 1;
        b->n_bytes = (uint32_t)(bytes.len - ANSWER_WIRE_BLOCK_MIN);
        b->comment = (unsigned char)bytes.ptr[0];
        memcpy(b->tag, bytes.ptr + 1, sizeof(b->tag));
        memcpy(b->sealed, bytes.ptr + ANSWER_WIRE_BLOCK_MIN, b->n_bytes);
    }
    return b;
}

/* Numbers of blocks: far from any end. */
static bool answer_read_number(const struct redis_reply *reply, uint64_t *out)
{
    *out = (uint64_t)reply->integer;
    return reply->type == REDIS_INTEGER && reply->integer >= 0 && reply->integer < INT64_MAX / 2;
}

bool answer_wire_read_claim(const struct redis_reply *reply, struct answer_claimed *out)
{
    uint64_t how;
    const struct redis_reply *items = reply->items;
    if (reply->type != REDIS_ARRAY || reply->n != 3 || !answer_read_number(&items[0], &how) ||
        how >= ANSWER_WIRE_N || items[1].type != REDIS_TEXT ||
        items[1].text.len != ANSWER_WIRE_TAG_BYTES || !answer_read_number(&items[2], &out->first)) {
        return false;
    }
    out->how = (enum answer_wire_claim)how;
    out->tag = 0;
    for (unsigned i = 0; i < ANSWER_WIRE_TAG_BYTES; i++) {
        out->tag = out->tag << 8 | (unsigned char)items[1].text.ptr[i];
    }
    return true;
}

bool answer_wire_read_told(const struct redis_reply *reply, int64_t *n)
{
    *n = reply->integer;
    return reply->type == REDIS_INTEGER && *n >= ANSWER_TOLD_GAP;
}

bool answer_wire_read_news(const struct redis_reply *reply, struct answer_news *out)
{
    const struct redis_reply *items = reply->items;
    uint64_t cut;
    if (reply->type != REDIS_ARRAY || reply->n < 5 || items[0].type != REDIS_TEXT ||
        items[0].text.len != 1 || !answer_read_number(&items[1], &out->first) ||
        !answer_read_number(&items[2], &out->n) || !answer_read_number(&items[3], &cut) ||
        items[4].type != REDIS_TEXT || out->first > out->n) {
        return false;
    }
    out->state = items[0].text.ptr[0];
    out->cut = cut != 0;
    out->head = items[4].text;
    out->blocks = items + 5;
    out->n_blocks = reply->n - 5;
    for (uint32_t i = 0; i < out->n_blocks; i++) {
        if (out->blocks[i].type != REDIS_TEXT) {
            return false;
        }
    }
    return strchr("-rdfxi", out->state) != NULL && out->state != '\0';
}

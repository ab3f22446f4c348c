/* lease_wire.c: see lease_wire.h.
 *
 * In Redis: `bud:gateways`, a hash of gateway → milliseconds of its last word, and of `=since` →
 * those of the first word of all: nothing is leased for a moment behind it, so that after a loss of
 * all data every gateway has told what it knows. And for each subject a hash `bud:limit:NAME`:
 *
 *   rn tn               limits of the minute under which the levels came about
 *   rl tl  at           level of the minute's requests and tokens, as of
 *   day du  mon mu      used of that day and month
 *   g:GATEWAY           packed: seq and when it came, then leased and idle of each unit, then how
 * low rl and tl stood since then s:STORE             what this usage table knew was counted in ep
 * epoch: when this count began sd gd  sm gm        of du and mu: what usage tables knew, what was
 * heard before the epoch gr gt               of rl and tl: what was heard before the epoch, drained
 * like these
 *
 * Every answer says what all have used, and of which epoch that is. A hash that was lost begins a
 * new epoch: whoever heard of an earlier one says what it heard last. The most that was heard is
 * what all had told before the loss; of what usage tables know it is a part or the whole, so the
 * larger of the two counts.
 *
 * With Redis's clock set back nothing begins anew: a day or month that has begun stays (as in
 * limit.c's bucket_turn), and what is noted of a later time counts as noted now.
 * A lease counts only while its gateway is alive; the level never drains below 0, and what is
 * leased does not drain at all: so no unit is ever counted by less than it should be. What comes
 * back from a minute (`back`) was put in before its gateway's last word or since: it is let off as
 * far as the level never stood lower since that word, or, if that is more, as far as all that
 * drained since cannot have been of it (limit_lows.h says why, and why others' lows then fall). */
#include "gateway/lease_wire.h"

#include <stdio.h>

#include "gateway/lease.h"

const char lease_script[] =
    "local t = redis.call('TIME')\n"
    "local us = t[1] * 1000000 + t[2]\n"
    "local ms = math.floor(us / 1000)\n"
    "local day = math.floor(t[1] / 86400)\n"
    "local id, ttl, store, leave = ARGV[1], tonumber(ARGV[2]), 's:' .. ARGV[3], ARGV[4] == '1'\n"
    "local function month_of(d)\n"
    "  local z = d + 719468\n"
    "  local era = math.floor(z / 146097)\n"
    "  local doe = z - era * 146097\n"
    "  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) -\n"
    "    math.floor(doe / 146096)) / 365)\n"
    "  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))\n"
    "  local mp = math.floor((5 * doy + 2) / 153)\n"
    "  local m = mp < 10 and mp + 3 or mp - 9\n"
    "  return (yoe + era * 400 + (m <= 2 and 1 or 0)) * 12 + m - 1\n"
    "end\n"
    "local month = month_of(day)\n"
    "local live, n_live, known, since = {}, 1, 0, nil\n"
    "local all = redis.call('HGETALL', KEYS[1])\n"
    "for i = 1, #all, 2 do\n"
    "  local word = tonumber(all[i + 1])\n"
    "  if word > ms then\n"
    "    word = all[i] == '=since' and ms - ttl or ms\n"
    "    redis.call('HSET', KEYS[1], all[i], string.format('%.0f', word))\n"
    "  end\n"
    "  local fresh = ms - word <= ttl\n"
    "  if all[i] == '=since' then\n"
    "    since = word\n"
    "  elseif all[i] == id then\n"
    "    known = fresh and 1 or 0\n"
    "  elseif fresh then\n"
    "    live[all[i]] = true\n"
    "    n_live = n_live + 1\n"
    "  else\n"
    "    redis.call('HDEL', KEYS[1], all[i])\n"
    "  end\n"
    "end\n"
    "if leave then redis.call('HDEL', KEYS[1], id)\n"
    "else redis.call('HSET', KEYS[1], id, string.format('%.0f', ms)) end\n"
    "if not since then\n"
    "  since = ms\n"
    "  redis.call('HSET', KEYS[1], '=since', string.format('%.0f', ms))\n"
    "end\n"
    "local young = ms - since < ttl * 0.15\n"
    "local out = {known, young and 1 or 0}\n"
    "local format = string.rep('l', 40)\n"
    "for k = 2, #KEYS do\n"
    "  local a = {struct.unpack(format, ARGV[k + 3])}\n"
    "  local h, mine, others, changed = {}, nil, {}, {}\n"
    "  local held, idle = {0, 0, 0, 0, 0}, {0, 0, 0, 0, 0}\n"
    "  local raw = redis.call('HGETALL', KEYS[k])\n"
    "  for i = 1, #raw, 2 do\n"
    "    local f = raw[i]\n"
    "    if string.sub(f, 1, 2) == 'g:' then\n"
    "      local g = string.sub(f, 3)\n"
    "      if g == id then\n"
    "        mine = cmsgpack.unpack(raw[i + 1])\n"
    "      elseif live[g] then\n"
    "        local r = cmsgpack.unpack(raw[i + 1])\n"
    "        others[f] = r\n"
    "        for u = 1, 5 do\n"
    "          held[u] = held[u] + r[2 * u + 1]\n"
    "          idle[u] = idle[u] + r[2 * u + 2]\n"
    "        end\n"
    "      else\n"
    "        redis.call('HDEL', KEYS[k], f)\n"
    "      end\n"
    "    else\n"
    "      h[f] = tonumber(raw[i + 1])\n"
    "    end\n"
    "  end\n"
    "  local past = us - math.min(h.at or us, us)\n"
    "  local level, low = {h.rl or 0, h.tl or 0}, {0, 0}\n"
    "  local same = h.day == day or h.day == day + 1\n"
    "  local today, thismonth = same and h.day or day, same and h.mon or month\n"
    "  local used, table, heard = {0, 0}, {0, 0}, {0, 0}\n"
    "  if h.day and today <= h.day then\n"
    "    used[1], table[1], heard[1] = h.du or 0, h.sd or 0, h.gd or 0\n"
    "  end\n"
    "  if h.mon and thismonth <= h.mon then\n"
    "    used[2], table[2], heard[2] = h.mu or 0, h.sm or 0, h.gm or 0\n"
    "  end\n"
    "  local epoch = h.ep or us\n"
    "  local lost = a[34] ~= 0 and a[34] ~= epoch\n"
    "  local now = {today, thismonth}\n"
    "  for d = 1, 2 do\n"
    "    local was = math.max(table[d], heard[d])\n"
    "    if lost and a[38 + d] >= now[d] then heard[d] = math.max(heard[d], a[36 + d])\n"
    "    elseif not lost and not h[store] then table[d] = table[d] + a[31 + d] end\n"
    "    used[d] = used[d] + math.max(table[d], heard[d]) - was\n"
    "  end\n"
    "  if not h[store] then redis.call('HSET', KEYS[k], store, 1) end\n"
    "  local before = {h.gr or 0, h.gt or 0}\n"
    "  local new = not mine or mine[1] ~= a[1]\n"
    "  for u = 1, 2 do\n"
    "    local b = 2 + (u - 1) * 6\n"
    "    local was = u == 1 and h.rn or h.tn\n"
    "    if was and was ~= a[b] then\n"
    "      level[u], before[u] = math.min(level[u], a[b]), math.min(before[u], a[b])\n"
    "    end\n"
    "    level[u] = a[b] > 0 and math.max(0, level[u] - a[b] * past / 60000000) or 0\n"
    "    before[u] = a[b] > 0 and math.max(0, before[u] - a[b] * past / 60000000) or 0\n"
    "    if lost and a[b] > 0 and a[34 + u] > before[u] then\n"
    "      level[u], before[u] = level[u] + a[34 + u] - before[u], a[34 + u]\n"
    "    end\n"
    "    local stood, back = level[u], 0\n"
    "    low[u] = math.min(mine and mine[12 + u] or 0, stood)\n"
    "    if new then\n"
    "      local drained = a[b] * (us - math.min(mine and mine[2] or 0, us)) / 60000000\n"
    "      back = math.max(math.min(a[b + 2], low[u]), a[b + 2] - drained)\n"
    "      level[u] = math.max(0, stood + a[b + 1] - back)\n"
    "      low[u] = level[u]\n"
    "    end\n"
    "    for f, r in pairs(others) do\n"
    "      local was = r[12 + u] or 0\n"
    "      r[12 + u] = math.max(0, math.min(was, stood) - back)\n"
    "      if r[12 + u] ~= was then changed[f] = r end\n"
    "    end\n"
    "  end\n"
    "  for f, r in pairs(changed) do redis.call('HSET', KEYS[k], f, cmsgpack.pack(r)) end\n"
    "  if new then\n"
    "    used[1] = used[1] + a[15]\n"
    "    used[2] = used[2] + a[21]\n"
    "  end\n"
    "  local taken = {level[1], level[2], used[1], used[2], 0}\n"
    "  local record = {a[1], new and us or mine[2]}\n"
    "  record[13], record[14] = low[1], low[2]\n"
    "  for u = 1, 5 do\n"
    "    local b = 2 + (u - 1) * 6\n"
    "    local grant, free = 0, 0\n"
    "    if a[b] > 0 and not young then\n"
    "      local room = math.max(0, math.floor(a[b] - taken[u] - held[u] - a[b + 3]))\n"
    "      grant = math.min(room, a[b + 4])\n"
    "      free = room - grant\n"
    "      local extra = math.min(a[b + 5], math.floor(free / (8 * n_live)))\n"
    "      grant, free = grant + extra, free - extra\n"
    "    end\n"
    "    record[2 * u + 1], record[2 * u + 2] = a[b + 3] + grant, grant\n"
    "    out[#out + 1], out[#out + 2], out[#out + 3] = grant, free, idle[u]\n"
    "  end\n"
    "  for _, v in ipairs({epoch, math.ceil(level[1]), math.ceil(level[2]), math.ceil(used[1]),\n"
    "      math.ceil(used[2]), today, thismonth}) do\n"
    "    out[#out + 1] = math.min(v, 4611686018427387904)\n"
    "  end\n"
    "  local function n(v) return string.format('%.17g', v) end\n"
    "  redis.call('HSET', KEYS[k], 'rl', n(level[1]), 'tl', n(level[2]),\n"
    "    'at', n(us), 'day', today, 'du', n(used[1]),\n"
    "    'mon', thismonth, 'mu', n(used[2]), 'rn', n(a[2]), 'tn', n(a[8]), 'ep', n(epoch),\n"
    "    'sd', n(table[1]), 'gd', n(heard[1]), 'sm', n(table[2]), 'gm', n(heard[2]),\n"
    "    'gr', n(before[1]), 'gt', n(before[2]), 'g:' .. id, cmsgpack.pack(record))\n"
    "  redis.call('EXPIRE', KEYS[k], 3456000)\n"
    "end\n"
    "return out\n";

_Static_assert(LEASE_NUMBERS == 40 && sizeof(long) == sizeof(int64_t), "the script's format");

/* ---- what is told ---- */

static int64_t lease_number(__int128 n)
{
    const __int128 most = (__int128)1 << 62;
    return (int64_t)(n < 0 ? 0 : MIN(n, most));
}

__int128 lease_keep(const struct limit_lease *lease)
{
    uint64_t most = MAX(lease->taken, lease->taken_before);
    return lease->tight ? 0 : (__int128)most * (LEASE_KEEP_MS / LEASE_WINDOW_MS);
}

/* While nobody answered, minutes have drained: what they still hold is all that is left to tell. */
static void lease_forget_drained(struct limit_leases *s, uint64_t now_ns)
{
    const struct limit_bucket *b = s->bucket;
    const struct limit_meter *meters[] = {&b->requests, &b->tokens};
    for (unsigned u = LIMIT_UNIT_REQUESTS; u <= LIMIT_UNIT_TOKENS; u++) {
        struct limit_lease *lease = &s->of[u];
        uint64_t limit = limit_lease_limit(&s->limits, u);
        __int128 level = limit != 0 ? limit_meter_units(meters[u], limit, now_ns) : 0;
        lease->used = MIN(lease->used + (s->sent ? lease->sent_used : 0), level);
        lease->back = 0;
        if (s->sent) {
            lease->sent_used = lease->sent_back = 0;
        }
    }
}

static void lease_pack_seeds(const struct limit_leases *s, int64_t *out)
{
    const struct limit_bucket *b = s->bucket;
    const struct limit_lease *day = &s->of[LIMIT_UNIT_DAY], *month = &s->of[LIMIT_UNIT_MONEY];
    out[0] = lease_number((__int128)b->day_used - day->used - day->sent_used);
    out[1] = lease_number((__int128)b->month_used - month->used - month->sent_used);
}

static void lease_pack_heard(const struct limit_leases *s, uint64_t now_ns, int64_t *out)
{
    const struct limit_heard *h = &s->heard;
    uint64_t rpm = limit_lease_limit(&s->limits, LIMIT_UNIT_REQUESTS);
    uint64_t tpm = limit_lease_limit(&s->limits, LIMIT_UNIT_TOKENS);
    out[0] = (int64_t)h->epoch;
    out[1] = rpm != 0 ? lease_number(limit_meter_units(&h->requests, rpm, now_ns)) : 0;
    out[2] = tpm != 0 ? lease_number(limit_meter_units(&h->tokens, tpm, now_ns)) : 0;
    out[3] = lease_number(h->day_used);
    out[4] = lease_number(h->month_used);
    out[5] = h->day;
    out[6] = h->month;
}

void lease_pack(struct limit_leases *s, const struct lease_pack_how *how, struct lease_packed *out)
{
    if (how->away) {
        lease_forget_drained(s, how->now.mono_ns);
    }
    if (!s->sent) {
        s->sent = true;
        s->seq++;
        for (unsigned u = 0; u < LIMIT_UNITS; u++) {
            struct limit_lease *lease = &s->of[u];
            lease->sent_used = lease->used;
            lease->sent_back = lease->back;
            lease->used = lease->back = 0;
        }
    }
    snprintf(out->key, sizeof(out->key), "bud:limit:%s", s->bucket->name);
    int64_t *n = out->numbers;
    *n++ = (int64_t)s->seq;
    for (unsigned u = 0; u < LIMIT_UNITS; u++) {
        struct limit_lease *lease = &s->of[u];
        bool limited = limit_lease_limit(&s->limits, u) != 0;
        __int128 target = limited && !how->leave ? lease_keep(lease) : 0;
        __int128 idle = limited && !how->leave ? MAX(lease->idle, (__int128)0) : 0;
        __int128 kept = MIN(idle, MAX(target, s->need[u]));
        __int128 want = limited ? MAX(kept, s->need[u]) : 0;
        lease->idle = s->kept[u] = kept;
        s->wanted[u] = (uint64_t)lease_number(want);
        *n++ = (int64_t)limit_lease_limit(&s->limits, u);
        *n++ = lease_number(lease->sent_used);
        *n++ = lease_number(lease->sent_back);
        *n++ = lease_number(lease->reserved);
        *n++ = lease_number(want);
        *n++ = lease_number(MAX(target - want, (__int128)0));
    }
    lease_pack_seeds(s, n);
    lease_pack_heard(s, how->now.mono_ns, n + LEASE_SEEDS);
}

/* ---- what is answered ---- */

bool lease_reply_ok(const struct redis_reply *reply, uint32_t n)
{
    if (reply->type != REDIS_ARRAY || reply->n != LEASE_REPLY_HEAD + n * LEASE_REPLY_NUMBERS) {
        return false;
    }
    for (uint32_t i = 0; i < reply->n; i++) {
        if (reply->items[i].type != REDIS_INTEGER || reply->items[i].integer < 0) {
            return false;
        }
    }
    return true;
}

bool lease_reply_knows(const struct redis_reply *reply)
{
    return reply->items[0].integer == 1;
}

bool lease_reply_is_young(const struct redis_reply *reply)
{
    return reply->items[1].integer == 1;
}

/* What one epoch said last holds; behind it another may know less until all have told. */
static void lease_hear_level(struct limit_meter *m, uint64_t limit, uint64_t units, bool same,
                             uint64_t now_ns)
{
    if (limit != 0 && (same || units > limit_meter_units(m, limit, now_ns))) {
        limit_meter_set(m, limit, units, now_ns);
    }
}

static void lease_hear(struct limit_leases *s, const struct redis_reply *at, uint64_t now_ns)
{
    struct limit_heard *h = &s->heard;
    bool same = h->epoch == (uint64_t)at[0].integer;
    int64_t day = at[5].integer, month = at[6].integer;
    uint64_t day_used = (uint64_t)at[3].integer, month_used = (uint64_t)at[4].integer;
    lease_hear_level(&h->requests, limit_lease_limit(&s->limits, LIMIT_UNIT_REQUESTS),
                     (uint64_t)at[1].integer, same, now_ns);
    lease_hear_level(&h->tokens, limit_lease_limit(&s->limits, LIMIT_UNIT_TOKENS),
                     (uint64_t)at[2].integer, same, now_ns);
    h->day_used = day == h->day ? MAX(h->day_used, day_used) : day_used;
    h->month_used = month == h->month ? MAX(h->month_used, month_used) : month_used;
    h->day = day;
    h->month = month;
    h->epoch = (uint64_t)at[0].integer;
}

void lease_unpack(struct limit_leases *s, const struct redis_reply *reply, uint32_t idx,
                  struct limit_time now)
{
    const struct redis_reply *at =
        reply->items + LEASE_REPLY_HEAD + (size_t)idx * LEASE_REPLY_NUMBERS;
    s->sent = s->stale = false;
    for (unsigned u = 0; u < LIMIT_UNITS; u++, at += 3) {
        struct limit_lease *lease = &s->of[u];
        uint64_t limit = limit_lease_limit(&s->limits, u);
        lease->sent_used = lease->sent_back = 0;
        lease->idle += at[0].integer - s->kept[u];
        lease->free = (uint64_t)at[1].integer;
        lease->spent = (uint64_t)at[0].integer < s->wanted[u];
        lease->elsewhere = at[2].integer > 0;
        lease->tight = lease->free < limit / 10;
    }
    lease_hear(s, at, now.mono_ns);
}

/* cmd_key.c: `bud key create|ls|show|rotate|revoke`: API keys in the local store. A running front
 * door sees a change within a second. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "auth/scope.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/front.h"

static const struct args_row cmd_key_options[] = {
    {"--name", 'n', "NAME", "what the key is for, for people"},
    {"--project", 'p', "NAME", "the project it belongs to"},
    {"--user", 'u', "NAME", "the user it belongs to"},
    {"--scope", 's', "SCOPE", "what it may do, as below; may be repeated (default: all)"},
    {"--limit", 'l', "NAME=N", "how much it may use, as below; may be repeated"},
    {"--expires", 'e', "TIME", "in so long: 90d, 12h, 30m"},
    {"--overlap", 0, "TIME", "rotate: how long the old key stays valid (default 24h)"},
    {"--json", 0, NULL, "print JSON"},
    {0},
};

/* ---- what is asked for ---- */

/* "90d" in seconds. */
static enum rc key_duration(const char *text, int64_t *out, struct err *err)
{
    struct str s = str_from(text);
    uint64_t n = 0;
    char unit = s.len > 0 ? s.ptr[s.len - 1] : '\0';
    int64_t scale = unit == 'd' ? 86400 : unit == 'h' ? 3600 : unit == 'm' ? 60 : 0;
    if (scale == 0 || !str_to_u64(str_slice(s, 0, s.len - 1), &n) || n == 0 || n > 36500) {
        return err_set(err, RC_INVALID, "'%s': expected a time such as 90d, 12h or 30m", text);
    }
    *out = (int64_t)n * scale;
    return RC_OK;
}

static enum rc key_scopes(const struct args *a, char *out, size_t size, struct err *err)
{
    struct buf b;
    const char *word;
    buf_init(&b, 4096);
    for (uint32_t i = 0; (word = args_nth(a, "--scope", i)) != NULL; i++) {
        buf_add_cstr(&b, i > 0 ? " " : "");
        buf_add_cstr(&b, word);
    }
    enum rc rc = scope_check(buf_str(&b), err);
    if (rc == RC_OK && !str_copy(out, size, buf_str(&b))) {
        rc = err_set(err, RC_TOO_LARGE, "the scopes are too long");
    }
    buf_deinit(&b);
    return rc;
}

/* The limits as JSON, checked as the gateway will. */
static enum rc key_limits(const struct args *a, char *out, size_t size, struct err *err)
{
    struct cat_limits limits = {0};
    struct arena arena;
    struct buf b;
    const char *word;
    enum rc rc = RC_OK;
    arena_init(&arena, 1 << 16);
    buf_init(&b, 4096);
    for (uint32_t i = 0; rc == RC_OK && (word = args_nth(a, "--limit", i)) != NULL; i++) {
        char name[64];
        struct str value = str_from(word);
        str_copy(name, sizeof(name), str_cut(&value, '='));
        rc = conf_set(cat_limits_rows, name, value, &arena, &limits, err);
        buf_add_cstr(&b, i > 0 ? "," : "{");
        buf_add_printf(&b, "\"%s\":%.*s", name, STR(value));
    }
    buf_add_cstr(&b, b.len > 0 ? "}" : "");
    const struct json *check = NULL;
    if (rc == RC_OK && b.len > 0) {
        limits = (struct cat_limits){0};
        rc = json_parse(buf_str(&b), &arena, &check, err);
        rc = rc == RC_OK ? conf_read(cat_limits_rows, check, &arena, &limits, err) : rc;
    }
    if (rc == RC_OK && !str_copy(out, size, buf_str(&b))) {
        rc = err_set(err, RC_TOO_LARGE, "the limits are too long");
    }
    buf_deinit(&b);
    arena_deinit(&arena);
    return rc;
}

/* ---- showing ---- */

static const char *key_state(const struct meta_key *k, int64_t now_s)
{
    if (k->revoked_s != 0) {
        return "revoked";
    }
    return k->expires_s != 0 && k->expires_s <= now_s ? "expired" : "valid";
}

static const char *key_time(int64_t s, char out[24])
{
    time_t when = (time_t)s;
    struct tm tm;
    if (s == 0 || gmtime_r(&when, &tm) == NULL) {
        return "-";
    }
    strftime(out, 24, "%Y-%m-%dT%H:%MZ", &tm);
    return out;
}

static void key_print_json(const struct meta_key *k, int64_t now_s)
{
    struct json_writer w;
    struct buf b;
    buf_init(&b, 1 << 16);
    json_write_init(&w, &b);
    json_write_object_begin(&w);
    json_write_member_cstr(&w, "id", k->id);
    json_write_member_cstr(&w, "name", k->name);
    json_write_member_cstr(&w, "role", k->role);
    json_write_member_cstr(&w, "hint", k->hint);
    json_write_member_cstr(&w, "state", key_state(k, now_s));
    json_write_member_cstr(&w, "project", k->project);
    json_write_member_cstr(&w, "user", k->user);
    json_write_member_cstr(&w, "scopes", k->scopes);
    json_write_name(&w, "limits");
    json_write_raw(&w, k->limits[0] != '\0' ? str_from(k->limits) : STR_LIT("{}"));
    json_write_member_i64(&w, "created", k->created_s);
    json_write_member_i64(&w, "expires", k->expires_s);
    json_write_member_i64(&w, "revoked", k->revoked_s);
    json_write_member_i64(&w, "last_used", k->last_used_s);
    json_write_object_end(&w);
    printf("%s\n", b.ptr);
    buf_deinit(&b);
}

static void key_print_row(const struct meta_key *k, int64_t now_s)
{
    char used[24], expires[24];
    printf("%-29s %-8s %-12s %-12s %-18s %-18s %s\n", k->id, key_state(k, now_s),
           k->project[0] != '\0' ? k->project : "-", k->hint, key_time(k->last_used_s, used),
           key_time(k->expires_s, expires), k->name);
}

struct key_walk {
    const char *id; /* NULL = all */
    bool json, found;
    int64_t now_s;
    struct meta_key key; /* the one found */
};

static enum rc key_each(void *ctx, const struct meta_key *k)
{
    struct key_walk *w = ctx;
    if (w->id == NULL) {
        (w->json ? key_print_json : key_print_row)(k, w->now_s);
    } else if (strcmp(w->id, k->id) == 0) {
        w->found = true;
        w->key = *k;
    }
    return RC_OK;
}

static enum rc key_find(struct front_stores *s, const char *id, struct meta_key *out,
                        struct err *err)
{
    struct key_walk w = {.id = id};
    enum rc rc = meta_key_each(s->meta, key_each, &w, err);
    *out = w.key;
    return rc != RC_OK || w.found ? rc : err_set(err, RC_NOT_FOUND, "there is no key %s", id);
}

/* ---- verbs ---- */

static enum rc key_store(struct front_stores *s, const struct key_options *opt, bool json,
                         struct err *err)
{
    char text[KEY_TEXT_BYTES];
    struct meta_key row;
    key_make(&s->pepper, opt, text, &row);
    enum rc rc = meta_key_insert(s->meta, &row, err);
    if (rc == RC_OK && json) {
        printf("{\"id\":\"%s\",\"key\":\"%s\"}\n", row.id, text);
    } else if (rc == RC_OK) {
        printf("  id       %s\n  key      %s\n           (shown this once: keep it)\n", row.id,
               text);
    }
    mem_wipe(text, sizeof(text));
    return rc;
}

static enum rc key_create(struct front_stores *s, const struct args *a, struct err *err)
{
    char scopes[META_KEY_SCOPES_BYTES], limits[META_KEY_LIMITS_BYTES];
    int64_t now_s = clock_wall_s(clock_system()), life_s = 0;
    const char *expires = args_str(a, "--expires", NULL);
    enum rc rc = key_scopes(a, scopes, sizeof(scopes), err);
    rc = rc == RC_OK ? key_limits(a, limits, sizeof(limits), err) : rc;
    rc = rc == RC_OK && expires != NULL ? key_duration(expires, &life_s, err) : rc;
    const struct key_options opt = {.name = args_str(a, "--name", ""),
                                    .role = "developer",
                                    .created_s = now_s,
                                    .expires_s = life_s > 0 ? now_s + life_s : 0,
                                    .project = args_str(a, "--project", ""),
                                    .user = args_str(a, "--user", ""),
                                    .scopes = scopes,
                                    .limits = limits};
    return rc == RC_OK ? key_store(s, &opt, args_has(a, "--json"), err) : rc;
}

/* A new key with the old one's rights; the old one ends after the overlap. */
static enum rc key_rotate(struct front_stores *s, const struct args *a, const char *id,
                          struct err *err)
{
    struct meta_key old;
    int64_t now_s = clock_wall_s(clock_system()), overlap_s = 0;
    enum rc rc = key_duration(args_str(a, "--overlap", "24h"), &overlap_s, err);
    rc = rc == RC_OK ? key_find(s, id, &old, err) : rc;
    if (rc == RC_OK && strcmp(key_state(&old, now_s), "valid") != 0) {
        rc = err_set(err, RC_CONFLICT, "key %s is %s", id, key_state(&old, now_s));
    }
    if (rc != RC_OK) {
        return rc;
    }
    int64_t end_s = now_s + overlap_s;
    end_s = old.expires_s != 0 ? MIN(end_s, old.expires_s) : end_s;
    const struct key_options opt = {.name = old.name,
                                    .role = old.role,
                                    .created_s = now_s,
                                    .expires_s = old.expires_s,
                                    .project = old.project,
                                    .user = old.user,
                                    .scopes = old.scopes,
                                    .limits = old.limits};
    rc = key_store(s, &opt, args_has(a, "--json"), err);
    return rc == RC_OK ? meta_key_expire(s->meta, id, end_s, err) : rc;
}

static enum rc key_list(struct front_stores *s, const struct args *a, struct err *err)
{
    struct key_walk w = {.json = args_has(a, "--json"), .now_s = clock_wall_s(clock_system())};
    if (!w.json) {
        printf("%-29s %-8s %-12s %-12s %-18s %-18s %s\n", "ID", "STATE", "PROJECT", "KEY",
               "LAST USED", "EXPIRES", "NAME");
    }
    return meta_key_each(s->meta, key_each, &w, err);
}

static enum rc key_run(struct front_stores *s, const struct args *a, struct err *err)
{
    struct str verb = str_from(args_word(a, 0));
    const char *id = args_word(a, 1);
    int64_t now_s = clock_wall_s(clock_system());
    if (str_is(verb, "create") && id == NULL) {
        return key_create(s, a, err);
    }
    if (str_is(verb, "ls") && id == NULL) {
        return key_list(s, a, err);
    }
    if (id == NULL) {
        return err_set(err, RC_INVALID, "say create, ls, or show, rotate, revoke and the key's id");
    }
    if (str_is(verb, "revoke")) {
        return meta_key_revoke(s->meta, id, now_s, err);
    }
    if (str_is(verb, "rotate")) {
        return key_rotate(s, a, id, err);
    }
    if (!str_is(verb, "show")) {
        return err_set(err, RC_INVALID, "'%.*s' is not create, ls, show, rotate or revoke",
                       STR(verb));
    }
    struct meta_key key;
    enum rc rc = key_find(s, id, &key, err);
    if (rc == RC_OK) {
        key_print_json(&key, now_s);
    }
    return rc;
}

static enum rc cmd_key_main(const struct args *a, struct err *err)
{
    struct front_stores s = {0};
    enum rc rc = front_stores_open(&s, err);
    rc = rc == RC_OK ? key_run(&s, a, err) : rc;
    front_stores_close(&s);
    return rc;
}

const struct command cmd_key = {
    .name = "key",
    .words = "create|ls|show|rotate|revoke [ID]",
    .line = "Make, list and end API keys",
    .help =
        "A key is shown once, when it is made; the store keeps a keyed hash. Ids are those that\n"
        "'bud key ls' prints. A running server sees changes within a second.\n"
        "\n"
        "Scopes: chat, completions, embeddings, rerank, models, model:PATTERN. Limits:\n"
        "requests_per_minute, tokens_per_minute, tokens_per_day, concurrent, money_per_month.\n",
    .options = cmd_key_options,
    .n_words_min = 1,
    .n_words_max = 2,
    .run = cmd_key_main,
};

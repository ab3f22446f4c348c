/* cmd_key.c: `bud key create|ls|show|rotate|change|revoke`: API keys, here or at a server. A
 * running front door sees a change within a second. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cli/administer.h"
#include "cli/commands.h"

enum { KEY_BODY_BYTES_MAX = 65536, KEY_TARGET_BYTES_MAX = 512 };

static const struct args_row cmd_key_options[] = {
    {"--name", 'n', "NAME", "what the key is for, for people"},
    {"--role", 'r', "NAME", "what it may (default developer)"},
    {"--project", 'p', "NAME", "the project it belongs to"},
    {"--user", 'u', "NAME", "the user it belongs to"},
    {"--scope", 's', "SCOPE", "what it may do, as below; may be repeated (default: all)"},
    {"--limit", 'l', "NAME=N", "how much it may use, as below; may be repeated"},
    {"--expires", 'e', "TIME", "in so long: 90d, 12h, 30m"},
    {"--overlap", 0, "TIME", "rotate: how long the old key stays valid (default 24h)"},
    ADMINISTER_OPTIONS,
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

static void key_write_option(struct json_writer *w, const struct args *a, const char *option,
                             const char *member)
{
    const char *value = args_str(a, option, NULL);
    if (value != NULL) {
        json_write_member_cstr(w, member, value);
    }
}

static void key_write_scopes(struct json_writer *w, const struct args *a)
{
    const char *word;
    if (!args_has(a, "--scope")) {
        return;
    }
    json_write_name(w, "scopes");
    json_write_array_begin(w);
    for (uint32_t i = 0; (word = args_nth(a, "--scope", i)) != NULL; i++) {
        json_write_cstr(w, word);
    }
    json_write_array_end(w);
}

static enum rc key_write_limits(struct json_writer *w, const struct args *a, struct err *err)
{
    const char *word;
    if (!args_has(a, "--limit")) {
        return RC_OK;
    }
    json_write_name(w, "limits");
    json_write_object_begin(w);
    for (uint32_t i = 0; (word = args_nth(a, "--limit", i)) != NULL; i++) {
        struct str value = str_from(word);
        struct str name = str_cut(&value, '=');
        double number;
        if (!str_to_f64(value, &number)) {
            return err_set(err, RC_INVALID, "'%s': expected NAME=NUMBER", word);
        }
        json_write_name_str(w, name);
        json_write_raw(w, value);
    }
    json_write_object_end(w);
    return RC_OK;
}

static enum rc key_write_time(struct json_writer *w, const struct args *a, const char *option,
                              const char *member, struct err *err)
{
    const char *text = args_str(a, option, NULL);
    int64_t s = 0;
    enum rc rc = text != NULL ? key_duration(text, &s, err) : RC_OK;
    if (rc == RC_OK && text != NULL) {
        json_write_member_i64(w, member, s);
    }
    return rc;
}

/* The body of a request to make or change a key. */
static enum rc key_body(const struct args *a, bool make, struct buf *out, struct err *err)
{
    struct json_writer w;
    json_write_init(&w, out);
    json_write_object_begin(&w);
    key_write_option(&w, a, "--name", "name");
    if (make) {
        key_write_option(&w, a, "--role", "role");
        key_write_option(&w, a, "--project", "project");
        key_write_option(&w, a, "--user", "user");
    }
    key_write_scopes(&w, a);
    enum rc rc = key_write_limits(&w, a, err);
    rc = rc == RC_OK ? key_write_time(&w, a, "--expires", "expires_in", err) : rc;
    json_write_object_end(&w);
    return rc;
}

/* ---- showing ---- */

struct key_list {
    bool json;
};

static void key_print_json(const struct json *k)
{
    struct json_writer w;
    struct buf b;
    buf_init(&b, KEY_BODY_BYTES_MAX);
    json_write_init(&w, &b);
    json_write_value(&w, k);
    printf("%s\n", b.ptr);
    buf_deinit(&b);
}

static void key_print_row(void *ctx, const struct json *k)
{
    const struct key_list *list = ctx;
    char id[128], state[128], project[128], role[128], hint[128], name[128];
    char used[24], expires[24];
    if (list->json) {
        key_print_json(k);
        return;
    }
    administer_member(k, "project", project);
    printf("%-29s %-8s %-12s %-12s %-12s %-18s %-18s %s\n", administer_member(k, "id", id),
           administer_member(k, "state", state), administer_member(k, "role", role),
           project[0] != '\0' ? project : "-", administer_member(k, "hint", hint),
           administer_time(administer_number(k, "last_used"), used),
           administer_time(administer_number(k, "expires"), expires),
           administer_member(k, "name", name));
}

static void key_print_new(struct administer *ad, const struct json *k, bool json)
{
    char id[128], text[128];
    if (json) {
        printf("%.*s\n", STR(administer_text(ad)));
        return;
    }
    printf("  id       %s\n  key      %s\n           (shown this once: keep it)\n",
           administer_member(k, "id", id), administer_member(k, "key", text));
}

/* ---- verbs ---- */

static enum rc key_create(struct administer *ad, const struct args *a, struct err *err)
{
    const struct json *answer;
    struct buf body;
    buf_init(&body, KEY_BODY_BYTES_MAX);
    enum rc rc = key_body(a, true, &body, err);
    rc = rc == RC_OK
             ? administer_call(ad, HTTP_METHOD_POST, "/admin/v1/keys", buf_str(&body), &answer, err)
             : rc;
    if (rc == RC_OK) {
        key_print_new(ad, answer, args_has(a, "--json"));
    }
    buf_deinit(&body);
    return rc;
}

static enum rc key_list(struct administer *ad, const struct args *a, struct err *err)
{
    struct key_list list = {.json = args_has(a, "--json")};
    if (!list.json) {
        printf("%-29s %-8s %-12s %-12s %-12s %-18s %-18s %s\n", "ID", "STATE", "ROLE", "PROJECT",
               "KEY", "LAST USED", "EXPIRES", "NAME");
    }
    return administer_each(ad, "/admin/v1/keys", key_print_row, &list, err);
}

static const struct key_verb {
    const char *name;
    enum http_method method;
    const char *end; /* of the path, behind the key's id */
} key_verbs[] = {
    {"show", HTTP_METHOD_GET, ""},
    {"rotate", HTTP_METHOD_POST, "/rotate"},
    {"change", HTTP_METHOD_PATCH, ""},
    {"revoke", HTTP_METHOD_DELETE, ""},
};

static enum rc key_verb(struct administer *ad, const struct args *a, const struct key_verb *verb,
                        struct err *err)
{
    const struct json *answer;
    struct json_writer w;
    struct buf target, body;
    buf_init(&target, KEY_TARGET_BYTES_MAX);
    buf_init(&body, KEY_BODY_BYTES_MAX);
    buf_add_cstr(&target, "/admin/v1/keys/");
    administer_add_name(&target, args_word(a, 1));
    buf_add_cstr(&target, verb->end);
    enum rc rc = RC_OK;
    if (verb->method == HTTP_METHOD_PATCH) {
        rc = key_body(a, false, &body, err);
    } else if (verb->method == HTTP_METHOD_POST) {
        json_write_init(&w, &body);
        json_write_object_begin(&w);
        rc = key_write_time(&w, a, "--overlap", "overlap", err);
        json_write_object_end(&w);
    }
    if (rc == RC_OK && !buf_ok(&target)) {
        rc = err_set(err, RC_INVALID, "the key's id is too long");
    }
    rc = rc == RC_OK ? administer_call(ad, verb->method, target.ptr, buf_str(&body), &answer, err)
                     : rc;
    if (rc == RC_OK && verb->method == HTTP_METHOD_POST) {
        key_print_new(ad, answer, args_has(a, "--json"));
    } else if (rc == RC_OK && verb->method != HTTP_METHOD_DELETE) {
        printf("%.*s\n", STR(administer_text(ad)));
    }
    buf_deinit(&target);
    buf_deinit(&body);
    return rc;
}

static enum rc key_run(struct administer *ad, const struct args *a, struct err *err)
{
    struct str word = str_from(args_word(a, 0));
    const char *id = args_word(a, 1);
    if (str_is(word, "create") && id == NULL) {
        return key_create(ad, a, err);
    }
    if (str_is(word, "ls") && id == NULL) {
        return key_list(ad, a, err);
    }
    for (size_t i = 0; id != NULL && i < ARRAY_LEN(key_verbs); i++) {
        if (str_is(word, key_verbs[i].name)) {
            return key_verb(ad, a, &key_verbs[i], err);
        }
    }
    return err_set(err, RC_INVALID,
                   "say create, ls, or show, rotate, change, revoke and the key's id");
}

static enum rc cmd_key_main(const struct args *a, struct err *err)
{
    struct administer *ad;
    enum rc rc = administer_open(&ad, a, err);
    rc = rc == RC_OK ? key_run(ad, a, err) : rc;
    administer_close(ad);
    return rc;
}

const struct command cmd_key = {
    .name = "key",
    .words = "create|ls|show|rotate|change|revoke [ID]",
    .line = "Make, list and end API keys",
    .help =
        "A key is shown once, when it is made; the store keeps a keyed hash. Ids are those that\n"
        "'bud key ls' prints. A running server sees changes within a second.\n"
        "\n"
        "Scopes: chat, completions, embeddings, rerank, models, admin, model:PATTERN. Limits:\n"
        "requests_per_minute, tokens_per_minute, tokens_per_day, concurrent, money_per_month.\n",
    .options = cmd_key_options,
    .n_words_min = 1,
    .n_words_max = 2,
    .run = cmd_key_main,
};

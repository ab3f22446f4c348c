/* cmd_role.c: `bud role` and `bud user` ls|show|create|rm: who may do what, here or at a server. */
#include <stdio.h>

#include "cli/administer.h"
#include "cli/commands.h"

enum { ROLE_BODY_BYTES_MAX = 1 << 18, ROLE_TARGET_BYTES_MAX = 512 };

/* What the two commands differ in. */
struct role_kind {
    const char *path, *list; /* the member that a row shows */
};

static const struct role_kind role_kind_role = {"/admin/v1/roles", "permissions"};
static const struct role_kind role_kind_user = {"/admin/v1/users", "roles"};

static const struct args_row cmd_role_options[] = {
    {"--permission", 'p', "KIND[/NAME]:ACTION", "such as 'models/llama-*:invoke'; may be repeated"},
    ADMINISTER_OPTIONS,
    {0},
};
static const struct args_row cmd_user_options[] = {
    {"--role", 'r', "NAME", "bounds what keys of the user may do; may be repeated"},
    {"--organisation", 'o', "NAME", "the organisation that the user belongs to"},
    {"--service", 0, NULL, "a service account, not a person"},
    ADMINISTER_OPTIONS,
    {0},
};

struct role_list {
    const struct role_kind *kind;
    bool json;
};

static void role_print(void *ctx, const struct json *o)
{
    const struct role_list *l = ctx;
    struct json_writer w;
    struct buf b;
    char name[128], owner[128];
    const struct json *list = json_get_present(o, l->kind->list);
    buf_init(&b, ROLE_BODY_BYTES_MAX);
    if (l->json) {
        json_write_init(&w, &b);
        json_write_value(&w, o);
        printf("%s\n", b.ptr);
        buf_deinit(&b);
        return;
    }
    for (const struct json *it = list != NULL ? list->first : NULL; it != NULL; it = it->next) {
        buf_add_byte(&b, ' ');
        buf_add_str(&b, it->text);
    }
    printf("%-24s %-6s%.*s\n", administer_member(o, "name", name),
           administer_member(o, "owned_by", owner), STR(buf_str(&b)));
    buf_deinit(&b);
}

static void role_write_list(struct json_writer *w, const struct args *a, const char *option,
                            const char *member)
{
    const char *word;
    json_write_name(w, member);
    json_write_array_begin(w);
    for (uint32_t i = 0; (word = args_nth(a, option, i)) != NULL; i++) {
        json_write_cstr(w, word);
    }
    json_write_array_end(w);
}

static void role_body(const struct role_kind *kind, const struct args *a, struct buf *out)
{
    struct json_writer w;
    json_write_init(&w, out);
    json_write_object_begin(&w);
    if (kind == &role_kind_role) {
        role_write_list(&w, a, "--permission", kind->list);
    } else {
        const char *organisation = args_str(a, "--organisation", NULL);
        role_write_list(&w, a, "--role", kind->list);
        json_write_member_bool(&w, "service", args_has(a, "--service"));
        if (organisation != NULL) {
            json_write_member_cstr(&w, "organisation", organisation);
        }
    }
    json_write_object_end(&w);
}

static enum rc role_one(struct administer *ad, const struct role_kind *kind, const struct args *a,
                        enum http_method method, struct err *err)
{
    const struct json *answer;
    struct buf target, body;
    buf_init(&target, ROLE_TARGET_BYTES_MAX);
    buf_init(&body, ROLE_BODY_BYTES_MAX);
    buf_add_printf(&target, "%s/", kind->path);
    administer_add_name(&target, args_word(a, 1));
    if (method == HTTP_METHOD_PUT) {
        role_body(kind, a, &body);
    }
    enum rc rc = buf_ok(&target) ? RC_OK : err_set(err, RC_INVALID, "the name is too long");
    rc = rc == RC_OK ? administer_call(ad, method, target.ptr, buf_str(&body), &answer, err) : rc;
    if (rc == RC_OK && method != HTTP_METHOD_DELETE) {
        printf("%.*s\n", STR(administer_text(ad)));
    }
    buf_deinit(&target);
    buf_deinit(&body);
    return rc;
}

static enum rc role_run(struct administer *ad, const struct role_kind *kind, const struct args *a,
                        struct err *err)
{
    static const struct {
        const char *name;
        enum http_method method;
    } verbs[] = {
        {"show", HTTP_METHOD_GET}, {"create", HTTP_METHOD_PUT}, {"rm", HTTP_METHOD_DELETE}};
    struct str word = str_from(args_word(a, 0));
    const char *name = args_word(a, 1);
    if (str_is(word, "ls") && name == NULL) {
        struct role_list list = {.kind = kind, .json = args_has(a, "--json")};
        return administer_each(ad, kind->path, role_print, &list, err);
    }
    for (size_t i = 0; name != NULL && i < ARRAY_LEN(verbs); i++) {
        if (str_is(word, verbs[i].name)) {
            return role_one(ad, kind, a, verbs[i].method, err);
        }
    }
    return err_set(err, RC_INVALID, "say ls, or show, create, rm and a name");
}

static enum rc role_main(const struct role_kind *kind, const struct args *a, struct err *err)
{
    struct administer *ad;
    enum rc rc = administer_open(&ad, a, err);
    rc = rc == RC_OK ? role_run(ad, kind, a, err) : rc;
    administer_close(ad);
    return rc;
}

static enum rc cmd_role_main(const struct args *a, struct err *err)
{
    return role_main(&role_kind_role, a, err);
}

static enum rc cmd_user_main(const struct args *a, struct err *err)
{
    return role_main(&role_kind_user, a, err);
}

const struct command cmd_role = {
    .name = "role",
    .words = "ls|show|create|rm [NAME]",
    .line = "Sets of permissions that keys and users have",
    .help = "Built in are owner, admin, developer, viewer and billing. create replaces a role of\n"
            "that name.\n",
    .options = cmd_role_options,
    .n_words_min = 1,
    .n_words_max = 2,
    .run = cmd_role_main,
};

const struct command cmd_user = {
    .name = "user",
    .words = "ls|show|create|rm [NAME]",
    .line = "People and service accounts that own keys",
    .help = "create replaces a user of that name.\n",
    .options = cmd_user_options,
    .n_words_min = 1,
    .n_words_max = 2,
    .run = cmd_user_main,
};

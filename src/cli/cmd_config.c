/* cmd_config.c: `bud config check|show|diff|doc`: settings without starting anything. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/settings.h"
#include "gateway/catalog_file.h"

enum { CONFIG_TEXT_BYTES_MAX = 1 << 20 };

static const struct args_row cmd_config_options[] = {SETTINGS_OPTIONS, {0}};

static enum rc config_load(struct settings *s, const struct args *a, struct err *err)
{
    char home[PATH_MAX];
    enum rc rc = model_path_home(home, err);
    return rc == RC_OK ? settings_load(s, a, home, err) : rc;
}

static enum rc config_check(const struct settings *s, struct err *err)
{
    struct str models[1] = {STR_NULL};
    const struct cat_local local = {.models = models};
    if (s->catalogue.len > 0) {
        enum rc rc = catalog_file_check(s->catalogue.ptr, &local, err);
        if (rc != RC_OK) {
            return rc;
        }
    }
    printf("%s%s%s: no mistakes found\n", s->path.len > 0 ? s->path.ptr : "no file",
           s->catalogue.len > 0 ? ", " : "", s->catalogue.len > 0 ? s->catalogue.ptr : "");
    return RC_OK;
}

static enum rc config_print(const struct settings *s, const struct settings *other, struct err *err)
{
    struct buf out;
    buf_init(&out, CONFIG_TEXT_BYTES_MAX);
    conf_show(settings_rows, s, other, &out);
    fwrite(out.ptr != NULL ? out.ptr : "", 1, out.len, stdout);
    enum rc rc = buf_ok(&out) ? RC_OK : err_set(err, RC_TOO_LARGE, "the settings are too long");
    buf_deinit(&out);
    return rc;
}

/* Settings as they are without a file, an environment or flags. */
static enum rc config_defaults(struct settings *s, struct err *err)
{
    static const struct json none = {.type = JSON_OBJECT};
    *s = (struct settings){0};
    arena_init(&s->arena, 1 << 20);
    return conf_read(settings_rows, &none, &s->arena, s, err);
}

static void config_document(void)
{
    struct buf out;
    buf_init(&out, CONFIG_TEXT_BYTES_MAX);
    buf_add_cstr(&out, "## Settings\n\n| key | type | default | meaning |\n|---|---|---|---|\n");
    conf_document(settings_rows, "", &out);
    buf_add_cstr(&out, "\n## Catalogue\n\n| key | type | default | meaning |\n|---|---|---|---|\n");
    conf_document(cat_set_rows, "", &out);
    fwrite(out.ptr, 1, out.len, stdout);
    buf_deinit(&out);
}

static enum rc cmd_config_main(const struct args *a, struct err *err)
{
    struct settings s = {0}, defaults = {0};
    struct str verb = str_from(args_word(a, 0));
    if (str_is(verb, "doc")) {
        config_document();
        return RC_OK;
    }
    enum rc rc = config_load(&s, a, err);
    rc = rc == RC_OK ? config_defaults(&defaults, err) : rc;
    if (rc == RC_OK && str_is(verb, "check")) {
        rc = config_check(&s, err);
    } else if (rc == RC_OK && str_is(verb, "show")) {
        rc = config_print(&s, NULL, err);
    } else if (rc == RC_OK && str_is(verb, "diff")) {
        rc = config_print(&s, &defaults, err);
    } else if (rc == RC_OK) {
        rc = err_set(err, RC_INVALID, "'%.*s' is not check, show, diff or doc", STR(verb));
    }
    settings_deinit(&defaults);
    settings_deinit(&s);
    return rc;
}

const struct command cmd_config = {
    .name = "config",
    .words = "check|show|diff|doc",
    .line = "Check and show settings",
    .help = "check  reads the settings and the catalogue that they name, starts nothing\n"
            "show   prints every setting as it would be in force\n"
            "diff   prints those that are not the default\n"
            "doc    prints the reference of settings and catalogue, as Markdown\n",
    .options = cmd_config_options,
    .n_words_min = 1,
    .n_words_max = 1,
    .run = cmd_config_main,
};

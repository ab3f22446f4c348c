/* cmd_info.c: the small commands that only tell: version, doctor, ls, completion. */
#include <stdio.h>

#include "base/cpu.h"
#include "base/file.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "cli/print.h"
#include "device/device.h"
#include "engine/format/gguf.h"
#include "engine/tensor/backend.h"

static const struct args_row cmd_info_options[] = {
    {"--json", 0, NULL, "print JSON"},
    {0},
};

/* ---- version ---- */

static enum rc cmd_version_main(const struct args *a, struct err *err)
{
    UNUSED(err);
    printf(args_has(a, "--json") ? "{\"version\":\"%s\"}\n" : "bud %s\n", BUD_VERSION);
    return RC_OK;
}

const struct command cmd_version = {
    .name = "version",
    .words = "",
    .line = "Print the program's version",
    .options = cmd_info_options,
    .run = cmd_version_main,
};

/* ---- doctor ---- */

struct doctor {
    const struct cpu_features *cpu;
    struct device_info device;
    struct device_load load;
    const char *backend;
    char home[PATH_MAX];
};

static enum rc doctor_look(struct doctor *d, struct err *err)
{
    struct device *device = NULL;
    const struct backend_ops *ops = backend_find(NULL);
    *d = (struct doctor){.cpu = cpu_features(), .backend = ops != NULL ? ops->name : "none"};
    enum rc rc = device_cpu_open(&device, "", err);
    if (rc == RC_OK) {
        d->device = *device_info(device);
        rc = device_load(device, &d->load, err);
    }
    device_close(device);
    return rc == RC_OK ? model_path_home(d->home, err) : rc;
}

static void doctor_text(const struct doctor *d)
{
    const struct {
        const char *name;
        bool has;
    } features[] = {
        {"avx2 (with fma, f16c)", d->cpu->avx2},
        {"avx-vnni", d->cpu->avx_vnni},
        {"avx512", d->cpu->avx512},
        {"avx512-vnni", d->cpu->avx512_vnni},
        {"avx512-bf16", d->cpu->avx512_bf16},
    };
    char total[32];
    char left[32];
    print_bytes(total, d->device.memory_total_bytes);
    print_bytes(left, d->load.memory_free_bytes);
    printf("processor   %s, %u usable cores\n", d->device.name, d->device.n_cores);
    for (size_t i = 0; i < ARRAY_LEN(features); i++) {
        printf("  %-22s %s\n", features[i].name, features[i].has ? "yes" : "no");
    }
    printf("memory      %s, %s free\n", total, left);
    printf("will use    backend %s, %u threads\n", d->backend, d->device.n_cores);
    printf("data        %s%s\n", d->home, file_is_dir(d->home) ? "" : " (not made yet)");
}

static void doctor_json(const struct doctor *d, struct buf *out)
{
    struct json_writer w;
    json_write_init(&w, out);
    json_write_object_begin(&w);
    json_write_member_cstr(&w, "processor", d->device.name);
    json_write_member_i64(&w, "cores", d->device.n_cores);
    json_write_member_bool(&w, "avx2", d->cpu->avx2);
    json_write_member_bool(&w, "avx_vnni", d->cpu->avx_vnni);
    json_write_member_bool(&w, "avx512", d->cpu->avx512);
    json_write_member_bool(&w, "avx512_vnni", d->cpu->avx512_vnni);
    json_write_member_bool(&w, "avx512_bf16", d->cpu->avx512_bf16);
    json_write_member_i64(&w, "memory_bytes", (int64_t)d->device.memory_total_bytes);
    json_write_member_i64(&w, "memory_free_bytes", (int64_t)d->load.memory_free_bytes);
    json_write_member_cstr(&w, "backend", d->backend);
    json_write_member_cstr(&w, "data", d->home);
    json_write_object_end(&w);
    buf_add_byte(out, '\n');
}

static enum rc cmd_doctor_main(const struct args *a, struct err *err)
{
    struct doctor d;
    enum rc rc = doctor_look(&d, err);
    if (rc != RC_OK) {
        return rc;
    }
    if (!args_has(a, "--json")) {
        doctor_text(&d);
        return RC_OK;
    }
    struct buf out;
    buf_init(&out, 1 << 20);
    doctor_json(&d, &out);
    rc = print_buf(&out, err);
    buf_deinit(&out);
    return rc;
}

const struct command cmd_doctor = {
    .name = "doctor",
    .words = "",
    .line = "Show processor, memory and what will be used",
    .options = cmd_info_options,
    .run = cmd_doctor_main,
};

/* ---- ls ---- */

struct list_out {
    bool json;
    struct buf text;
    struct json_writer w;
};

struct list_row {
    char arch[24];
    uint64_t bytes;
};

/* Looks into the file's metadata; a file that is not a model is listed with what is wrong. */
static enum rc list_look(const char *path, struct list_row *row, struct err *err)
{
    struct weight_source *sources[WEIGHT_SOURCES_MAX];
    uint32_t n = 0;
    struct gguf *g = NULL;
    struct str arch;
    enum rc rc = weight_source_open_model(sources, &n, path, err);
    rc = rc == RC_OK ? gguf_open(&g, sources, n, err) : rc;
    rc = rc == RC_OK ? gguf_need_str(g, "general.architecture", &arch, err) : rc;
    if (rc == RC_OK) {
        str_copy(row->arch, sizeof(row->arch), arch);
    }
    gguf_close(g);
    for (uint32_t i = 0; i < n; i++) {
        row->bytes += sources[i]->size_bytes;
        weight_source_close(sources[i]);
    }
    return rc;
}

static enum rc list_each(void *ctx, const char *path)
{
    struct list_out *l = ctx;
    struct list_row row = {{0}, 0};
    struct err err = {0};
    struct str id = model_path_id(path);
    bool ok = list_look(path, &row, &err) == RC_OK;
    if (l->json) {
        json_write_object_begin(&l->w);
        json_write_member_str(&l->w, "id", id);
        json_write_member_cstr(&l->w, "path", path);
        json_write_member_cstr(&l->w, "architecture", row.arch);
        json_write_member_i64(&l->w, "bytes", (int64_t)row.bytes);
        if (!ok) {
            json_write_member_cstr(&l->w, "error", err.msg);
        }
        json_write_object_end(&l->w);
        return RC_OK;
    }
    char size[32];
    print_bytes(size, row.bytes);
    print_escaped(&l->text, id, 60);
    buf_add_printf(&l->text, "\t%s\t%s\t%s\n", ok ? row.arch : "(unreadable)", size, path);
    return RC_OK;
}

static enum rc cmd_ls_main(const struct args *a, struct err *err)
{
    struct list_out l = {.json = args_has(a, "--json")};
    buf_init(&l.text, 16 << 20);
    json_write_init(&l.w, &l.text);
    if (l.json) {
        json_write_array_begin(&l.w);
    }
    enum rc rc = model_path_each(list_each, &l);
    if (l.json) {
        json_write_array_end(&l.w);
        buf_add_byte(&l.text, '\n');
    }
    rc = rc == RC_OK ? print_buf(&l.text, err) : rc;
    buf_deinit(&l.text);
    return rc;
}

const struct command cmd_ls = {
    .name = "ls",
    .words = "",
    .line = "List the models at hand",
    .help = "Looks in $BUD_HOME/models and among the models that ship with the program.\n",
    .options = cmd_info_options,
    .run = cmd_ls_main,
};

/* ---- completion ---- */

static enum rc cmd_completion_main(const struct args *a, struct err *err)
{
    const char *shell = args_n_words(a) > 0 ? args_word(a, 0) : "bash";
    if (!str_is(str_from(shell), "bash") && !str_is(str_from(shell), "zsh")) {
        return err_set(err, RC_UNSUPPORTED, "no completion for %s: bash and zsh are known", shell);
    }
    if (str_is(str_from(shell), "zsh")) {
        puts("autoload -U +X bashcompinit && bashcompinit");
    }
    puts("_bud() {\n    local word=\"${COMP_WORDS[COMP_CWORD]}\" words\n"
         "    case \"$COMP_CWORD:${COMP_WORDS[1]}\" in");
    printf("    1:*) words=\"help");
    for (const struct command *const *c = commands_all(); *c != NULL; c++) {
        printf(" %s", (*c)->name);
    }
    puts("\" ;;");
    for (const struct command *const *c = commands_all(); *c != NULL; c++) {
        printf("    *:%s) words=\"--help", (*c)->name);
        for (const struct args_row *r = (*c)->options; r->name != NULL; r++) {
            printf(" %s", r->name);
        }
        puts("\" ;;");
    }
    puts("    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
         "    [[ $word == -* ]] || COMPREPLY+=($(compgen -f -- \"$word\"))\n}\n"
         "complete -o filenames -F _bud bud");
    return RC_OK;
}

static const struct args_row cmd_completion_options[] = {{0}};

const struct command cmd_completion = {
    .name = "completion",
    .words = "[bash|zsh]",
    .line = "Print a script that completes commands in the shell",
    .help = "For bash: source <(bud completion bash)\n",
    .options = cmd_completion_options,
    .n_words_max = 1,
    .run = cmd_completion_main,
};

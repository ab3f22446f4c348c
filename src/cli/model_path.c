/* model_path.c: see model_path.h. The models that ship lie in ../models beside the folder of the
 * program (a source tree: build/bud) or in ../share/bud/models (an installed one: bin/bud). */
#include "cli/model_path.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

enum { MODEL_PATH_FOLDERS = 3, MODEL_PATH_FILES_MAX = 4096 };

#define MODEL_PATH_SUFFIX ".gguf"

static bool model_path_join(char out[PATH_MAX], const char *folder, const char *name)
{
    int n = snprintf(out, PATH_MAX, "%s/%s", folder, name);
    return n > 0 && n < PATH_MAX;
}

enum rc model_path_home(char out[PATH_MAX], struct err *err)
{
    const char *home = getenv("BUD_HOME");
    if (home != NULL && home[0] != '\0') {
        if (!str_copy(out, PATH_MAX, str_from(home))) {
            return err_set(err, RC_INVALID, "BUD_HOME is too long");
        }
        return RC_OK;
    }
    home = getenv("XDG_DATA_HOME");
    bool ok;
    if (home != NULL && home[0] == '/') {
        ok = model_path_join(out, home, "bud");
    } else {
        home = getenv("HOME");
        ok = home != NULL && home[0] == '/' && model_path_join(out, home, ".local/share/bud");
    }
    if (!ok) {
        return err_set(err, RC_INVALID, "no folder for data: set BUD_HOME or HOME");
    }
    return RC_OK;
}

/* The folder that holds the running program's folder. */
static bool model_path_prefix(char out[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    if (n <= 0) {
        return false;
    }
    out[n] = '\0';
    for (int level = 0; level < 2; level++) {
        char *slash = strrchr(out, '/');
        if (slash == NULL) {
            return false;
        }
        *slash = '\0';
    }
    return true;
}

static uint32_t model_path_folders(char folders[MODEL_PATH_FOLDERS][PATH_MAX])
{
    uint32_t n = 0;
    char base[PATH_MAX];
    if (model_path_home(base, NULL) == RC_OK && model_path_join(folders[n], base, "models")) {
        n++;
    }
    if (model_path_prefix(base)) {
        n += model_path_join(folders[n], base, "models") ? 1 : 0;
        n += model_path_join(folders[n], base, "share/bud/models") ? 1 : 0;
    }
    return n;
}

enum rc model_path_find(const char *name, char out[PATH_MAX], struct err *err)
{
    if (file_exists(name) && !file_is_dir(name)) {
        if (!str_copy(out, PATH_MAX, str_from(name))) {
            return err_set(err, RC_INVALID, "%s: path too long", name);
        }
        return RC_OK;
    }
    char folders[MODEL_PATH_FOLDERS][PATH_MAX];
    uint32_t n = strchr(name, '/') == NULL ? model_path_folders(folders) : 0;
    for (uint32_t i = 0; i < n; i++) {
        char file[PATH_MAX];
        int len = snprintf(file, sizeof(file), "%s" MODEL_PATH_SUFFIX, name);
        if (len > 0 && len < PATH_MAX && model_path_join(out, folders[i], file) &&
            file_exists(out)) {
            return RC_OK;
        }
    }
    if (n == 0) {
        return err_set(err, RC_MODEL_NOT_FOUND, "%s: no such file", name);
    }
    return err_set(err, RC_MODEL_NOT_FOUND,
                   "%s: no such file, and no model of that name in %.200s ('bud ls' lists them)",
                   name, folders[0]);
}

struct str model_path_id(const char *path)
{
    struct str id = file_base_name(path);
    if (str_ends(id, STR_LIT(MODEL_PATH_SUFFIX))) {
        id.len -= sizeof(MODEL_PATH_SUFFIX) - 1;
    }
    struct str of = str_slice(id, id.len - MIN(id.len, (size_t)9), id.len);
    struct str part = str_slice(id, id.len - MIN(id.len, (size_t)15), id.len - of.len);
    if (str_starts(of, STR_LIT("-of-")) && str_is(part, "-00001")) {
        id.len -= of.len + part.len;
    }
    return id;
}

/* ---- listing ---- */

static int model_path_by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool model_path_is_model(const char *file)
{
    struct str name = str_from(file);
    return file[0] != '.' && str_ends(name, STR_LIT(MODEL_PATH_SUFFIX));
}

static enum rc model_path_folder_each(const char *folder,
                                      enum rc (*each)(void *ctx, const char *path), void *ctx)
{
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return RC_OK; /* a folder that does not exist holds no models */
    }
    char **names = mem_zalloc_array(MODEL_PATH_FILES_MAX, sizeof(*names));
    size_t n = 0;
    for (struct dirent *d = readdir(dir); d != NULL && n < MODEL_PATH_FILES_MAX; d = readdir(dir)) {
        if (model_path_is_model(d->d_name)) {
            names[n++] = mem_strdup(d->d_name);
        }
    }
    closedir(dir);
    qsort(names, n, sizeof(*names), model_path_by_name);
    enum rc rc = RC_OK;
    for (size_t i = 0; i < n; i++) {
        char path[PATH_MAX];
        if (rc == RC_OK && model_path_join(path, folder, names[i])) {
            rc = each(ctx, path);
        }
        mem_free(names[i]);
    }
    mem_free(names);
    return rc;
}

enum rc model_path_each(enum rc (*each)(void *ctx, const char *path), void *ctx)
{
    char folders[MODEL_PATH_FOLDERS][PATH_MAX];
    uint32_t n = model_path_folders(folders);
    enum rc rc = RC_OK;
    for (uint32_t i = 0; i < n && rc == RC_OK; i++) {
        rc = model_path_folder_each(folders[i], each, ctx);
    }
    return rc;
}

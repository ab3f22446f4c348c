/* model_path.h: where data and models lie, and which file a model's name means. */
#ifndef CLI_MODEL_PATH_H
#define CLI_MODEL_PATH_H

#include <limits.h>

#include "base/err.h"
#include "base/str.h"

/* $BUD_HOME, else $XDG_DATA_HOME/bud, else ~/.local/share/bud. */
RC model_path_home(char out[PATH_MAX], struct err *err);

/* A path as given when it names a file; else NAME.gguf in $BUD_HOME/models and in the folders of
 * models that ship with the program. RC_MODEL_NOT_FOUND says where was looked. */
RC model_path_find(const char *name, char out[PATH_MAX], struct err *err);
/* A model's id: its file's name without ".gguf" and without "-00001-of-000NN". Borrowed. */
struct str model_path_id(const char *path);

/* Calls each(ctx, path) for every model file in those folders, by name; stops at a failure. */
RC model_path_each(enum rc (*each)(void *ctx, const char *path), void *ctx);

#endif

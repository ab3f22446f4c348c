/* yaml.h: YAML (1.2 core schema) as the same nodes that json.h gives, for configuration files.
 *
 * One document; mappings with plain text keys, sequences, scalars. Refused: aliases and anchors
 * (a few lines of them can mean gigabytes), tags, repeated keys, other keys than text. Plain
 * scalars are null, booleans (true and false alone), numbers as JSON writes them, or strings;
 * quoted ones are strings. */
#ifndef BASE_YAML_H
#define BASE_YAML_H

#include "base/json.h"

enum { YAML_BYTES_MAX = 1 << 20, YAML_DEPTH_MAX = 32 };

/* RC_SYNTAX with line and column; RC_TOO_LARGE past YAML_BYTES_MAX, YAML_DEPTH_MAX or the arena's
 * cap. An empty document is an empty object. Nodes own their text: it lies in the arena. */
RC yaml_parse(struct str text, struct arena *a, const struct json **out, struct err *err);

#endif

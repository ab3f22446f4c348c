/* openapi.c: see openapi.h. Paths, methods, summaries and permissions come from the table of
 * routes; what bodies hold stands here. */
#include "admin/openapi.h"

#include "auth/policy.h"
#include "base/json.h"

/* What a route takes and gives: names of schemas; NULL = nothing, or not JSON. */
struct openapi_row {
    const char *request, *response;
    const char *query; /* names, separated by spaces */
    int status;        /* of success */
};

#define OPENAPI_OBJECTS(ID, SCHEMA)                                                                \
    [POLICY_ROUTE_##ID##_LIST] = {NULL, "List", "limit after", 200},                               \
    [POLICY_ROUTE_##ID##_SHOW] = {NULL, SCHEMA, NULL, 200},                                        \
    [POLICY_ROUTE_##ID##_PUT] = {SCHEMA, SCHEMA, NULL, 200},                                       \
    [POLICY_ROUTE_##ID##_DELETE] = {NULL, "Deleted", NULL, 200}

static const struct openapi_row openapi_rows[POLICY_ROUTE_N] = {
    [POLICY_ROUTE_LIVE] = {NULL, "Status", NULL, 200},
    [POLICY_ROUTE_READY] = {NULL, "Status", NULL, 200},
    [POLICY_ROUTE_HEALTH] = {NULL, "Status", NULL, 200},
    [POLICY_ROUTE_METRICS] = {NULL, NULL, NULL, 200},
    [POLICY_ROUTE_OPENAPI] = {NULL, "Any", NULL, 200},
    [POLICY_ROUTE_STATUS] = {NULL, "Any", NULL, 200},
    [POLICY_ROUTE_DRAIN] = {NULL, "Act", NULL, 202},
    [POLICY_ROUTE_RELOAD] = {NULL, "Act", NULL, 200},
    [POLICY_ROUTE_AUDIT] = {NULL, "List", "limit after", 200},
    [POLICY_ROUTE_AUDIT_VERIFY] = {NULL, "AuditReport", "head", 200},
    [POLICY_ROUTE_USAGE] = {NULL, "Any",
                            "by from to key user project model upstream status request_id limit "
                            "records",
                            200},
    [POLICY_ROUTE_REQUEST] = {NULL, "Any", NULL, 200},
    [POLICY_ROUTE_KEYS] = {NULL, "List", "limit after", 200},
    [POLICY_ROUTE_KEY_SHOW] = {NULL, "Key", NULL, 200},
    [POLICY_ROUTE_KEY_CREATE] = {"KeyRequest", "NewKey", NULL, 201},
    [POLICY_ROUTE_KEY_ROTATE] = {"KeyRotation", "NewKey", NULL, 201},
    [POLICY_ROUTE_KEY_CHANGE] = {"KeyChange", "Key", NULL, 200},
    [POLICY_ROUTE_KEY_REVOKE] = {NULL, "Key", NULL, 200},
    [POLICY_ROUTE_LIMITS_LIST] = {NULL, "List", "limit after kind", 200},
    [POLICY_ROUTE_LIMITS_SHOW] = {NULL, "SubjectLimits", NULL, 200},
    [POLICY_ROUTE_LIMITS_PUT] = {"Limits", "SubjectLimits", NULL, 200},
    [POLICY_ROUTE_LIMITS_DELETE] = {NULL, "SubjectLimits", NULL, 200},
    OPENAPI_OBJECTS(ORGANISATION, "Organisation"),
    OPENAPI_OBJECTS(PROJECT, "Project"),
    OPENAPI_OBJECTS(USER, "User"),
    OPENAPI_OBJECTS(ROLE, "Role"),
    OPENAPI_OBJECTS(MODEL, "Model"),
    OPENAPI_OBJECTS(ALIAS, "Alias"),
    OPENAPI_OBJECTS(UPSTREAM, "Upstream"),
    OPENAPI_OBJECTS(PRICE, "Price"),
};

#define TEXT            "{\"type\":\"string\"}"
#define WHOLE           "{\"type\":\"integer\",\"minimum\":0}"
#define FLAG            "{\"type\":\"boolean\"}"
#define AMOUNT          "{\"type\":\"number\",\"minimum\":0}"
#define TEXTS           "{\"type\":\"array\",\"items\":" TEXT "}"
#define REF(n)          "{\"$ref\":\"#/components/schemas/" n "\"}"
#define OBJECT(members) "{\"type\":\"object\",\"properties\":{" members "}}"
#define NEEDS(members, list)                                                                       \
    "{\"type\":\"object\",\"properties\":{" members "},\"required\":[" list "]}"
#define OURS "\"object\":" TEXT ",\"name\":" TEXT ",\"owned_by\":" TEXT
#define KEY_MEMBERS                                                                                \
    "\"object\":" TEXT ",\"id\":" TEXT ",\"name\":" TEXT ",\"role\":" TEXT ",\"hint\":" TEXT       \
    ",\"project\":" TEXT ",\"user\":" TEXT ",\"scopes\":" TEXT                                     \
    ",\"limits\":" REF("Limits") ",\"created\":" WHOLE ",\"expires\":" WHOLE ",\"revoked\":" WHOLE \
                                 ",\"state\":" TEXT ",\"last_used\":" WHOLE

static const struct {
    const char *name, *schema;
} openapi_schemas[] = {
    {"Any", "{\"type\":\"object\"}"},
    {"Status", NEEDS("\"status\":" TEXT, "\"status\"")},
    {"Act", NEEDS("\"object\":" TEXT ",\"done\":" FLAG, "\"done\"")},
    {"Deleted", NEEDS("\"object\":" TEXT ",\"name\":" TEXT ",\"deleted\":" FLAG, "\"deleted\"")},
    {"Error", NEEDS("\"error\":" NEEDS("\"message\":" TEXT ",\"type\":" TEXT
                                       ",\"param\":{\"type\":[\"string\",\"null\"]},\"code\":" TEXT,
                                       "\"message\",\"type\",\"param\",\"code\""),
                    "\"error\"")},
    {"List",
     NEEDS("\"object\":" TEXT ",\"data\":{\"type\":\"array\",\"items\":" REF(
               "Any") "},\"has_more\":" FLAG ",\"last_id\":{\"type\":[\"string\",\"null\"]}",
           "\"object\",\"data\",\"has_more\",\"last_id\"")},
    {"AuditReport", NEEDS("\"object\":" TEXT ",\"whole\":" FLAG ",\"entries\":" WHOLE
                          ",\"head\":" TEXT ",\"problem\":" TEXT,
                          "\"whole\",\"entries\",\"head\",\"problem\"")},
    {"Limits",
     OBJECT("\"requests_per_minute\":" WHOLE ",\"tokens_per_minute\":" WHOLE
            ",\"tokens_per_day\":" WHOLE ",\"concurrent\":" WHOLE ",\"money_per_month\":" AMOUNT)},
    {"SubjectLimits",
     NEEDS("\"object\":" TEXT ",\"kind\":" TEXT ",\"name\":" TEXT ",\"limits\":" REF("Limits"),
           "\"kind\",\"name\",\"limits\"")},
    {"KeyRequest",
     OBJECT("\"name\":" TEXT ",\"role\":" TEXT ",\"project\":" TEXT ",\"user\":" TEXT
            ",\"scopes\":" TEXTS ",\"limits\":" REF("Limits") ",\"expires_in\":" WHOLE)},
    {"KeyRotation", OBJECT("\"overlap\":" WHOLE)},
    {"KeyChange", OBJECT("\"name\":" TEXT ",\"scopes\":" TEXTS
                         ",\"limits\":" REF("Limits") ",\"expires_in\":" WHOLE)},
    {"Key", NEEDS(KEY_MEMBERS, "\"id\",\"role\",\"state\"")},
    {"NewKey", NEEDS(KEY_MEMBERS ",\"key\":" TEXT, "\"id\",\"key\"")},
    {"Organisation", OBJECT(OURS)},
    {"Project",
     OBJECT(OURS ",\"organisation\":" TEXT ",\"models\":" TEXTS ",\"limits\":" REF("Limits"))},
    {"User", OBJECT(OURS ",\"organisation\":" TEXT ",\"service\":" FLAG ",\"roles\":" TEXTS
                         ",\"limits\":" REF("Limits"))},
    {"Role", OBJECT(OURS ",\"permissions\":" TEXTS)},
    {"Prices", OBJECT("\"input\":" AMOUNT ",\"cached_input\":" AMOUNT ",\"output\":" AMOUNT)},
    {"Version", OBJECT("\"name\":" TEXT ",\"weight\":" WHOLE ",\"upstreams\":" TEXTS
                       ",\"model\":" TEXT ",\"hedge_ms\":" WHOLE)},
    {"Model", OBJECT(OURS ",\"alias\":" TEXT ",\"versions\":{\"type\":\"array\",\"items\":" REF(
                  "Version") "},\"fallback\":" TEXTS ",\"balance\":" TEXT ",\"max_tokens\":" WHOLE
                             ",\"price\":" REF("Prices") ",\"limits\":" REF("Limits"))},
    {"Alias", OBJECT(OURS ",\"model\":" TEXT)},
    {"Upstream",
     OBJECT(OURS ",\"url\":" TEXT ",\"kind\":" TEXT ",\"key\":" TEXT ",\"has_key\":" FLAG
                 ",\"health_path\":" TEXT ",\"connections_max\":" WHOLE ",\"connect_ms\":" WHOLE
                 ",\"first_byte_ms\":" WHOLE
                 ",\"limits\":" REF("Limits") ",\"price\":" REF("Prices"))},
    {"Price", OBJECT(OURS ",\"input\":" AMOUNT ",\"cached_input\":" AMOUNT ",\"output\":" AMOUNT)},
};

/* ---- writing ---- */

static void openapi_parameter(struct json_writer *w, struct str name, const char *where)
{
    json_write_object_begin(w);
    json_write_member_str(w, "name", name);
    json_write_member_cstr(w, "in", where);
    json_write_member_bool(w, "required", where[0] == 'p');
    json_write_name(w, "schema");
    json_write_raw(w, str_is(name, "limit") ? STR_LIT(WHOLE) : STR_LIT(TEXT));
    json_write_object_end(w);
}

static void openapi_parameters(struct json_writer *w, const struct policy_row *row,
                               const struct openapi_row *io)
{
    struct str path = str_from(row->path), query = str_from(io->query);
    bool tags = row->method == HTTP_METHOD_PUT || row->method == HTTP_METHOD_DELETE ||
                row->method == HTTP_METHOD_PATCH;
    json_write_name(w, "parameters");
    json_write_array_begin(w);
    while (str_find(path, STR_LIT("{")) < path.len) {
        size_t from = str_find(path, STR_LIT("{")) + 1, to = str_find(path, STR_LIT("}"));
        openapi_parameter(w, str_slice(path, from, to), "path");
        path = str_slice(path, to + 1, path.len);
    }
    while (query.len > 0) {
        openapi_parameter(w, str_cut(&query, ' '), "query");
    }
    if (tags) {
        openapi_parameter(w, STR_LIT("If-Match"), "header");
    }
    if (row->method == HTTP_METHOD_PUT) {
        openapi_parameter(w, STR_LIT("If-None-Match"), "header");
    }
    json_write_array_end(w);
}

static void openapi_schema_ref(struct json_writer *w, const char *schema)
{
    char path[64] = "#/components/schemas/";
    str_copy(path + 21, sizeof(path) - 21, str_from(schema));
    json_write_name(w, "content");
    json_write_object_begin(w);
    json_write_name(w, "application/json");
    json_write_object_begin(w);
    json_write_name(w, "schema");
    json_write_object_begin(w);
    json_write_member_cstr(w, "$ref", path);
    json_write_object_end(w);
    json_write_object_end(w);
    json_write_object_end(w);
}

static void openapi_response(struct json_writer *w, const char *code, const char *what,
                             const char *schema)
{
    json_write_name(w, code);
    json_write_object_begin(w);
    json_write_member_cstr(w, "description", what);
    if (schema != NULL) {
        openapi_schema_ref(w, schema);
    }
    json_write_object_end(w);
}

static void openapi_operation(struct json_writer *w, const struct policy_row *row,
                              const struct openapi_row *io)
{
    char code[STR_U64_BYTES + 1];
    char permission[64];
    code[str_put_u64(code, (uint64_t)io->status)] = '\0';
    json_write_object_begin(w);
    json_write_member_cstr(w, "operationId", row->id);
    json_write_member_cstr(w, "summary", row->summary);
    openapi_parameters(w, row, io);
    if (io->request != NULL) {
        json_write_name(w, "requestBody");
        json_write_object_begin(w);
        openapi_schema_ref(w, io->request);
        json_write_object_end(w);
    }
    json_write_name(w, "responses");
    json_write_object_begin(w);
    openapi_response(w, code, "Done", io->response);
    if (row->method == HTTP_METHOD_PUT && io->status == 200) {
        openapi_response(w, "201", "Made", io->response);
    }
    openapi_response(w, "default", "What went wrong", "Error");
    json_write_object_end(w);
    if (row->need == POLICY_OPEN) {
        json_write_name(w, "security");
        json_write_raw(w, STR_LIT("[]"));
    } else if (row->need == POLICY_PERMISSION) {
        struct buf b;
        buf_init(&b, sizeof(permission) - 1);
        buf_add_printf(&b, "%s:%s", rbac_kind_name(row->kind), rbac_action_name(row->action));
        str_copy(permission, sizeof(permission), buf_str(&b));
        buf_deinit(&b);
        json_write_member_cstr(w, "x-permission", permission);
    }
    json_write_object_end(w);
}

/* Lower case, as the document wants methods. */
static const char *openapi_method(enum http_method method)
{
    static const char *const names[HTTP_METHODS_N] = {
        [HTTP_METHOD_GET] = "get",        [HTTP_METHOD_HEAD] = "head",
        [HTTP_METHOD_POST] = "post",      [HTTP_METHOD_PUT] = "put",
        [HTTP_METHOD_DELETE] = "delete",  [HTTP_METHOD_PATCH] = "patch",
        [HTTP_METHOD_OPTIONS] = "options"};
    return names[method];
}

static bool openapi_path_seen(uint32_t idx)
{
    const struct policy_row *row = policy_row((enum policy_id)idx);
    for (uint32_t i = 0; i < idx; i++) {
        const struct policy_row *other = policy_row((enum policy_id)i);
        if (other->listener == POLICY_ADMIN && str_is(str_from(other->path), row->path)) {
            return true;
        }
    }
    return false;
}

static void openapi_paths(struct json_writer *w)
{
    json_write_name(w, "paths");
    json_write_object_begin(w);
    for (uint32_t i = 0; i < POLICY_ROUTE_N; i++) {
        const struct policy_row *first = policy_row((enum policy_id)i);
        if (first->listener != POLICY_ADMIN || openapi_path_seen(i)) {
            continue;
        }
        json_write_name(w, first->path);
        json_write_object_begin(w);
        for (uint32_t j = i; j < POLICY_ROUTE_N; j++) {
            const struct policy_row *row = policy_row((enum policy_id)j);
            if (row->listener == POLICY_ADMIN && str_is(str_from(row->path), first->path)) {
                json_write_name(w, openapi_method(row->method));
                openapi_operation(w, row, &openapi_rows[j]);
            }
        }
        json_write_object_end(w);
    }
    json_write_object_end(w);
}

void openapi_write(struct buf *out)
{
    struct json_writer w;
    json_write_init(&w, out);
    json_write_object_begin(&w);
    json_write_member_cstr(&w, "openapi", "3.1.0");
    json_write_name(&w, "info");
    json_write_object_begin(&w);
    json_write_member_cstr(&w, "title", "Bud Runtime administration");
    json_write_member_cstr(&w, "version", BUD_VERSION);
    json_write_object_end(&w);
    json_write_name(&w, "security");
    json_write_raw(&w, STR_LIT("[{\"key\":[]}]"));
    openapi_paths(&w);
    json_write_name(&w, "components");
    json_write_object_begin(&w);
    json_write_name(&w, "securitySchemes");
    json_write_raw(&w, STR_LIT("{\"key\":{\"type\":\"http\",\"scheme\":\"bearer\"}}"));
    json_write_name(&w, "schemas");
    json_write_object_begin(&w);
    for (size_t i = 0; i < ARRAY_LEN(openapi_schemas); i++) {
        json_write_name(&w, openapi_schemas[i].name);
        json_write_raw(&w, str_from(openapi_schemas[i].schema));
    }
    json_write_object_end(&w);
    json_write_object_end(&w);
    json_write_object_end(&w);
}

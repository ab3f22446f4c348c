/* call_usage.c: what requests used and cost, and why a single one went as it did. */
#include "admin/call_private.h"
#include "stores/meta_usage.h"

static const char *const usage_names[] = {"key",      "user",   "project",    "model",
                                          "upstream", "status", "request_id", "from",
                                          "to",       "by",     "limit"};

/* A caller of a project sees that one; one of an organisation names a project of it. */
static enum rc usage_keep_to_place(struct admin_call *c, struct meta_usage_query *q)
{
    const struct principal *who = c->who;
    if (who != NULL && who->project.len > 0 && q->project.len == 0) {
        q->project = who->project;
    }
    const struct call_place place = {.organisation = call_organisation_of(c, "project", q->project),
                                     .project = q->project};
    enum rc rc = call_may(c, RBAC_USAGE, RBAC_READ, STR_LIT(""), &place);
    if (rc == RC_NOT_FOUND && q->project.len == 0) {
        rc =
            err_set_param(&c->err, RC_FORBIDDEN, "project", "Name a project of your organisation.");
    }
    return rc;
}

static enum rc usage_query(struct admin_call *c, struct meta_usage_query *q)
{
    enum rc rc = RC_OK;
    *q = (struct meta_usage_query){.by = META_USAGE_BY_MODEL};
    for (size_t i = 0; rc == RC_OK && i < ARRAY_LEN(usage_names); i++) {
        struct str value;
        rc = call_query(c, usage_names[i], &value);
        if (rc == RC_OK && value.len > 0) {
            rc = meta_usage_query_set(q, usage_names[i], value, &c->err);
        }
    }
    return rc == RC_OK ? usage_keep_to_place(c, q) : rc;
}

enum rc call_usage_list(struct admin_call *c, const struct call_kind *unused)
{
    struct meta_usage_query q;
    struct str records;
    UNUSED(unused);
    enum rc rc = usage_query(c, &q);
    rc = rc == RC_OK ? call_query(c, "records", &records) : rc;
    if (rc == RC_OK && records.len > 0 && !str_is(records, "true") && !str_is(records, "false")) {
        rc = err_set_param(&c->err, RC_INVALID, "records", "records is true or false.");
    }
    c->status = 200;
    return rc == RC_OK
               ? meta_usage_answer(c->store->meta, &q, str_is(records, "true"), &c->out, &c->err)
               : rc;
}

/* ---- one request ---- */

struct usage_request {
    struct admin_call *call;
    struct json_writer w;
    struct str id; /* of the record; "" = none is seen */
};

/* Ids may be the clients' own, so that several share one: the newest that the caller may see. */
static enum rc usage_take(void *ctx, const struct meta_usage *u)
{
    struct usage_request *r = ctx;
    const struct call_place place = {.organisation =
                                         call_organisation_of(r->call, "project", u->project),
                                     .project = u->project};
    if (!call_sees(r->call, RBAC_REQUESTS, STR_LIT(""), &place)) {
        return RC_OK;
    }
    r->id = arena_str(&r->call->arena, u->id);
    json_write_name(&r->w, "usage");
    json_write_object_begin(&r->w);
    meta_usage_write(&r->w, u);
    json_write_object_end(&r->w);
    return RC_CANCELLED; /* found: no failure */
}

enum rc call_usage_request(struct admin_call *c, const struct call_kind *unused)
{
    const struct meta_usage_query q = {.request_id = c->params[0]};
    const struct call_place own = {.organisation =
                                       c->who != NULL ? c->who->organisation : STR_LIT(""),
                                   .project = c->who != NULL ? c->who->project : STR_LIT("")};
    struct usage_request r = {.call = c};
    struct buf decision;
    UNUSED(unused);
    enum rc rc = call_may(c, RBAC_REQUESTS, RBAC_READ, STR_LIT(""), &own);
    if (rc != RC_OK) {
        return rc;
    }
    json_write_init(&r.w, &c->out);
    json_write_object_begin(&r.w);
    json_write_member_cstr(&r.w, "object", "request");
    json_write_member_str(&r.w, "id", c->params[0]);
    rc = meta_usage_each(c->store->meta, &q, usage_take, &r, &c->err);
    if (rc != RC_OK && rc != RC_CANCELLED) {
        return rc;
    }
    bool everywhere = own.organisation.len == 0 && own.project.len == 0;
    struct str id = r.id.len > 0 ? r.id : everywhere ? c->params[0] : STR_LIT("");
    buf_init(&decision, META_DECISION_BYTES_MAX + 1);
    rc = id.len > 0 ? meta_decision_find(c->store->meta, id, &decision, &c->err) : RC_NOT_FOUND;
    if (rc == RC_OK) {
        json_write_name(&r.w, "decision");
        json_write_raw(&r.w, buf_str(&decision));
    }
    json_write_object_end(&r.w);
    buf_deinit(&decision);
    c->status = 200;
    if (rc == RC_NOT_FOUND && r.id.len == 0) {
        return err_set(&c->err, rc, "There is no request '%.*s'.",
                       (int)MIN(c->params[0].len, (size_t)72), c->params[0].ptr);
    }
    return rc == RC_NOT_FOUND ? RC_OK : rc;
}

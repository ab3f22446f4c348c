/* call_audit.c: the audit log, read and verified; acts that leave nothing but their entry in it. */
#include "admin/call_private.h"

static const struct call_place audit_place = {{"", 0}, {"", 0}}; /* the installation's */

struct audit_list {
    struct call_page page;
};

static enum rc audit_list_one(void *ctx, const struct meta_audit *e)
{
    struct audit_list *l = ctx;
    char number[STR_U64_BYTES];
    struct json_writer *w = &l->page.w;
    if (!call_page_next(&l->page, str_make(number, str_put_u64(number, (uint64_t)e->seq)))) {
        return RC_CANCELLED; /* the page is full: no failure */
    }
    json_write_object_begin(w);
    json_write_member_cstr(w, "object", "audit_entry");
    json_write_member_i64(w, "seq", e->seq);
    json_write_member_i64(w, "time_ms", e->time_ms);
    json_write_member_str(w, "who", e->who);
    json_write_member_str(w, "what", e->what);
    json_write_member_str(w, "target", e->object);
    json_write_member_str(w, "source", e->source);
    json_write_member_str(w, "before", e->before);
    json_write_member_str(w, "after", e->after);
    json_write_object_end(w);
    return RC_OK;
}

enum rc call_audit_list(struct admin_call *c, const struct call_kind *unused)
{
    struct audit_list l = {0};
    struct meta_audit_walk walk = {.from = INT64_MAX, .backwards = true};
    UNUSED(unused);
    enum rc rc = call_may(c, RBAC_AUDIT, RBAC_READ, STR_LIT(""), &audit_place);
    rc = rc == RC_OK ? call_page_begin(c, &l.page) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    if (l.page.after.len > 0 && (!str_to_i64(l.page.after, &walk.from) || walk.from < 1)) {
        buf_deinit(&l.page.last);
        return err_set_param(&c->err, RC_INVALID, "after", "after is no entry's number.");
    }
    walk.from -= l.page.after.len > 0 ? 1 : 0;
    rc = meta_audit_each(c->store->meta, &walk, audit_list_one, &l, &c->err);
    call_page_end(c, &l.page);
    return rc == RC_CANCELLED ? RC_OK : rc;
}

enum rc call_audit_verify(struct admin_call *c, const struct call_kind *unused)
{
    struct audit_report report;
    struct json_writer w;
    struct str head;
    UNUSED(unused);
    enum rc rc = call_may(c, RBAC_AUDIT, RBAC_READ, STR_LIT(""), &audit_place);
    rc = rc == RC_OK ? call_query(c, "head", &head) : rc;
    if (rc != RC_OK) {
        return rc;
    }
    rc = audit_verify(c->store->audit, c->store->meta, head, &report, &c->err);
    if (rc != RC_OK && rc != RC_CORRUPT) {
        return rc;
    }
    json_write_init(&w, &c->out);
    json_write_object_begin(&w);
    json_write_member_cstr(&w, "object", "audit_report");
    json_write_member_bool(&w, "whole", rc == RC_OK);
    json_write_member_i64(&w, "entries", report.n_entries);
    json_write_member_cstr(&w, "head", report.head);
    json_write_member_cstr(&w, "problem", rc == RC_OK ? "" : c->err.msg);
    json_write_object_end(&w);
    c->status = 200;
    return RC_OK;
}

/* The listener does the rest. */
enum rc call_note_act(struct admin_call *c, const struct call_kind *unused)
{
    const struct policy_row *row = policy_row(c->match.id);
    UNUSED(unused);
    enum rc rc = call_may(c, row->kind, row->action, STR_LIT(""), &audit_place);
    rc = rc == RC_OK ? meta_begin(c->store->meta, &c->err) : rc;
    if (rc == RC_OK) {
        bool drain = c->match.id == POLICY_ROUTE_DRAIN;
        rc = call_commit(c, drain ? "gateway.drain" : "config.reload", rbac_kind_name(row->kind),
                         STR_LIT(""), STR_LIT(""), STR_LIT(""));
    }
    buf_add_cstr(&c->out, "{\"object\":\"act\",\"done\":true}");
    c->status = 202;
    return rc;
}

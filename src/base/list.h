/* list.h: intrusive doubly linked list; nodes are embedded, nothing is allocated. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include "base/compiler.h"

struct list_node {
    struct list_node *next, *prev; /* both NULL while not on a list */
};

/* A ring through the head. */
struct list {
    struct list_node head;
};

static inline void list_init(struct list *l)
{
    l->head.next = l->head.prev = &l->head;
}
static inline bool list_is_empty(const struct list *l)
{
    return l->head.next == &l->head;
}
static inline bool list_is_linked(const struct list_node *n)
{
    return n->next != NULL;
}
static inline void list_insert_before(struct list_node *at, struct list_node *n)
{
    n->prev = at->prev;
    n->next = at;
    at->prev->next = n;
    at->prev = n;
}
static inline void list_push_back(struct list *l, struct list_node *n)
{
    list_insert_before(&l->head, n);
}
static inline void list_push_front(struct list *l, struct list_node *n)
{
    list_insert_before(l->head.next, n);
}
static inline void list_remove(struct list_node *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    n->next = n->prev = NULL;
}
/* NULL when empty. */
static inline struct list_node *list_first(const struct list *l)
{
    return list_is_empty(l) ? NULL : l->head.next;
}
static inline struct list_node *list_pop_front(struct list *l)
{
    struct list_node *n = list_first(l);
    if (n != NULL) {
        list_remove(n);
    }
    return n;
}

#define LIST_ENTRY(node, type, member) CONTAINER_OF(node, type, member)

/* The current node may be removed inside the loop. */
#define LIST_EACH(l, it)                                                                           \
    for (struct list_node *it = (l)->head.next, *it##_next = it->next; it != &(l)->head;           \
         it = it##_next, it##_next = it->next)

#endif

/* select.c: a heap of the best so far, its worst on top. */
#include "engine/sample/select.h"

#include <math.h>

static bool worse(struct sample_entry a, struct sample_entry b)
{
    return a.logit < b.logit || (a.logit == b.logit && a.token > b.token);
}

static void sift_down(struct sample_entry *heap, uint32_t n, uint32_t at)
{
    struct sample_entry moving = heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= n) {
            break;
        }
        if (child + 1 < n && worse(heap[child + 1], heap[child])) {
            child++;
        }
        if (!worse(heap[child], moving)) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static void heapify(struct sample_entry *heap, uint32_t n)
{
    for (uint32_t i = n / 2; i-- > 0;) {
        sift_down(heap, n, i);
    }
}

/* A heap with its worst on top becomes a list with its best first. */
static void sort_heap(struct sample_entry *heap, uint32_t n)
{
    while (n > 1) {
        struct sample_entry worst = heap[0];
        n--;
        heap[0] = heap[n];
        heap[n] = worst;
        sift_down(heap, n, 0);
    }
}

float sample_max(const float *logits, uint32_t n)
{
    /* Side by side, since each comparison waits for the one before it. */
    enum { LANES = 16 };
    float lanes[LANES];
    for (uint32_t i = 0; i < LANES; i++) {
        lanes[i] = -INFINITY;
    }
    uint32_t at = 0;
    for (; at + LANES <= n; at += LANES) {
        for (uint32_t i = 0; i < LANES; i++) {
            lanes[i] = logits[at + i] > lanes[i] ? logits[at + i] : lanes[i];
        }
    }
    float max = -INFINITY;
    for (; at < n; at++) {
        max = logits[at] > max ? logits[at] : max;
    }
    for (uint32_t i = 0; i < LANES; i++) {
        max = lanes[i] > max ? lanes[i] : max;
    }
    return max;
}

int32_t sample_argmax(const float *logits, uint32_t n)
{
    float max = sample_max(logits, n);
    for (uint32_t i = 0; i < n && max > -INFINITY; i++) {
        if (logits[i] == max) {
            return (int32_t)i;
        }
    }
    return 0;
}

uint32_t sample_top_k(const float *logits, uint32_t n, uint32_t k, struct sample_entry *out)
{
    uint32_t n_out = 0;
    for (uint32_t i = 0; i < n && k > 0; i++) {
        if (!(logits[i] > -INFINITY)) {
            continue;
        }
        struct sample_entry e = {logits[i], (int32_t)i};
        if (n_out < k) {
            out[n_out++] = e;
            if (n_out == k) {
                heapify(out, k);
            }
        } else if (e.logit > out[0].logit) { /* ids ascend: an equal one is worse */
            out[0] = e;
            sift_down(out, k, 0);
        }
    }
    if (n_out < k) {
        heapify(out, n_out);
    }
    sort_heap(out, n_out);
    return n_out;
}

uint32_t sample_above(const float *logits, uint32_t n, float floor, struct sample_entry *out)
{
    uint32_t n_out = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (logits[i] >= floor && logits[i] > -INFINITY) {
            out[n_out++] = (struct sample_entry){logits[i], (int32_t)i};
        }
    }
    heapify(out, n_out);
    sort_heap(out, n_out);
    return n_out;
}

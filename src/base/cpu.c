/* cpu.c: feature detection, done once by whichever thread asks first. */
#include "base/cpu.h"

#include <pthread.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

struct cpu_info {
    struct cpu_features features;
    char name[49];
};

/* A listed singleton (STYLE.md F35): written once under pthread_once, read-only afterwards. */
static struct cpu_info cpu_singleton;
static pthread_once_t cpu_once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)
static void cpu_read_name(char name[49])
{
    unsigned max = (unsigned)__get_cpuid_max(0x80000000u, NULL);
    if (max < 0x80000004u) {
        return;
    }
    for (unsigned i = 0; i < 3; i++) {
        unsigned regs[4];
        __cpuid(0x80000002u + i, regs[0], regs[1], regs[2], regs[3]);
        memcpy(name + i * 16, regs, 16);
    }
    name[48] = '\0';
}

static void cpu_detect(void)
{
    struct cpu_features *f = &cpu_singleton.features;
    __builtin_cpu_init();
    unsigned a = 0, b = 0, c = 0, d = 0;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
    f->avx2 = f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    f->avx512 = f->avx2 && __builtin_cpu_supports("avx512f") &&
                __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("avx512dq");
    f->avx512_vnni = f->avx512 && __builtin_cpu_supports("avx512vnni");
    unsigned leaf7_1 = 0;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) != 0) {
        leaf7_1 = a;
    }
    f->avx_vnni = f->avx2 && (leaf7_1 & (1u << 4)) != 0;
    f->avx512_bf16 = f->avx512 && (leaf7_1 & (1u << 5)) != 0;
    cpu_read_name(cpu_singleton.name);
}
#else
static void cpu_detect(void)
{
}
#endif

const struct cpu_features *cpu_features(void)
{
    pthread_once(&cpu_once, cpu_detect);
    return &cpu_singleton.features;
}

const char *cpu_name(void)
{
    pthread_once(&cpu_once, cpu_detect);
    return cpu_singleton.name[0] != '\0' ? cpu_singleton.name : "unknown";
}

/* machine.c: the least of an operating system under which one statically linked Linux program runs
 * to its end in an emulated machine: memory, output to the serial port, a few system calls.
 *
 * Built without a C library and without vector registers (those are the program's). The program is
 * position-independent or linked where nothing else lies; it is the boot loader's first module. */
#include <elf.h>
#include <stddef.h>
#include <stdint.h>

enum { SERIAL = 0x3F8, POWER = 0x8900, PAGE = 4096 };

/* Where things lie: the program, its heap, what it maps. */
#define PROGRAM_AT 0x04000000UL
#define HEAP_BYTES 0x02000000UL
#define MAPS_AT    0x0A000000UL
#define MAPS_END   0x1C000000UL
#define STACK_TOP  0x1E000000UL

struct machine {
    uint64_t heap, heap_start, heap_end, maps;
};

static struct machine machine;

struct registers {
    uint64_t rdi, rsi, rdx, r10, r8, r9, rax;
};

void machine_main(uint32_t info);
void machine_syscall(struct registers *r);
void machine_fault(uint64_t number, const uint64_t *frame);
_Noreturn void machine_enter(uint64_t entry, uint64_t stack);
extern const unsigned char machine_faults[];

/* The compiler may call these. */
void *memcpy(void *to, const void *from, size_t n)
{
    void *out = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    return out;
}

void *memset(void *to, int c, size_t n)
{
    void *out = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(c) : "memory");
    return out;
}

/* ---- output ---- */

static void out8(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static uint8_t in8(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

/* Eight bits, no parity, the highest speed. */
static void serial_start(void)
{
    out8(SERIAL + 1, 0);
    out8(SERIAL + 3, 0x80);
    out8(SERIAL, 1);
    out8(SERIAL + 1, 0);
    out8(SERIAL + 3, 3);
}

static void say_bytes(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        while ((in8(SERIAL + 5) & 0x20) == 0) {}
        out8(SERIAL, (uint8_t)s[i]);
    }
}

static void say(const char *s)
{
    size_t n = 0;
    while (s[n] != '\0') {
        n++;
    }
    say_bytes(s, n);
}

static void say_number(uint64_t v)
{
    char text[16];
    for (int i = 0; i < 16; i++) {
        text[i] = "0123456789abcdef"[(v >> (60 - 4 * i)) & 15];
    }
    say_bytes(text, sizeof(text));
}

static _Noreturn void power_off(uint64_t status)
{
    say("\nemulate: exit ");
    say_number(status);
    say("\n");
    while ((in8(SERIAL + 5) & 0x40) == 0) { /* the last bytes are on their way */
    }
    for (const char *s = "Shutdown"; *s != '\0'; s++) {
        out8(POWER, (uint8_t)*s);
    }
    for (;;) {
        __asm__ volatile("hlt");
    }
}

void machine_fault(uint64_t number, const uint64_t *frame)
{
    say("\nemulate: processor fault ");
    say_number(number);
    for (int i = 0; i < 3; i++) {
        say(" ");
        say_number(frame[i]);
    }
    power_off(255);
}

static void catch_faults(void)
{
    static struct {
        uint16_t low, segment, flags, middle;
        uint32_t high, none;
    } gates[32];
    for (size_t i = 0; i < 32; i++) {
        uint64_t at = (uint64_t)machine_faults + 32 * i;
        gates[i].low = (uint16_t)at;
        gates[i].segment = 8;
        gates[i].flags = 0x8E00;
        gates[i].middle = (uint16_t)(at >> 16);
        gates[i].high = (uint32_t)(at >> 32);
    }
    struct __attribute__((packed)) {
        uint16_t bytes;
        uint64_t at;
    } pointer = {sizeof(gates) - 1, (uint64_t)gates};
    __asm__ volatile("lidt %0" : : "m"(pointer));
}

/* ---- system calls, numbered as on x86-64 Linux ---- */

enum {
    NO_ENTRY = -2,
    BAD_FILE = -9,
    NO_MEMORY = -12,
    BAD_VALUE = -22,
    NOT_A_TTY = -25,
    NOT_HERE = -38
};

static int64_t sys_map(uint64_t bytes)
{
    bytes = (bytes + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    if (bytes > MAPS_END - machine.maps) {
        return NO_MEMORY;
    }
    uint64_t at = machine.maps;
    machine.maps += bytes;
    memset((void *)at, 0, bytes);
    return (int64_t)at;
}

static int64_t sys_heap(uint64_t want)
{
    if (want >= machine.heap_start && want <= machine.heap_end) {
        machine.heap = want;
    }
    return (int64_t)machine.heap;
}

static int64_t sys_write_all(const uint64_t *parts, uint64_t n)
{
    int64_t all = 0;
    for (uint64_t i = 0; i < n; i++) {
        say_bytes((const char *)parts[2 * i], parts[2 * i + 1]);
        all += (int64_t)parts[2 * i + 1];
    }
    return all;
}

static int64_t sys_time(uint64_t *out)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    uint64_t ns = ((uint64_t)high << 32 | low) * 10; /* as if 100 MHz */
    out[0] = ns / 1000000000;
    out[1] = ns % 1000000000;
    return 0;
}

static int64_t sys_thread_pointer(uint64_t code, uint64_t at)
{
    if (code != 0x1002) { /* ARCH_SET_FS */
        return BAD_VALUE;
    }
    __asm__ volatile("wrmsr" : : "c"(0xC0000100), "a"((uint32_t)at), "d"((uint32_t)(at >> 32)));
    return 0;
}

static int64_t sys_random(uint8_t *out, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        out[i] = (uint8_t)(i * 151 + 17);
    }
    return (int64_t)n;
}

static int64_t sys_status(uint32_t *out)
{
    memset(out, 0, 144);
    out[6] = 0020620; /* a character device */
    return 0;
}

void machine_syscall(struct registers *r)
{
    switch (r->rax) {
    case 1: /* write */
        say_bytes((const char *)r->rsi, r->rdx);
        r->rax = r->rdx;
        return;
    case 20: /* writev */
        r->rax = (uint64_t)sys_write_all((const uint64_t *)r->rsi, r->rdx);
        return;
    case 5: /* fstat */
        r->rax = (uint64_t)sys_status((uint32_t *)r->rsi);
        return;
    case 262: /* newfstatat, which is fstat when the path is empty */
        r->rax =
            (uint64_t)(*(const char *)r->rsi == '\0' ? sys_status((uint32_t *)r->rdx) : NO_ENTRY);
        return;
    case 9: /* mmap */
        r->rax =
            (uint64_t)((int64_t)r->r8 < 0 || (r->r10 & 0x20) != 0 ? sys_map(r->rsi) : BAD_FILE);
        return;
    case 12: /* brk */
        r->rax = (uint64_t)sys_heap(r->rdi);
        return;
    case 16: /* ioctl */
        r->rax = (uint64_t)(int64_t)NOT_A_TTY;
        return;
    case 158: /* arch_prctl */
        r->rax = (uint64_t)sys_thread_pointer(r->rdi, r->rsi);
        return;
    case 228: /* clock_gettime */
        r->rax = (uint64_t)sys_time((uint64_t *)r->rsi);
        return;
    case 318: /* getrandom */
        r->rax = (uint64_t)sys_random((uint8_t *)r->rdi, r->rsi);
        return;
    case 60:  /* exit */
    case 231: /* exit_group */
        power_off(r->rdi);
    case 10:
    case 11:
    case 13:
    case 14:
    case 28:
    case 131:
    case 202:
    case 218:
    case 273:
        r->rax = 0; /* mprotect, munmap, signals, madvise, futex, thread ids: nothing to do */
        return;
    case 2:
    case 21:
    case 89:
    case 257:
    case 267:
        r->rax = (uint64_t)(int64_t)NO_ENTRY; /* there are no files */
        return;
    default:
        r->rax = (uint64_t)(int64_t)NOT_HERE;
    }
}

/* ---- the program ---- */

/* Puts the program's segments in place; returns what was added to its addresses. */
static uint64_t load_program(const unsigned char *file, const Elf64_Ehdr *head)
{
    uint64_t base = head->e_type == ET_DYN ? PROGRAM_AT : 0;
    for (int i = 0; i < head->e_phnum; i++) {
        const Elf64_Phdr *p = (const void *)(file + head->e_phoff + (size_t)i * head->e_phentsize);
        if (p->p_type != PT_LOAD) {
            continue;
        }
        unsigned char *at = (unsigned char *)(base + p->p_vaddr);
        memcpy(at, file + p->p_offset, p->p_filesz);
        memset(at + p->p_filesz, 0, p->p_memsz - p->p_filesz);
        uint64_t end = (base + p->p_vaddr + p->p_memsz + PAGE - 1) & ~(uint64_t)(PAGE - 1);
        machine.heap_start = end > machine.heap_start ? end : machine.heap_start;
    }
    return base;
}

/* The first page of the program holds its headers: the C library looks for them there. */
static uint64_t make_stack(uint64_t base, const Elf64_Ehdr *head, const char *settings)
{
    static const char name[] = "program";
    static const uint64_t chance[2] = {0x0123456789abcdef, 0xfedcba9876543210};
    uint64_t headers = base;
    if (base == 0) {
        headers = 0x400000;
    }
    const uint64_t words[] = {
        1,
        (uint64_t)name,
        0,
        settings[0] != '\0' ? (uint64_t)settings : 0,
        0,
        AT_PHDR,
        headers + head->e_phoff,
        AT_PHENT,
        head->e_phentsize,
        AT_PHNUM,
        head->e_phnum,
        AT_PAGESZ,
        PAGE,
        AT_BASE,
        0,
        AT_ENTRY,
        base + head->e_entry,
        AT_RANDOM,
        (uint64_t)chance,
        AT_SECURE,
        0,
        AT_UID,
        0,
        AT_EUID,
        0,
        AT_GID,
        0,
        AT_EGID,
        0,
        AT_NULL,
        0,
    };
    uint64_t stack = (STACK_TOP - sizeof(words)) & ~15UL;
    memcpy((void *)stack, words, sizeof(words));
    return stack;
}

/* The loader's information: at 20 the number of modules, at 24 their table {start, end, text}.
 * A module's text is its command line: the program's name, then one setting NAME=VALUE. */
void machine_main(uint32_t info)
{
    catch_faults();
    serial_start();
    const uint32_t *words = (const uint32_t *)(uint64_t)info;
    if (words[5] < 1) {
        say("emulate: no program\n");
        power_off(255);
    }
    const uint32_t *module = (const uint32_t *)(uint64_t)words[6];
    const unsigned char *file = (const unsigned char *)(uint64_t)module[0];
    if (module[0] < STACK_TOP && module[1] > PROGRAM_AT) {
        say("emulate: the program lies where it is to run\n");
        power_off(255);
    }
    const char *settings = (const char *)(uint64_t)module[2];
    while (*settings != '\0' && *settings != ' ') {
        settings++;
    }
    settings += *settings == ' ';
    const Elf64_Ehdr *head = (const void *)file;
    uint64_t base = load_program(file, head);
    machine.heap = machine.heap_start;
    machine.heap_end = machine.heap_start + HEAP_BYTES;
    machine.maps = MAPS_AT;
    machine_enter(base + head->e_entry, make_stack(base, head, settings));
}

#!/usr/bin/env python3
"""House rules that a script can check (STYLE.md, marked [tidy]); run as an ordinary test.

Checks: include edges of ARCHITECTURE.md, file and function size, functions that are banned with
their replacement, the allocator's single door, mutable globals and symbol prefixes (by nm on the
built objects), headers that compile alone, a README in every folder of src/, big files.
Exceptions stand in tools/tidy.allow, one `RULE WHERE  # why` a line; the list may only shrink.
"""
import collections
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FILE_LINES_WARN, FILE_LINES_MAX, FUNCTION_LINES_MAX, BLOB_BYTES_MAX = 800, 1200, 70, 512 * 1024

# folder -> folders it may include (itself always)
EDGES = {
    "base": "", "obs": "base", "net": "base obs", "api": "base", "engine": "base obs",
    "stores": "base obs net", "device": "base obs", "auth": "base obs net api stores",
    "admin": "base obs net api stores auth", "gateway": "base obs net api stores auth admin",
    "server": "base obs net api stores engine device auth admin",
    "control": "base obs net api stores device auth admin",
    "cli": "base obs net api stores engine device auth admin gateway server control",
}
# header pattern -> the files or folders that may include it
LIBRARIES = [
    (r"^uv\.h$", "src/net/"), (r"^llhttp\.h$", "src/net/"), (r"^nghttp2/", "src/net/"),
    (r"^openssl/", "src/base/crypto src/net/tls"), (r"^sqlite3\.h$", "src/stores/"),
    (r"^utf8proc\.h$", "src/engine/token/"), (r"^xxhash\.h$", "src/base/"),
    (r"^libfyaml\.h$", "src/base/"), (r"^curl/", "src/net/fetch"),
    (r"^hiredis/", "src/stores/redis_reply.c"),
]
BANNED = {
    "strcpy": "str_copy", "strcat": "buf_add", "strncpy": "str_copy", "strncat": "buf_add",
    "sprintf": "snprintf or buf_add_printf", "vsprintf": "vsnprintf", "gets": "fgets",
    "atoi": "str_to_i64", "atol": "str_to_i64", "atof": "str_to_f64", "strtok": "str_cut",
    "alloca": "arena_alloc", "rand": "rng_u32", "srand": "rng_init", "system": "process_spawn",
    "popen": "process_spawn", "tmpnam": "mkostemp", "scanf": "str_to_u64", "sscanf": "str_to_u64",
    "localtime": "gmtime_r", "gmtime": "gmtime_r", "strerror_r": "strerror",
    "setjmp": "error returns", "longjmp": "error returns",
}
ALLOCATOR = ("malloc", "calloc", "realloc", "free", "strdup", "strndup", "posix_memalign", "asprintf")


class Tidy:
    def __init__(self):
        self.problems = []
        self.allowed = self.load_allowed()
        self.used = set()

    @staticmethod
    def load_allowed():
        path = os.path.join(ROOT, "tools/tidy.allow")
        rows = set()
        if os.path.exists(path):
            with open(path) as f:
                for line in f:
                    words = line.split("#")[0].split()
                    if len(words) == 2:
                        rows.add((words[0], words[1]))
        return rows

    def say(self, rule, where, message):
        key = (rule, where.split(":")[0] if rule != "function-size" else where)
        if key in self.allowed:
            self.used.add(key)
            return
        self.problems.append(f"{where}: {message} [{rule}]")


def tracked():
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if out.returncode == 0:
        return [p for p in out.stdout.splitlines() if os.path.exists(os.path.join(ROOT, p))]
    return [os.path.relpath(os.path.join(d, n), ROOT) for d, _, names in os.walk(ROOT) for n in names
            if "/build" not in d and "/.git" not in d]


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def strip_comments(text):
    """Comments and literals become blanks; line numbers stay."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def check_includes(tidy, path, text):
    folder = path.split("/")[1]
    may = set(EDGES.get(folder, "").split()) | {folder}
    if folder not in EDGES:
        tidy.say("folder", path, f"src/{folder} is not in ARCHITECTURE.md's table")
    for n, line in enumerate(text.splitlines(), 1):
        ours = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if ours:
            name = ours.group(1)
            if "/" not in name:
                tidy.say("include", f"{path}:{n}", f'"{name}": write "folder/file.h"')
            elif name.split("/")[0] not in may and name != "bud.h":
                tidy.say("include", f"{path}:{n}", f'{folder} may not include "{name}"')
        system = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
        for pattern, places in LIBRARIES if system else []:
            if re.match(pattern, system.group(1)) and not any(path.startswith(p) for p in places.split()):
                tidy.say("library", f"{path}:{n}", f"<{system.group(1)}> belongs to {places}")


def check_banned(tidy, path, code):
    for n, line in enumerate(code.splitlines(), 1):
        for name in re.findall(r"(?<![\w.>])([a-z_]+)\s*\(", line):
            if name in BANNED:
                tidy.say("banned", f"{path}:{n}", f"{name}: use {BANNED[name]}")
            if name in ALLOCATOR and path.startswith("src/") and path != "src/base/mem.c":
                tidy.say("allocator", f"{path}:{n}", f"{name}: use base/mem.h, an arena, a pool or a buf")


def check_sizes(tidy, path, text, code):
    lines = text.count("\n")
    if lines > FILE_LINES_MAX:
        tidy.say("file-size", path, f"{lines} lines, at most {FILE_LINES_MAX}")
    elif lines > FILE_LINES_WARN and "lines because" not in text[:2500]:
        tidy.say("file-size", path, f"{lines} lines: over {FILE_LINES_WARN} the header says '… lines because …'")
    if not path.endswith(".c"):
        return
    start, name, rows = None, "", code.splitlines()
    for n, line in enumerate(rows, 1):
        if line == "{":
            start = n
            head = " ".join(rows[max(0, n - 6):n - 1])
            names = re.findall(r"(\w+)\s*\(", head.split("}")[-1].split(";")[-1])
            name = names[0] if names else "?"
        elif line == "}" and start is not None:
            if n - start - 1 > FUNCTION_LINES_MAX:
                tidy.say("function-size", f"{path}:{name}", f"{n - start - 1} lines, at most {FUNCTION_LINES_MAX}")
            start = None


def check_header_alone(tidy, path):
    run = subprocess.run(["gcc", "-std=gnu17", "-D_GNU_SOURCE", "-Isrc", "-Iinclude", "-isystem",
                          "/usr/share/include/llhttp", "-fsyntax-only", "-x", "c", "-include", path, "/dev/null"],
                         cwd=ROOT, capture_output=True, text=True)
    if run.returncode != 0:
        tidy.say("header-alone", path, "does not compile alone: " + run.stderr.strip().splitlines()[0])


def object_symbols(objects):
    """(unit, is mutable data, is global function, name) of every defined symbol."""
    out = subprocess.run(["nm", "-A", "--format=sysv", *objects], cwd=ROOT, capture_output=True, text=True).stdout
    for line in out.splitlines():
        cells = [c.strip() for c in line.split("|")]
        if len(cells) != 7:
            continue
        path, _, name = cells[0].partition(":")
        section = cells[6]
        # Constants that hold pointers lie in .data.rel.ro, read-only once the program is linked.
        mutable = section.startswith((".data", ".bss", "*COM*")) and ".rel.ro" not in section
        yield path[len("build/obj/"):-2], mutable, cells[2] == "T", name


def check_symbols(tidy, files):
    sources = {f[4:-2] for f in files if f.startswith("src/") and f.endswith(".c")}
    objects = [f"build/obj/{s}.o" for s in sorted(sources) if os.path.exists(os.path.join(ROOT, f"build/obj/{s}.o"))]
    if not objects:
        print("tidy: no objects are built: globals and prefixes not checked")
        return
    owners = collections.defaultdict(set)
    for unit, mutable, function, name in object_symbols(objects):
        where = f"src/{unit}.c"
        if mutable and not name.startswith(("__", "_GLOBAL", ".L")):
            tidy.say("global", where, f"mutable global {name}")
        if function:
            folder = unit.split("/")[0]
            owners[name.split("_")[0]].add(folder)
    for prefix, folders in sorted(owners.items()):
        if len(folders) > 1 and prefix != "main":
            tidy.say("prefix", f"src/{sorted(folders)[0]}", f"prefix {prefix}_ is defined in {', '.join(sorted(folders))}")


def check_tree(tidy, files):
    folders = {os.path.dirname(f) for f in files if f.startswith("src/") and f.endswith((".c", ".h"))}
    for folder in sorted(folders):
        readme = os.path.join(folder, "README.md")
        if readme not in files:
            tidy.say("readme", folder, "has no README.md")
        elif read(readme).count("\n") > 40:
            tidy.say("readme", readme, "more than 40 lines")
    for path in files:
        size = os.path.getsize(os.path.join(ROOT, path))
        if size > BLOB_BYTES_MAX and not path.startswith("models/"):
            tidy.say("blob", path, f"{size} bytes, at most {BLOB_BYTES_MAX}")


def main():
    tidy = Tidy()
    files = tracked()
    check_tree(tidy, files)
    for path in files:
        if not path.endswith((".c", ".h")) or path.split("/")[0] not in ("src", "tests", "fuzz", "include", "bench"):
            continue
        text = read(path)
        code = strip_comments(text)
        check_banned(tidy, path, code)
        check_sizes(tidy, path, text, code)
        if path.startswith("src/"):
            check_includes(tidy, path, text)
            if path.endswith(".h"):
                check_header_alone(tidy, path)
    check_symbols(tidy, files)
    for rule, where in sorted(tidy.allowed - tidy.used):
        if rule not in ("global", "prefix") or os.path.isdir(os.path.join(ROOT, "build/obj")):
            tidy.problems.append(f"tools/tidy.allow: '{rule} {where}' allows nothing any more: remove it")
    for problem in sorted(tidy.problems):
        print(problem)
    print(f"tidy: {len(files)} files, {len(tidy.problems)} problems")
    return 1 if tidy.problems else 0


sys.exit(main())

/* The language of chat templates, piece by piece. What the rows expect is what jinja2 3.1 prints,
 * set up as transformers does; whole templates are in 10_module/token/test_template_golden.c. */
#include "check.h"

#include "base/json.h"
#include "engine/token/template.h"

enum { OUT_BYTES = 1 << 20 };

struct row {
    const char *source, *want;
};

struct fixture {
    struct arena arena; /* of the conversation */
    struct arena scratch;
    struct buf out;
    struct err err;
    struct template_input in;
};

static const struct json *parse(struct fixture *f, const char *text)
{
    const struct json *j = NULL;
    assert_int_equal(json_parse(str_from(text), &f->arena, &j, &f->err), RC_OK);
    return j;
}

static void setup(struct fixture *f)
{
    *f = (struct fixture){0};
    arena_init(&f->arena, 1 << 20);
    arena_init(&f->scratch, TEMPLATE_SCRATCH_BYTES);
    buf_init(&f->out, OUT_BYTES);
    f->in.messages = parse(f, "[{\"role\":\"system\",\"content\":\"S\"},"
                              "{\"role\":\"user\",\"content\":\"U\"}]");
    f->in.extra = parse(f, "{\"extra_name\":[1]}");
    f->in.bos_token = STR_LIT("<s>");
    f->in.add_generation_prompt = true;
    f->in.now_s = 1721000000; /* 2024-07-14 23:33:20 UTC, a Sunday */
}

static void teardown(struct fixture *f)
{
    buf_deinit(&f->out);
    arena_deinit(&f->scratch);
    arena_deinit(&f->arena);
}

static enum rc render(struct fixture *f, struct str source)
{
    struct template *t = NULL;
    buf_reset(&f->out);
    arena_reset(&f->scratch);
    f->err = (struct err){0};
    enum rc rc = template_compile(&t, source, &f->err);
    if (rc == RC_OK) {
        rc = template_render(t, &f->in, &f->scratch, &f->out, &f->err);
    }
    template_destroy(t);
    return rc;
}

static void check_rows(const struct row *rows, size_t n)
{
    struct fixture f;
    setup(&f);
    for (size_t i = 0; i < n; i++) {
        if (render(&f, str_from(rows[i].source)) != RC_OK) {
            fail_msg("%s\n%s", rows[i].source, f.err.msg);
        }
        if (!str_is(buf_str(&f.out), rows[i].want)) {
            fail_msg("%s\ngives %.*s\n want %s", rows[i].source, STR(buf_str(&f.out)),
                     rows[i].want);
        }
    }
    teardown(&f);
}

/* ---- what jinja2 prints ---- */

static const struct row white_space[] = {
    {"a\n  {% if true %}\n    b\n  {% endif %}\nc", "a\n    b\nc"},
    {"a\n  {%+ if true %}\n    b\n  {%- endif +%}\nc", "a\n      b\nc"},
    {"a {# c #} b {#- c -#} d", "a  bd"},
    {"{{- 'x' -}}   y   {{ 'z' }}  ", "xy   z  "},
    {"\t {# c #}\nb\n  {#- c #}\n d", "b d"},
    {"x\n\n", "x\n"},
    {"a\r\nb\rc\r\n", "a\nb\nc"},
    {"x {%- raw %} {{ a }} {% b %} {% endraw -%} y", "x {{ a }} {% b %} y"},
    {"a\n\343\200\200{% if 1 %}x{% endif %}", "a\nx"},
    {"{{ 1 }}  \n  {{- 2 }}\n{{ 3 -}}  \n 4", "12\n34"},
    {"{% for i in [1, 2] %}\n  {{ i }}\n{% endfor %}\n", "  1\n  2\n"},
    {"{{ {'a': {'b': 1}} }}{{ '}}' }}{{ '%}' }}", "{'a': {'b': 1}}}}%}"},
};

static const struct row numbers[] = {
    {"{{ 1 + 2 * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % -3 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 8 / 2 }}",
     "7 3 -4 -2 2 3.5 4.0"},
    {"{{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ -1|abs }} {{ +5 }} {{ 10 - 3 "
     "- 2 }}",
     "1024 0.5 64 4 1 5 5"},
    {"{{ 1.0 }} {{ 1e16 }} {{ 1e15 }} {{ 1e-5 }} {{ 0.0001 }} {{ 0.1 + 0.2 }} {{ -0.0 }} {{ 100.0 "
     "}} {{ 1e100 }}",
     "1.0 1e+16 1000000000000000.0 1e-05 0.0001 0.30000000000000004 -0.0 100.0 1e+100"},
    {"{{ 5.0 // 2 }} {{ -5.5 % 2 }} {{ 5.5 // -2 }} {{ 1 / 3 }} {{ 1e400 }} {{ 1_000 }} {{ 0x1F }} "
     "{{ 0b101 }} {{ 0o17 }}",
     "2.0 0.5 -3.0 0.3333333333333333 inf 1000 31 5 15"},
    {"{{ true + 1 }} {{ 1 == 1.0 }} {{ 1 == true }} {{ 1 < 1.5 }} {{ 1 < 2 < 3 }} {{ 1 < 2 > 3 }}",
     "2 True True True True False"},
    {"{{ 18446744073709551615 }} {{ [18446744073709551615]|tojson }} {{ 18446744073709551615 is "
     "integer }} {{ '%d' % 18446744073709551615 }}",
     "18446744073709551615 [18446744073709551615] True 18446744073709551615"},
    {"{{ 3.7|round }} {{ 2.5|round }} {{ 3.14159|round(2) }} {{ 3.2|round(method='ceil') }} {{ "
     "15|round(-1) }} {{ 5|round }}",
     "4.0 2.0 3.14 4.0 20 5"},
    {"{{ '42'|int }} {{ '42.7'|int }} {{ 'x'|int(5) }} {{ 'ff'|int(0, 16) }} {{ -3.9|int }} {{ "
     "none|int }} {{ '1_0'|int }} {{ '3.5'|float }} {{ 'x'|float }}",
     "42 42 5 255 -3 0 10 3.5 0.0"},
};

static const struct row texts[] = {
    {"{{ 'it\\'s' }}{{ \"tab\\tnl\\nx\\x41\\u00e9\\U0001F600\\101\\q\" }}{{ \"a\" \"b\" 'c' }}",
     "it'stab\tnl\nxAé😀A\\qabc"},
    {"{{ ['it\\'s', 'say \"hi\"', 'both \\' and \"', '\\n\\t\\\\ \\x00\\x7f é 😀 \\u200b \\xa0'] }}",
     "[\"it's\", 'say \"hi\"', 'both \\' and \"', '\\n\\t\\\\ \\x00\\x7f é 😀 \\u200b \\xa0']"},
    {"{{ 'äöü😀x'[1:4] }}{{ 'äöü😀x'[::-1] }}{{ 'abcdef'[-3:] }}{{ 'abcdef'[::2] }}{{ 'abc'[5] }}{{ "
     "'abc'[-1] }}{{ 'äöü'|length }}",
     "öü😀x😀üöädefacec3"},
    {"{{ ' a b  c '.split() }}{{ 'a,b,c'.split(',', 1) }}{{ ''.split(',') }}{{ 'a b c "
     "'.split(maxsplit=1) }}{{ 'a,b,c'.rsplit(',', 1) }}",
     "['a', 'b', 'c']['a', 'b,c']['']['a', 'b c ']['a,b', 'c']"},
    {"{{ 'abcba'.strip('ab') }}|{{ '\\u3000x\\u2003'.strip() }}|{{ 'xax'|trim('x') }}|{{ 12|trim "
     "}}|{{ 'ééaé'.rstrip('é') }}",
     "c|x|a|12|ééa"},
    {"{{ 'Straße'.upper() }}{{ 'ΑΣ ΣΑΣ'.lower() }}{{ 'hELLO wORLD'.capitalize() }}{{ "
     "\"they're\".title() }}{{ \"they're (x) a-b\"|title }}{{ 'aBc'.swapcase() }}",
     "STRASSEας σαςHello worldThey'ReThey're (X) A-BAbC"},
    {"{{ 'aXbX'.replace('X', '', 1) }}{{ 'abc'.replace('', '-') }}{{ 112|replace(1, 'x') }}{{ "
     "'ééc'.find('c') }}{{ 'abcabc'.rfind('b') }}{{ 'aaa'.count('aa') }}{{ 'a,b'.partition(',') }}",
     "abX-a-b-c-xx2241('a', ',', 'b')"},
    {"{{ 'a\\nb\\r\\nc\\n'.splitlines() }}{{ '-5'.zfill(5) }}|{{ 'abc'.center(6, '-') }}|{{ "
     "'ab'.rjust(5) }}|{{ 'abc'.endswith(('x', 'bc')) }}",
     "['a', 'b', 'c']-0005|-abc--|   ab|True"},
    {"{{ '%s %d %5.2f %x %% %r' % ('a', 5, 3.14159, 255, 'q') }}|{{ '%(a)s-%(b)03d' % {'a': 1, "
     "'b': 2} }}|{{ '%-5s|%+d' % ('a', 5) }}|{{ '%s-%s'|format(1, 'b') }}",
     "a 5  3.14 ff % 'q'|1-002|a    |+5|1-b"},
    {"{{ '{0}{1}{0} {n} {{}} {:>4}|{:05d}|{:.2f}|{!r}'.format('a', 'b', n='k') if false else '{} "
     "{n}'.format(1, n='k') }}{{ '{:>5}|{:<5}|{:^5}|{:05d}|{:.2f}|{:x}'.format('a', 'b', 'c', 42, "
     "3.14159, 255) }}",
     "1 k    a|b    |  c  |00042|3.14|ff"},
    {"{{ 'a\\nb\\n\\nc'|indent }}|{{ 'a\\nb\\n\\nc'|indent(2, true) }}|{{ 'a\\n\\nb'|indent('> ', "
     "blank=true) }}",
     "a\n    b\n\n    c|  a\n  b\n\n  c|a\n> \n> b"},
    {"{{ '<a>&\"\\''|e }}{{ ('<b>'|safe) + '<c>' }}{{ '<c>' + ('<b>'|safe) }}{{ ('<b>'|safe) ~ "
     "'<c>' }}",
     "&lt;a&gt;&amp;&#34;&#39;<b>&lt;c&gt;&lt;c&gt;<b><b><c>"},
};

static const struct row undefined[] = {
    {"[{{ x }}][{{ x is defined }}][{{ x|default('d') }}][{{ none|default('d') }}][{{ ''|d('e', "
     "boolean=true) }}]",
     "[][False][d][None][e]"},
    {"{{ x|length }}{{ x|upper }}{{ x|list }}{{ x|items|list }}{{ x is iterable }}{{ x is sequence "
     "}}{{ x is mapping }}{{ x == y }}{{ 1 in x }}{{ [x] }}",
     "0[][]TrueTrueFalseTrueFalse[Undefined]"},
    {"{% for i in x %}x{% else %}empty{% endfor %}{{ 1 if false }}{{ {'a': 1}.b }}{{ [1]['a'] }}{{ "
     "none.foo }}{{ 'a'.b is defined }}",
     "emptyFalse"},
};

static const struct row containers[] = {
    {"{{ [1, 'a', None, True, 1.5, {'k': 'v'}, (1,), ()] }}{{ {1: 'a', true: 'b', 'c': 2} }}",
     "[1, 'a', None, True, 1.5, {'k': 'v'}, (1,), ()]{1: 'b', 'c': 2}"},
    {"{{ {'items': 5}['items'] }}{{ {'items': 5}.items() }}{{ {'b': 1}.keys() }}{{ {'b': "
     "1}.get('x', 2) }}{{ {'a': [1, 2]}.a.0 }}{{ {'x': 1}.keys is defined }}",
     "5dict_items([('items', 5)])dict_keys(['b'])21True"},
    {"{{ [1, 2, 3][1:] }}{{ [1, 2, 3][::-1] }}{{ (1, 2, 3)[-2:] }}{{ [1, 2, 3, 4, 5][4:0:-2] }}{{ "
     "[1, 2][true] }}{{ range(10)[2:5]|list }}",
     "[2, 3][3, 2, 1](2, 3)[5, 3]2[2, 3, 4]"},
    {"{{ [1, [2]] == [1, [2]] }}{{ (1, 2) == [1, 2] }}{{ {'a': 1} == {'a': 1.0} }}{{ [1, 2] < [1, "
     "3] }}{{ 1.0 in [1] }}{{ 'k' in {'k': 1} }}{{ 'z' not in 'abc' }}",
     "TrueFalseTrueTrueTrueTrueTrue"},
    {"{{ [1] + [2] }}{{ [1] * 2 }}{{ 'ab' * 2 }}{{ (1,) + (2,) }}{{ range(5, 0, -2)|list }}{{ "
     "range(1, 7, 2) }}{{ range(3)[1] }}",
     "[1, 2][1, 1]abab(1, 2)[5, 3, 1]range(1, 7, 2)1"},
    {"{{ {'a': [1, 2.0, 'x\\n\"é😀</', none, true], 'b': {}, 1: (1, 2)}|tojson }}",
     "{\"a\": [1, 2.0, \"x\\n\\\"é😀</\", null, true], \"b\": {}, \"1\": [1, 2]}"},
    {"{{ {'a': [1, {'b': []}]}|tojson(indent=2) }}{{ [1, 2]|tojson(indent=0) }}{{ {'b': 1, 'a': "
     "2}|tojson(sort_keys=true, separators=(',', ':')) }}{{ 'é😀\\x7f'|tojson(ensure_ascii=true) }}",
     "{\n  \"a\": [\n    1,\n    {\n      \"b\": []\n    }\n  "
     "]\n}[\n1,\n2\n]{\"a\":2,\"b\":1}\"\\u00e9\\ud83d\\ude00\\u007f\""},
    {"{{ {'b': 1, 'A': 2, 'c': 0}|dictsort }}{{ {'b': 1, 'a': 2}|dictsort(by='value', "
     "reverse=true) }}{{ [3, 1, 2]|sort(reverse=true) }}{{ ['b', 'A', 'c']|sort }}{{ [{'a': 2}, "
     "{'a': 1}]|sort(attribute='a') }}",
     "[('A', 2), ('b', 1), ('c', 0)][('a', 2), ('b', 1)][3, 2, 1]['A', 'b', 'c'][{'a': 1}, {'a': "
     "2}]"},
    {"{{ [1, 2, 2, 'a', 'A']|unique|list }}{{ [3, 1]|min }}{{ [3, 1]|max }}{{ [1.5, 2]|sum }}{{ "
     "'abc'|first }}{{ [1, 2]|last }}{{ 'abc'|reverse }}{{ [1, 2]|reverse|list }}",
     "[1, 2, 'a']133.5a2cba[2, 1]"},
    {"{{ [1, 2]|map('string')|join('-') }}{{ [{'a': {'b': 3}}, {}]|map(attribute='a.b', "
     "default='z')|list if false else [{'a': 1}, {}]|map(attribute='a', default='z')|list }}{{ ['x "
     "y']|map('replace', ' ', '_')|list }}",
     "1-2[1, 'z']['x_y']"},
    {"{{ [1, 2, 3, 4]|select('odd')|list }}{{ [1, 0]|select|list }}{{ [{'a': 1}, {'a': "
     "5}]|selectattr('a', '>', 2)|list }}{{ [{'a': 1}, {}]|rejectattr('a', 'defined')|list }}{{ "
     "[1, 2]|reject('equalto', 2)|list }}",
     "[1, 3][1][{'a': 5}][{}][1]"},
};

static const struct row tests[] = {
    {"{{ {} is mapping }}{{ {} is sequence }}{{ 'a' is iterable }}{{ 5 is iterable }}{{ true is "
     "number }}{{ true is integer }}{{ 1.0 is float }}{{ 0 is false }}{{ false is false }}{{ none "
     "is none }}",
     "TrueTrueTrueFalseTrueFalseTrueFalseTrueTrue"},
    {"{{ 5 is divisibleby 5 }}{{ 5 is odd }}{{ 'abc' is lower }}{{ 1 is sameas true }}{{ 1 is in "
     "[1] }}{{ 3 is gt(2) }}{{ 1 is not none }}{{ 'upper' is filter }}{{ not 1 is none }}{{ 1 is "
     "eq 1 and 2 is ne 1 }}",
     "TrueTrueTrueFalseTrueTrueTrueTrueTrueTrue"},
};

static const struct row logic[] = {
    {"{{ 1 and 2 }}{{ 0 or 'x' }}{{ '' or none }}{{ not not 1 }}{{ 1 if 0 else 2 if 0 else 3 }}{{ "
     "1 ~ 2 * 3 }}{{ (1 + 2) ~ 3 }}",
     "2xNoneTrue31633"},
    {"{% if [] %}a{% elif '' %}b{% elif {} %}c{% elif 0.0 %}d{% elif none %}e{% else %}f{% endif "
     "%}",
     "f"},
};

static const struct row loops[] = {
    {"{% for i in 'abc' %}{{ i }}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ "
     "loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ "
     "loop.nextitem }}{{ loop.cycle('x', 'y') }};{% endfor %}",
     "a1032TrueFalse3bx;b2121FalseFalse3acy;c3210FalseTrue3bx;"},
    {"{% for i in [1, 2, 3, 4] if i is odd %}{{ i }}{{ loop.index }}{{ loop.last }}{{ loop.length "
     "}}{% else %}none{% endfor %}",
     "11False232True2"},
    {"{% set ns = namespace(n=0) %}{% for i in [1, 2, 3, 4] if ns.n < 2 %}{% set ns.n = ns.n + 1 "
     "%}{{ i }}{{ loop.last }}{% endfor %}",
     "1False2True"},
    {"{% set ns = namespace(n=0) %}{% for i in [1, 2, 3, 4] if ns.n < 2 %}{% set ns.n = ns.n + 1 "
     "%}{{ i }}{{ loop.length }}{% endfor %}",
     "14243444"},
    {"{% for i in [1, 2, 3, 4] %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 4 %}{% break "
     "%}{% endif %}{{ i }}{% endfor %}",
     "13"},
    {"{% for i in [] %}x{% else %}empty{% endfor %}{% for i in [1] %}{% break %}{% else %}broken{% "
     "endfor %}",
     "emptybroken"},
    {"{% for k, v in {'a': 1}.items() %}{{ k }}={{ v }}{% endfor %}{% for a, (b, c) in [(1, (2, "
     "3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
     "a=1123"},
    {"{% for i in [1, 2] %}{% for j in [3, 4] %}{{ loop.index }}{% endfor %}{{ loop.index }}{% "
     "endfor %}",
     "121122"},
};

static const struct row scopes[] = {
    {"{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", "231"},
    {"{% for i in [1, 2] %}{% if loop.first %}{% set y = 5 %}{% endif %}{{ y }}{% endfor %}{{ y }}",
     "5"},
    {"{% for m in [1] %}[{{ bos_token }}]{% endfor %}{% set bos_token = 5 %}{{ bos_token }}",
     "[]5"},
    {"{% macro f() %}[{{ q }}]{% endmacro %}{{ f() }}{% set q = 5 %}{{ f() }}{% set q = 6 %}{{ f() "
     "}}",
     "[][5][6]"},
    {"{% macro f() %}{{ q }}{% set q = 7 %}{{ q }}{% endmacro %}{% set q = 5 %}{{ f() }}{{ q }}",
     "575"},
    {"{% for i in [1] %}{% for j in [1] %}{% set i = 5 %}{{ i }}{% endfor %}{{ i }}{% endfor %}",
     "51"},
    {"{% if false %}{% set bos_token = 1 %}{% endif %}{{ bos_token }}", "<s>"},
    {"{% set x = 1 %}{% set y %}{% set x = 2 %}{{ x }}{% endset %}{{ x }}{{ y }}", "12"},
    {"{% generation %}abc{% set x = 2 %}{% endgeneration %}[{{ x }}]", "abc[]"},
    {"{% set a, b = 1, 2 %}{% set (a, b) = (b, a) %}{{ a }}{{ b }}{% set t = 1, 2 %}{{ t }}",
     "21(1, 2)"},
    {"{% set ns = namespace(x=1) %}{% for i in [1, 2, 3] %}{% set ns.x = ns.x + i %}{% endfor %}{{ "
     "ns.x }}{{ ns }}{{ ns.z is defined }}{{ ns['x'] }}",
     "7<Namespace {'x': 7}>False7"},
    {"{% macro f(a, b=a, c='x') %}{{ a }}{{ b }}{{ c }};{% endmacro %}{{ f(1) }}{{ f(1, c=3) }}{{ "
     "f(b=6, a=5) }}{{ f() }}{{ f(1, none) }}",
     "11x;113;56x;x;1Nonex;"},
    {"{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}{{ "
     "f(1)|length }}",
     "5432102"},
    {"{% set x | upper %}a{{ 1 }}b{% endset %}{{ x }}{% filter replace('a', 'b')|upper %}aa{% "
     "endfilter %}",
     "A1BBB"},
};

static const struct row context[] = {
    {"{{ messages[0].role }}{{ messages[-1]['content'] }}{{ "
     "messages|map(attribute='role')|join(',') }}{{ messages[10] is defined }}",
     "systemUsystem,userFalse"},
    {"{{ tools is none }}{{ documents is none }}{{ bos_token }}{{ eos_token is defined }}{{ "
     "add_generation_prompt }}{{ extra_name }}",
     "TrueTrue<s>FalseTrue[1]"},
    {"{{ strftime_now('%Y-%m-%d %H:%M:%S %d %b %B %A %j %% %-d %y %p %I') }}{{ raise_exception is "
     "defined }}{{ nosuch is defined }}",
     "2024-07-14 23:33:20 14 Jul July Sunday 196 % 14 24 PM 11TrueFalse"},
    {"{% if false %}{{ 1|nosuchfilter }}{% endif %}ok", "ok"},
};

#define ROWS_TEST(name)                                                                            \
    static void template_renders_##name(void **state)                                              \
    {                                                                                              \
        (void)state;                                                                               \
        check_rows(name, ARRAY_LEN(name));                                                         \
    }

ROWS_TEST(white_space)
ROWS_TEST(numbers)
ROWS_TEST(texts)
ROWS_TEST(undefined)
ROWS_TEST(containers)
ROWS_TEST(tests)
ROWS_TEST(logic)
ROWS_TEST(loops)
ROWS_TEST(scopes)
ROWS_TEST(context)

/* ---- beyond the sandbox: changing lists and dicts, reading JSON ---- */

static const struct row changing[] = {
    {"{% set l = [1] %}{% set _ = l.append(2) %}{{ l }}{{ l.append(3) }}", "[1, 2]None"},
    {"{% set l = [1, 2, 3] %}{{ l.pop() }}{{ l.pop(0) }}{{ l }}", "31[2]"},
    /* A slice keeps what it had, whatever happens to its list. */
    {"{% set l = [1, 2, 3] %}{% set s = l[1:] %}{% set _ = l.pop() %}{% set _ = l.append(9) %}"
     "{{ s }}{{ l }}{% set _ = s.append(7) %}{{ s }}{{ l }}",
     "[2, 3][1, 2, 9][2, 3, 7][1, 2, 9]"},
    {"{% set d = {'a': 1, 'b': 2} %}{{ d.pop('a') }}{{ d }}{{ d.pop('z', 0) }}", "1{'b': 2}0"},
    {"{% for x in '{\"a\": [1, 2.5, null]}'|from_json %}{{ x }}{% endfor %}", "a"},
    {"{{ '[1, 2.5, null]'|from_json }}", "[1, 2.5, None]"},
};
ROWS_TEST(changing)

/* ---- errors ---- */

static const struct row errors[] = {
    /* found by the parser */
    {"{{ 1 ", "ends where"},
    {"\n\n{% if 1 %}", "line 3: the template ends where endif is wanted"},
    {"{{ }}", "the tag ends where an expression"},
    {"{{ 'abc }}", "a string does not end"},
    {"{# abc", "missing end of comment"},
    {"{% raw %}x", "missing end of raw block"},
    {"{% include 'x' %}", "the tag 'include' is not served"},
    {"{% endif %}", "the tag 'endif' is not served"},
    {"{{ a b }}", "unexpected 'b'"},
    {"{{ (1] }}", "unexpected ']'"},
    {"{{ {1} }}", "unexpected '}'"},
    {"{{ f(a=1, 2) }}", "a named argument"},
    {"{% set 1 = 2 %}", "a name to assign to"},
    {"{% set true = 2 %}", "cannot assign to a constant"},
    {"{% for loop in [] %}{% endfor %}", "cannot assign to loop"},
    {"{% break %}", "outside a loop"},
    {"{% for i in [1] %}{% macro f() %}{% break %}{% endmacro %}{% endfor %}", "outside a loop"},
    {"{% macro f(a=1, b) %}{% endmacro %}", "without default"},
    {"{% macro f(a, a) %}{% endmacro %}", "named twice"},
    {"{{ '\\ud800' }}", "escape that is not served"},
    {"{{ 1 ! 2 }}", "unexpected character"},
    {"{{ 012 }}", "malformed number"},
    /* found while rendering */
    {"{{ x.y }}", "'x' is undefined"},
    {"\n{{ x + 1 }}", "line 2: 'x' is undefined"},
    {"{{ x() }}", "'x' is undefined"},
    {"{{ x|tojson }}", "not JSON serializable"},
    {"{{ 'a' + 1 }}", "unsupported operand types for +: 'str' and 'int'"},
    {"{{ 1 < 'a' }}", "no order"},
    {"{{ 1 // 0 }}", "division by zero"},
    {"{{ 2 ** 64 }}", "over 64 bits"},
    {"{{ 9223372036854775807 + 1 }}", "over 64 bits"},
    {"{{ 1 in 'abc' }}", "requires a string"},
    {"{{ messages|map('string')|tojson }}", "generator is not JSON"},
    {"{{ {[1]: 2} }}", "cannot be a key"},
    {"{{ [1][::0] }}", "step cannot be zero"},
    {"{{ 5|length }}", "has no len()"},
    {"{{ 1|nosuch }}", "no filter named 'nosuch'"},
    {"{{ 1 is nosuch }}", "no test named 'nosuch'"},
    {"{{ 'a'.encode() }}", "'encode' is not served"},
    {"{{ 'a'.replace('b') }}", "argument 'new' is missing"},
    {"{{ 'a'|trim(1, 2) }}", "at most 1"},
    {"{{ 'a'|tojson(nope=1) }}", "an argument it does not have"},
    {"{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", "not more than 1"},
    {"{% macro f(a) %}{% endmacro %}{{ f(b=2) }}", "an argument it does not have"},
    {"{% for i in none %}{% endfor %}", "'NoneType' object is not iterable"},
    {"{% for a, b in [(1, 2, 3)] %}{% endfor %}", "too many values"},
    {"{% set m = {} %}{% set m.y = 1 %}", "non-namespace"},
    {"{{ '%s %s' % 'a' }}", "not enough arguments"},
    {"{{ '%d' % 'a' }}", "a whole number is required"},
    {"{{ '{}'.format() }}", "too few positional"},
};

static void template_names_what_is_wrong(void **state)
{
    struct fixture f;
    (void)state;
    setup(&f);
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        enum rc rc = render(&f, str_from(errors[i].source));
        if (rc != RC_INVALID || strstr(f.err.msg, errors[i].want) == NULL) {
            fail_msg("%s\ngives %s: %s", errors[i].source, err_row(rc)->name, f.err.msg);
        }
    }
    teardown(&f);
}

static void template_raises_in_its_own_words(void **state)
{
    struct fixture f;
    (void)state;
    setup(&f);
    assert_int_equal(render(&f, STR_LIT("a{{ raise_exception('No: ' ~ 7) }}b")), RC_INVALID);
    assert_string_equal(f.err.msg, "No: 7");
    teardown(&f);
}

static void template_refuses_bad_input(void **state)
{
    struct fixture f;
    (void)state;
    setup(&f);
    assert_int_equal(render(&f, STR_LIT("a\xff")), RC_INVALID);
    f.in.bos_token = STR_LIT("\xff");
    assert_int_equal(render(&f, STR_LIT("a")), RC_INVALID);
    f.in.bos_token = STR_NULL;
    assert_int_equal(render(&f, STR_LIT("{{ bos_token is defined }}")), RC_OK);
    assert_true(str_is(buf_str(&f.out), "False"));
    f.in.extra = parse(&f, "{\"messages\":1}");
    assert_int_equal(render(&f, STR_LIT("a")), RC_INVALID);
    assert_string_equal(f.err.param, "chat_template_kwargs");
    f.in.extra = parse(&f, "[1]");
    assert_int_equal(render(&f, STR_LIT("a")), RC_INVALID);
    teardown(&f);
}

/* ---- limits ---- */

static const struct row limits[] = {
    {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested evaluations"},
    {"{% set l = [] %}{% set _ = l.append(l) %}{{ l }}", "nested evaluations"},
    {"{% set l = [] %}{% set _ = l.append(l) %}{{ l|tojson }}", "nested evaluations"},
    {"{% set r = range(100000) %}{% for i in r %}{% for j in r %}{% endfor %}{% endfor %}",
     "steps"},
    {"{% set l = [1] %}{% for i in l %}{% set _ = l.append(i) %}{% endfor %}", "rendering"},
    {"{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(99) %}"
     "{% set ns.s = ns.s + ns.s %}{% endfor %}",
     "memory"},
    {"{{ 'x' * 4000000000 }}", "rendering"},
    {"{{ [1] * 4000000000 }}", "rendering"},
    {"{{ 'x'.center(9000000000) }}", "steps"},
    {"{{ '%9999999999d' % 1 }}", "too wide"},
    {"{{ '%.9999f' % 1 }}", "too wide"},
    {"{{ range(100001) }}", "range of more than"},
    {"{{ [1]|tojson(indent=99999999999) }}", "steps"},
    {"{{ 'a'|indent(99999999999) }}", "steps"},
    {"{% for i in range(100000) %}{{ '0123456789abcdef' }}{% endfor %}", "longer than its buffer"},
};

static void template_has_limits(void **state)
{
    struct fixture f;
    (void)state;
    setup(&f);
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        enum rc rc = render(&f, str_from(limits[i].source));
        if (rc != RC_TOO_LARGE || strstr(f.err.msg, limits[i].want) == NULL) {
            fail_msg("%s\ngives %s: %s", limits[i].source, err_row(rc)->name, f.err.msg);
        }
    }
    teardown(&f);
}

/* `open`, `middle` and `close`, the first and last n times. */
static enum rc render_nested(struct fixture *f, const char *open, const char *middle,
                             const char *close, int n)
{
    struct buf source;
    buf_init(&source, 1 << 20);
    for (int i = 0; i < n; i++) {
        buf_add_cstr(&source, open);
    }
    buf_add_cstr(&source, middle);
    for (int i = 0; i < n; i++) {
        buf_add_cstr(&source, close);
    }
    enum rc rc = render(f, buf_str(&source));
    buf_deinit(&source);
    return rc;
}

static void template_bounds_nesting(void **state)
{
    static const struct {
        const char *open, *middle, *close;
    } shapes[] = {
        {"{% if 1 %}", "x", "{% endif %}"},
        {"{% for i in [1] %}", "x", "{% endfor %}"},
        {"{% set a %}", "x", "{% endset %}"},
    };
    static const struct {
        const char *open, *close;
    } inside[] = {{"(", ")"},  {"[", "]"},           {"not ", ""},     {"-", ""},     {"", "|trim"},
                  {"", ".a"},  {"", "[0]"},          {"1+", ""},       {"", "~1"},    {"{1:", "}"},
                  {"f(", ")"}, {"1 if 1 else ", ""}, {"", " is none"}, {"1 and ", ""}};
    struct fixture f;
    (void)state;
    setup(&f);
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        assert_int_equal(render_nested(&f, shapes[i].open, "x", shapes[i].close, 50), RC_OK);
        assert_int_equal(render_nested(&f, shapes[i].open, "x", shapes[i].close, 5000),
                         RC_TOO_LARGE);
    }
    for (size_t i = 0; i < ARRAY_LEN(inside); i++) {
        struct buf b;
        buf_init(&b, 1 << 20);
        buf_add_cstr(&b, "{{ ");
        for (int k = 0; k < 5000; k++) {
            buf_add_cstr(&b, inside[i].open);
        }
        buf_add_cstr(&b, "1");
        for (int k = 0; k < 5000; k++) {
            buf_add_cstr(&b, inside[i].close);
        }
        buf_add_cstr(&b, " }}");
        enum rc rc = render(&f, buf_str(&b));
        if (rc != RC_TOO_LARGE && i != 8) { /* "~" is one node, however long */
            fail_msg("%s…%s gives %s", inside[i].open, inside[i].close, err_row(rc)->name);
        }
        buf_deinit(&b);
    }
    teardown(&f);
}

static void template_bounds_sources(void **state)
{
    struct fixture f;
    struct buf b;
    (void)state;
    setup(&f);
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 3000; i++) {
        buf_add_printf(&b, "{{ v%d }}", i);
    }
    assert_int_equal(render(&f, buf_str(&b)), RC_TOO_LARGE);
    while (b.len <= TEMPLATE_SOURCE_BYTES_MAX) {
        buf_add_cstr(&b, "0123456789abcdef");
    }
    assert_int_equal(render(&f, buf_str(&b)), RC_TOO_LARGE);
    assert_non_null(strstr(f.err.msg, "at most"));
    buf_deinit(&b);
    teardown(&f);
}

static void template_fits_small_arenas_or_says_so(void **state)
{
    static const char source[] =
        "{% macro m(x) %}{{ x|tojson(indent=2) }}{% endmacro %}{% for k, v in {'a': [1, "
        "2]}.items() "
        "%}{{ k ~ m(v) }}{{ '%s' % messages }}{% set b %}{{ v|map('string')|join('-') }}{% endset "
        "%}{{ b|upper }}{{ messages|sort(attribute='role')|list }}{% endfor %}";
    struct fixture f;
    struct template *t = NULL;
    size_t ok = 0;
    (void)state;
    setup(&f);
    assert_int_equal(template_compile(&t, str_from(source), &f.err), RC_OK);
    for (size_t bytes = 0; bytes < 40000; bytes += 48) {
        struct arena a;
        arena_init(&a, bytes);
        buf_reset(&f.out);
        enum rc rc = template_render(t, &f.in, &a, &f.out, &f.err);
        assert_true(rc == RC_OK || rc == RC_TOO_LARGE);
        ok += rc == RC_OK;
        arena_deinit(&a);
    }
    assert_true(ok > 10 && ok < 800);
    template_destroy(t);
    template_destroy(NULL);
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(template_renders_white_space),
        cmocka_unit_test(template_renders_numbers),
        cmocka_unit_test(template_renders_texts),
        cmocka_unit_test(template_renders_undefined),
        cmocka_unit_test(template_renders_containers),
        cmocka_unit_test(template_renders_tests),
        cmocka_unit_test(template_renders_logic),
        cmocka_unit_test(template_renders_loops),
        cmocka_unit_test(template_renders_scopes),
        cmocka_unit_test(template_renders_context),
        cmocka_unit_test(template_renders_changing),
        cmocka_unit_test(template_names_what_is_wrong),
        cmocka_unit_test(template_raises_in_its_own_words),
        cmocka_unit_test(template_refuses_bad_input),
        cmocka_unit_test(template_has_limits),
        cmocka_unit_test(template_bounds_nesting),
        cmocka_unit_test(template_bounds_sources),
        cmocka_unit_test(template_fits_small_arenas_or_says_so),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}

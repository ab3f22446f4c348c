"""Make the chat-template goldens, tests/golden/templates.json, with Python's jinja2.

The environment is the one transformers renders with: immutable sandbox, trim_blocks and
lstrip_blocks, loop controls, the generation tag, tojson without HTML escapes, raise_exception,
strftime_now (its clock stopped). `tools` and `documents` are None where a conversation has none.
The templates stay in ../shared/chat-templates; SNIPPETS below pins the language piece by piece.

    python tests/golden/make/templates.py      needs jinja2 3.1
"""

import json
import pathlib
from datetime import datetime

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = pathlib.Path(__file__).resolve().parents[3]
TEMPLATES = ROOT.parent / "shared" / "chat-templates"
OUT = ROOT / "tests" / "golden" / "templates.json"
NOW = datetime(2026, 1, 5, 9, 30, 7)

# ---------------------------------------------------------------------------------------------
# Conversations

TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "Weather of a city, \"now\" & here <b>",
        "parameters": {"type": "object", "properties": {
            "city": {"type": "string", "description": "City: Zürich, 東京"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
            "days": {"type": "integer", "minimum": 1, "maximum": 14}},
            "required": ["city"], "additionalProperties": False}}},
    {"type": "function", "function": {
        "name": "add", "description": "Add\nnumbers.",
        "parameters": {"type": "object", "properties": {
            "values": {"type": "array", "items": {"type": "number"}},
            "scale": {"type": "number", "default": 0.5}}, "required": []}}},
]
CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"id": "call00001", "type": "function", "function": {
        "name": "get_weather", "arguments": {"city": "Zürich", "days": 2}}}]}
NULL_CALL = CALL | {"content": None}
# Arguments as the API carries them, not as most templates want them.
STRING_CALL = {"role": "assistant", "content": "Looking.", "tool_calls": [
    {"id": "call00001", "type": "function", "function": {
        "name": "get_weather", "arguments": "{\"city\": \"Zürich\"}"}}]}
RESULT = {"role": "tool", "tool_call_id": "call00001", "name": "get_weather",
          "content": "{\"temp\": -3.5, \"sky\": \"snow\"}"}
SYSTEM = {"role": "system", "content": "You are a terse helper."}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def conversation(messages, tools=None, **kwargs):
    return {"messages": messages, "tools": tools, "bos_token": "<s>", "eos_token": "</s>",
            "kwargs": kwargs}


CONVERSATIONS = {
    "user": conversation([user("Hello!")]),
    "system": conversation([SYSTEM, user("  What is 2 + 2?\n")]),
    "turns": conversation([SYSTEM, user("Hi"), assistant("Hello. "), user("Name a prime."),
                           assistant("7"), user("Another?")]),
    "ended": conversation([user("Say yes."), assistant("Yes.")]),
    "unicode": conversation([
        {"role": "system", "content": "Réponds en français. 简短。"},
        user("e\u0301 \u00df \u4f60\u597d \U0001f468\u200d\U0001f469\u200d\U0001f467 "
             "\"quoted\" 'single' \\ <b>&amp;</b>\t|\u2028 end"),
        assistant("¡Olé! 🎉"), user("مرحبا")]),
    "tools": conversation([SYSTEM, user("Weather in Zürich?")], TOOLS,
                          functions="[]", datetime="2026-01-05"),
    "tool_result": conversation([SYSTEM, user("Weather?"), CALL, RESULT], TOOLS,
                                functions="[]", datetime="2026-01-05"),
    "tool_null": conversation([user("Weather?"), NULL_CALL, RESULT], TOOLS),
    "tool_turns": conversation([user("Weather?"), STRING_CALL, RESULT,
                                assistant("-3.5 °C, snow."), user("Thanks.")], TOOLS),
    "thoughts": conversation([user("17 * 3?"),
                              assistant("51", reasoning_content="10*3 + 7*3 = 51"),
                              user("And 18 * 3?"),
                              assistant("<think>\n54.\n</think>\n\n54"), user("Sure?")]),
    "no_thinking": conversation([user("Hello!")], enable_thinking=False),
    "two_users": conversation([user("One."), user("Two.")]),
    "parts": conversation([{"role": "user", "content": [
        {"type": "text", "text": "First."}, {"type": "text", "text": "Second."}]}]),
}
# Rendered without the generation prompt too.
BOTH_WAYS = ("turns", "ended", "tool_result")

# ---------------------------------------------------------------------------------------------
# Snippets: one feature each, over CONTEXT

CONTEXT = {
    "s": "  Hello, Wörld <&> 'q' \"d\"  ", "empty": "", "n": 7, "neg": -3, "f": 2.5, "t": True,
    "no": False, "nil": None, "xs": [3, 1, 2], "words": ["b", "A", "c", "b"],
    "d": {"z": 1, "a": [1, {"k": "v"}], "name": "dict"},
    "rows": [{"role": "user", "n": 1}, {"role": "tool", "n": 2}, {"role": "user", "n": 3}],
}
SNIPPETS = [
    # output of values
    "{{ n }} {{ neg }} {{ f }} {{ t }} {{ no }} {{ nil }} {{ xs }} {{ words }} {{ d }}",
    "{{ 1.0 }} {{ 1e3 }} {{ 0.1 + 0.2 }} {{ 1e100 }} {{ 1e-7 }} {{ 10 / 4 }} {{ 8 / 2 }}",
    "{{ [1, 'a', none, true, 2.0, {'k': \"it's\"}] }}", "{{ 'tab\\tnl\\n\\\\' }}{{ ['\\n'] }}",
    "[{{ missing }}] [{{ d.missing }}] [{{ d['nope'] }}] [{{ xs[9] }}]", "{{ (1, 2) }}{{ (1,) }}",
    "{{ s }}|{{ empty }}|", "{{ {} }}{{ [] }}{{ {'a': {}} }}",
    # arithmetic, comparison, logic
    "{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ n * 2 - 1 }}",
    "{{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ -n + 1 }} {{ 'a' ~ 1 ~ none ~ true }} {{ 'ab' * 2 }}",
    "{{ n == 7 }} {{ n != 7 }} {{ 1 == 1.0 }} {{ 1 == true }} {{ '1' == 1 }} {{ xs == [3, 1, 2] }}",
    "{{ 1 < 2 <= 2 }} {{ 3 > n }} {{ 'a' < 'b' }} {{ d == {'z': 1} }} {{ nil == none }}",
    "{{ t and 'x' }} {{ no or 'y' }} {{ empty or nil or 'z' }} {{ not t }} {{ not empty and t }}",
    "{{ 'x' in 'xyz' }} {{ 3 in xs }} {{ 'a' in d }} {{ 9 not in xs }} {{ '' in 'abc' }}",
    "{{ 'yes' if n > 3 else 'no' }} {{ 'yes' if no }}|", "{{ xs + [4] }} {{ 'a' + 'b' }}",
    # subscripts and slices
    "{{ xs[0] }} {{ xs[-1] }} {{ d.name }} {{ d['a'][1].k }} {{ s[2] }} {{ 'é漢x'[1] }}",
    "{{ xs[1:] }} {{ xs[:-1] }} {{ xs[::-1] }} {{ xs[::2] }} {{ 'hello'[1:3] }} {{ 'añb'[::-1] }}",
    "{{ xs[5:] }} {{ xs[-2:] }} {{ xs[2:0:-1] }} {{ words[1:][0] }}",
    # filters
    "{{ s | trim }}|{{ s | lower }}|{{ s | upper }}|{{ s | length }}",
    "{{ 'a b' | replace(' ', '_') }}",
    "{{ xs | length }} {{ d | length }} {{ 'é漢' | length }} {{ xs | first }} {{ xs | last }}",
    "{{ missing | default('x') }} {{ empty | default('x') }} {{ empty | default('x', true) }}",
    "{{ nil | default('x') }} {{ no | default('x', boolean=true) }} {{ missing | default }}|",
    "{{ words | join }} {{ words | join(', ') }} {{ xs | join('-') }} {{ [] | join(',') }}|",
    "{{ rows | join(', ', attribute='role') }} {{ rows | map(attribute='n') | list }}",
    "{{ words | map('upper') | join }} {{ ['1', '2'] | map('int') | list }} {{ 'abc' | list }}",
    "{{ rows | selectattr('role', 'equalto', 'user') | list | length }}",
    "{{ rows | selectattr('role', '==', 'tool') | map(attribute='n') | first }}",
    "{{ rows | rejectattr('role', 'equalto', 'user') | list }}",
    "{{ [0, 1, '', 'a', none] | select | list }} {{ [1, 2, 3] | select('gt', 1) | list }}",
    "{{ [1, none, 2] | reject('none') | list }} {{ rows | selectattr('missing') | list }}",
    "{{ xs | sort }} {{ words | sort }} {{ xs | sort(reverse=true) }} {{ words | unique | list }}",
    "{{ xs | min }} {{ xs | max }} {{ xs | sum }} {{ xs | reverse | list }}",
    "{{ d | items | list }} {{ d | dictsort }}",
    "{{ rows | sort(attribute='role') | map(attribute='n') | list }}",
    "{{ d | string }} {{ 5 | string + 'x' }} {{ '42' | int + 1 }} {{ 'x' | int(9) }} "
    "{{ 3.7 | int }}",
    "{{ '2.5' | float }} {{ -4 | abs }} {{ 2.567 | round(2) }} {{ 2.5 | round }} {{ "
    "'ab' | capitalize }}",
    "{{ 'one two' | title }} {{ 'a\nb' | indent }}|{{ 'a\nb\n\nc' | indent(2, true) }}|",
    "{{ '<a> & \"b\"' | escape }} {{ '<a>' | safe }} {{ '<a>' | e }} {{ [1,2,3] | last }}",
    # tojson
    "{{ d | tojson }} {{ s | tojson }} {{ nil | tojson }} {{ t | tojson }} {{ f | tojson }}",
    "{{ d | tojson(indent=2) }}", "{{ [] | tojson(indent=4) }} {{ {} | tojson(indent=4) }}",
    "{{ ['\\u00e9漢🎉', '\\x07\\n\\t\\\\\"/'] | tojson }}",
    "{{ 'é' | tojson(ensure_ascii=true) }} {{ [1.0, 1e22, 0.1, -0.0, 12345678901] | tojson }}",
    "{{ {'a': 1, 'b': [1, 2]} | tojson(separators=(',', ':')) }}",
    # tests
    "{{ n is defined }} {{ missing is defined }} {{ missing is undefined }} {{ nil is none }}",
    "{{ s is string }} {{ d is mapping }} {{ xs is iterable }} {{ s is iterable }} "
    "{{ n is iterable }}",
    "{{ xs is sequence }} {{ d is sequence }} {{ n is number }} {{ t is number }} {{ f is float }}",
    "{{ t is true }} {{ no is false }} {{ n is integer }} {{ t is boolean }} {{ n is boolean }}",
    "{{ n is odd }} {{ n is even }} {{ n is divisibleby 7 }} {{ n is eq 7 }} {{ n is not none }}",
    "{{ 'a' is in 'abc' }} {{ nil is not defined }} {{ d.missing is defined }} {{ 'AB' is upper }}",
    # methods
    "{{ s.strip() }}|{{ s.lstrip() }}|{{ s.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ "
    "'abc'.lstrip('ab') }}",
    "{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a-b-c'.split('-', 1) }} {{ "
    "'x'.split('y')[0] }}",
    "{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith('c') }} {{ 'abc'.upper() }} {{ "
    "'AbC'.lower() }}",
    "{{ 'aXbX'.replace('X', '-') }} {{ 'aXbX'.replace('X', '-', 1) }} {{ 'abc'.find('c') }}",
    "{{ d.get('z') }} {{ d.get('q') }} {{ d.get('q', 5) }} {{ d.keys() | list }} {{ "
    "d.values() | list }}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{{ 'it is %s' | format('x') }}",
    "{{ '%d-%s' % (n, 'a') }} {{ '{} {}'.format(1, 'b') }} {{ 'one two'.title() }} "
    "{{ 'a b'.capitalize() }}",
    # loops
    "{% for x in xs %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.length }}:{{ x }} {% endfor %}",
    "{% for x in xs %}{{ loop.first }} {{ loop.last }} {{ loop.revindex }} {{ "
    "loop.revindex0 }};{% endfor %}",
    "{% for x in xs %}[{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }}]{% endfor %}",
    "{% for x in [] %}x{% else %}none{% endfor %} {% for c in 'né' %}{{ c }}.{% endfor %}",
    "{% for r in rows if r.role == 'user' %}{{ loop.index }}{{ r.n }}{{ loop.last }} {% endfor %}",
    "{% for k in d %}{{ k }} {% endfor %}{% for a, b in [[1, 2], [3, 4]] %}{{ a + b "
    "}} {% endfor %}",
    "{% for x in range(6) %}{% if x == 1 %}{% continue %}{% endif %}{% if x == 4 "
    "%}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{{ range(3) | list }} {{ range(1, 7, 2) | list }} {{ range(3, 0, -1) | list }}",
    "{% for x in xs %}{% for y in words %}{{ loop.index }}{% endfor %}{{ loop.index "
    "}} {% endfor %}",
    # set, scope, namespace, macros
    "{% set x = 1 %}{% for i in xs %}{% set x = i %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(a=1, b='x') %}{% for i in xs %}{% set ns.a = ns.a + i "
    "%}{% endfor %}{{ ns.a }}{{ ns.b }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }} {% if t %}{% set a = 5 %}{% endif %}{{ a }}",
    "{% set block %}<{{ n }}>{% endset %}{{ block }}{{ block | length }}",
    "{% macro m(a, b='d') %}[{{ a }}|{{ b }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ "
    "m(b=3, a=4) }}{{ m() }}",
    "{% macro f(k) %}{% if k > 0 %}{{ k }}{{ f(k - 1) }}{% endif %}{% endmacro %}{{ "
    "f(3) }}{{ f(2) | trim | length }}",
    "{% filter upper %}abc {{ n }}{% endfilter %}",
    "{% if no %}a{% elif n == 7 %}b{% else %}c{% endif %}",
    "{% generation %}x{{ n }}{% endgeneration %}{# comment {{ n }} #}.", "{{ dict(a=1, b=2) }}",
    # whitespace
    "a\n{% if t %}\n  b\n{% endif %}\nc\n",
    "a\n  {% if t %}\n  b\n  {%- endif %}\nc",
    "a {%- if t -%} b {%- endif -%} c",
    "  {{ n }}  \n {{- n -}} \n x",
    "  {%+ if t %}x{% endif %}\n",
    "a\n{# c #}\nb{#- c -#} d",
    "x\n\n",
    "{% if t +%}\ny{% endif %}", "\n\n{% set x = 1 %}\n\n{{ x }}\n",
    # strings, literals
    "{{ \"a'b\" }} {{ 'a\"b' }} {{ 'é\\u4f60' }} {{ 'a' 'b' }} {{ True }} {{ None }} {{ "
    "0x10 if false else 1_000 }}",
    # errors
    "{{ raise_exception('No: ' ~ n) }}", "{{ missing.attr }}", "{{ missing + 1 }}", "{{ 'a' + 1 }}",
    "{{ nil.x }}|", "{{ nil.x.y }}", "{{ xs | nofilter }}", "{% for x in n %}{% endfor %}",
    "{% if %}",
    "{{ d.items( }}",
    "{% for x in xs %}",
    "{{ 1 / 0 }}",
    "{{ n() }}",
    "{{ '' | first }}|",
    "{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d %H:%M:%S %A %B %j %y %I %p') }}",
]

# ---------------------------------------------------------------------------------------------
# The environment


class Raised(jinja2.TemplateError):
    """What raise_exception throws, to tell a template's refusal from a failure."""


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def raise_exception(message):
    raise Raised(message)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def render(env, source, context):
    """{"text"} or, when it fails, {"raised": message} by the template or {"error": class}."""
    try:
        return {"text": env.from_string(source).render(**context)}
    except Raised as e:
        return {"raised": e.message}
    except Exception as e:  # every failure is an answer here
        return {"error": type(e).__name__}


def template_cases(env):
    for path in sorted(TEMPLATES.glob("*.jinja")):
        source = path.read_text()
        for name, c in CONVERSATIONS.items():
            for prompt in (True, False) if name in BOTH_WAYS else (True,):
                context = dict(c["kwargs"], messages=c["messages"], tools=c["tools"],
                               documents=None, add_generation_prompt=prompt,
                               bos_token=c["bos_token"], eos_token=c["eos_token"])
                # A template may change a list in place: each render gets its own copy.
                yield {"template": path.name, "conversation": name,
                       "add_generation_prompt": prompt,
                       **render(env, source, json.loads(json.dumps(context)))}


def lines(items):
    return ",\n".join(json.dumps(item, ensure_ascii=False) for item in items)


def main():
    env = environment()
    cases = list(template_cases(env))
    snippets = [{"source": s, **render(env, s, json.loads(json.dumps(CONTEXT)))} for s in SNIPPETS]
    conversations = ",\n".join(f"{json.dumps(name)}: {json.dumps(c, ensure_ascii=False)}"
                               for name, c in CONVERSATIONS.items())
    OUT.write_text(f'{{"now": "{NOW.isoformat()}",\n"conversations": {{\n{conversations}}},\n'
                   f'"cases": [\n{lines(cases)}],\n'
                   f'"context": {json.dumps(CONTEXT, ensure_ascii=False)},\n'
                   f'"snippets": [\n{lines(snippets)}]}}\n')
    json.loads(OUT.read_text())
    print(f"{len(cases)} renders, {sum('raised' in c for c in cases)} refused, "
          f"{sum('error' in c for c in cases)} failed; {len(snippets)} snippets; "
          f"{OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()

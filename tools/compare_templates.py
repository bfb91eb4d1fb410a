#!/usr/bin/env python3
"""Compares Comet's templates with Python's jinja2 on random templates: expressions of every operator,
filter, test and method, statements around them, and white space control. Prints what differs, at
most --show of them, and how many were equal.

usage: pip install jinja2; tools/compare_templates.py BUILD_DIR [--random N] [--seed S] [--show N]
BUILD_DIR holds libcomet_text.a and libcomet_base.a.
"""

import argparse
import collections
import json
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import warnings

import template_oracle

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECONDS_PER_TEMPLATE = 3
MAX_INTEGER = 2**63 - 1

VARIABLES = {
    "s": "Hello, wörld", "empty": "", "t": "  two words\n", "u": "ß ǆ İ Σας ﬁ", "n": 7, "z": 0, "f": 2.5, "neg": -3,
    "yes": True, "no": False, "nil": None, "l": [3, 1, 2], "words": ["b", "A", "c", "a"], "mixed": [1, "x", None, [2], {"k": 1}],
    "d": {"b": 1, "a": "two", "items": [1], "C": None}, "people": [
        {"name": "Bo", "age": 3, "tags": ["x"]}, {"name": "al", "age": 3, "tags": []}, {"name": "Cy", "tags": ["y", "z"]}],
    "messages": [{"role": "user", "content": "Hi 'there'"}, {"role": "assistant", "content": "\"Yes\"\n"}], "nested": {"x": {"y": [{"z": "deep"}]}},
}
STRINGS = ["''", "'a'", "'Hello World'", "\"it's\"", "'\\n\\t'", "'äÖ日🙂'", "' x '", "'a,b,,c'", "'%s'", "'12'", "'1.5'", "'<tag>'", "'UP low'", "'\\u00e9\\x41'"]
NUMBERS = ["0", "1", "2", "-1", "3", "10", "7", "1.5", "0.1", "-2.5", "1e3", "1_000", "0x1f", "100000", "1e16", "1e-7"]
LISTS = ["[]", "[1, 2, 3]", "['a', 'b']", "l", "words", "(1, 'x')", "()", "[true, none]", "range(4)", "range(5, 0, -2)", "mixed"]
DICTS = ["{}", "{'a': 1}", "{'b': [1], 'a': {'c': 'd'}}", "d", "nested", "{1: 2, none: 3, true: 4}", "dict(a=1, b='x')"]
NAMES = list(VARIABLES) + ["missing", "loop"]
STRING_FILTERS = ["upper", "lower", "title", "capitalize", "trim", "trim('a ')", "length", "replace('l', 'L')", "replace('', '-')", "replace('a', 'b', 1)",
                  "string", "list", "first", "last", "reverse", "int", "int(5)", "float", "float(1.5)", "tojson", "default('x')", "default('x', true)",
                  "d('y')", "indent", "indent(2, true)", "indent('>> ')", "indent(1, blank=true)", "center(12)", "truncate(5)", "truncate(5, true)",
                  "truncate(4, false, '..', 0)", "join('-')", "sort | join", "unique | join", "batch(2) | list", "int(base=16)", "wordcount",
                  "tojson(ensure_ascii=true)", "format(1)", "count", "min", "max"]
LIST_FILTERS = ["length", "first", "last", "join", "join(', ')", "list", "sort", "sort(reverse=true)", "sort(case_sensitive=true)", "unique | list",
                "reverse | list", "tojson", "tojson(indent=2)", "tojson(separators=(',', ':'))", "map('string') | list", "map('upper') | list", "map('default', 1) | list",
                "select | list", "reject | list", "select('string') | list", "select('number') | list", "reject('none') | list", "select('odd') | list",
                "select('gt', 1) | list", "select('in', [1, 'a']) | list", "select('equalto', 'a') | list", "sum", "sum(start=10)", "min", "max", "batch(2) | list",
                "batch(2, 'f') | list", "string", "default([])", "first | default('none')", "select('defined') | first", "map('tojson') | join(';')"]
PEOPLE_FILTERS = ["map(attribute='name') | list", "map(attribute='age', default=0) | list", "map(attribute='tags.0') | list", "selectattr('age') | list",
                  "selectattr('age', 'defined') | map(attribute='name') | join(',')", "rejectattr('tags') | list | length", "selectattr('name', 'equalto', 'Bo') | first",
                  "sort(attribute='name') | map(attribute='name') | list", "sort(attribute='age') | list", "sum(attribute='age')", "unique(attribute='age') | list", "join(', ', attribute='name')",
                  "selectattr('tags', 'sequence') | list | length", "rejectattr('age', 'undefined') | list | tojson", "max(attribute='name')", "sort(attribute='tags,name') | list"]
DICT_FILTERS = ["length", "list", "items | list", "dictsort", "dictsort(by='value')", "dictsort(reverse=true)", "dictsort(true)", "tojson", "tojson(indent=1)", "tojson(sort_keys=true)",
                "string", "join(',')", "first", "default('x')", "map('upper') | list", "last", "attr('keys')", "attr('a')", "sort"]
NUMBER_FILTERS = ["abs", "round", "round(1)", "round(2, 'floor')", "round(0, 'ceil') | int", "int", "float", "string", "tojson", "default(4)", "default(4, true)", "round(-1)", "length", "upper"]
STRING_METHODS = ["strip()", "strip('H a')", "lstrip()", "rstrip('\\n')", "split()", "split(',')", "split(',', 1)", "split('l')[-1]", "rsplit(' ', 1)", "splitlines()", "startswith('H')",
                  "endswith(('d', 'a'))", "upper()", "lower()", "title()", "capitalize()", "swapcase()", "replace('l', '')", "replace('l', 'LL', 1)", "find('l')", "find('l', 4)", "rfind('l')",
                  "count('l')", "count('')", "join(['x', 'y'])", "isdigit()", "isalpha()", "isupper()", "islower()", "isspace()", "isalnum()", "format(1)", "zfill(8)", "ljust(9, '*')", "rjust(15)",
                  "center(14)", "partition(' ')", "rpartition('l')", "removeprefix('He')", "removesuffix('d')", "index('l')", "splitlines(true)", "startswith('l', 2)"]
DICT_METHODS = ["items()", "keys()", "values()", "get('a')", "get('q')", "get('q', 'dflt')", "keys() | list", "items() | list", "get('x', {}).get('y')", "values() | list", "copy()"]
LIST_METHODS = ["count(1)", "index(1)", "append(1)", "pop()", "copy()"]
TESTS = ["defined", "undefined", "none", "string", "number", "integer", "float", "mapping", "iterable", "sequence", "boolean", "true", "false", "odd", "even", "divisibleby(2)", "divisibleby 3",
         "equalto(1)", "eq('a')", "ne(1)", "in([1, 'a'])", "in 'abc'", "gt(1)", "lt 2", "ge(0)", "le(1)", "sameas(none)", "sameas(true)", "upper", "lower", "callable", "filter", "test", "escaped"]
FORMATS = ["'%s-%s' % (s, n)", "'%d|%5d|%-5d|%05d' % (n, n, n, n)", "'%.2f %5.1f' % (f, f)", "'%r' % s", "'%x %X %o' % (255, 255, 8)", "'%(a)s' % {'a': 1}", "'%s' % l", "'%%'% ()", "'%5s|%-5s|' % ('a', 'b')",
           "'{} {}'.format(s, n)", "'{0} {1} {0}'.format(n, f)", "'{x}'.format(x=s)", "'{:>8}|{:<4}|{:^7}'.format('a', 'b', 'c')", "'{:05d} {:+d} {:x}'.format(n, n, 255)", "'{:.3f} {:8.2f}'.format(f, f)",
           "'{0[a]} {0[b]}'.format(d)", "'{!r} {!s}'.format(s, s)", "'{{}}'.format()", "'{:*^9}'.format(s)", "'%+d % d' % (n, n)", "'%e' % f", "'%g' % f", "'%s' % missing", "'{:d}'.format(s)", "'%d' % s", "'%c' % 65"]


class Generator:
    def __init__(self, rng):
        self.rng = rng

    def pick(self, *groups):
        return self.rng.choice(self.rng.choice(groups))

    def text(self, depth):
        r = self.rng.random()
        if depth <= 0 or r < 0.35:
            return self.pick(STRINGS, ["s", "t", "u", "empty", "words[0]", "messages[0].content", "messages[-1]['role']"])
        if r < 0.5:
            return f"({self.text(depth - 1)} {self.rng.choice(['+', '~'])} {self.text(depth - 1)})"
        if r < 0.62:
            return f"{self.text(depth - 1)}.{self.rng.choice(STRING_METHODS)}"
        if r < 0.74:
            return f"({self.text(depth - 1)} | {self.rng.choice(STRING_FILTERS)})"
        if r < 0.82:
            return f"{self.text(depth - 1)}[{self.slice()}]"
        if r < 0.88:
            return self.rng.choice(FORMATS)
        if r < 0.94:
            return f"({self.text(depth - 1)} * {self.rng.randint(-1, 3)})"
        return f"({self.text(depth - 1)} if {self.any(depth - 1)}{' else ' + self.text(depth - 1) if self.rng.random() < 0.7 else ''})"

    def slice(self):
        def part():
            return self.rng.choice(["", "", "0", "1", "2", "-1", "-2", "10", "none"])

        return self.rng.choice([f"{part()}:{part()}", f"{part()}:{part()}:{self.rng.choice(['1', '2', '-1', '-2', ''])}", "0", "-1", "1"])

    def number(self, depth):
        r = self.rng.random()
        if depth <= 0 or r < 0.4:
            return self.pick(NUMBERS, ["n", "z", "f", "neg", "yes", "no"])
        if r < 0.75:
            op = self.rng.choice(["+", "-", "*", "/", "//", "%", "**"])
            left = self.number(depth - 1)
            return f"({left.lstrip('-') if op == '**' else left} {op} {self.number(depth - 1)})"
        if r < 0.85:
            return f"({self.number(depth - 1)} | {self.rng.choice(NUMBER_FILTERS)})"
        if r < 0.92:
            return f"{self.rng.choice(['-', '+', ''])}{self.number(depth - 1)}"
        return f"({self.sequence(depth - 1)} | length)"

    def sequence(self, depth):
        r = self.rng.random()
        if depth <= 0 or r < 0.35:
            return self.rng.choice(LISTS)
        if r < 0.55:
            return f"({self.sequence(depth - 1)} | {self.rng.choice(LIST_FILTERS)})"
        if r < 0.65:
            return f"(people | {self.rng.choice(PEOPLE_FILTERS)})"
        if r < 0.75:
            return f"{self.sequence(depth - 1)}[{self.slice()}]"
        if r < 0.82:
            return f"({self.sequence(depth - 1)} + {self.sequence(depth - 1)})"
        if r < 0.86:
            return f"({self.sequence(depth - 1)} * {self.rng.randint(0, 2)})"
        if r < 0.9:
            return f"{self.sequence(depth - 1)}.{self.rng.choice(LIST_METHODS)}"
        return f"[{', '.join(self.any(depth - 1) for _ in range(self.rng.randint(0, 3)))}]"

    def mapping(self, depth):
        r = self.rng.random()
        if depth <= 0 or r < 0.4:
            return self.rng.choice(DICTS)
        if r < 0.6:
            return f"({self.mapping(depth - 1)} | {self.rng.choice(DICT_FILTERS)})"
        if r < 0.8:
            return f"{self.mapping(depth - 1)}.{self.rng.choice(DICT_METHODS)}"
        if r < 0.9:
            return f"{self.mapping(depth - 1)}{self.rng.choice(['.a', '.b', '.x', '.items', '[1]', '.q', '.q.r'])}".replace("}[", "} [")
        return f"{{{self.rng.choice(STRINGS)}: {self.any(depth - 1)}, 'k': {self.any(depth - 1)}}}"

    def truth(self, depth):
        r = self.rng.random()
        if r < 0.35:
            return f"({self.any(depth - 1)} is {self.rng.choice(['', 'not '])}{self.rng.choice(TESTS)})"
        if r < 0.6:
            return f"({self.any(depth - 1)} {self.rng.choice(['==', '!=', '<', '<=', '>', '>=', 'in', 'not in'])} {self.any(depth - 1)})"
        if r < 0.7:
            return f"({self.number(depth - 1)} < {self.number(depth - 1)} <= {self.number(depth - 1)})"
        if r < 0.85:
            return f"({self.any(depth - 1)} {self.rng.choice(['and', 'or'])} {self.any(depth - 1)})"
        return f"(not {self.any(depth - 1)})"

    def any(self, depth):
        if depth <= 0 and self.rng.random() < 0.3:
            return self.rng.choice(NAMES)
        return self.rng.choice([self.text, self.text, self.number, self.sequence, self.mapping, self.truth])(depth)

    def gap(self):
        return self.rng.choice(["", "", " ", "\n", "\n  ", " \n\n", "x", "x\n", "  y ", "\t"])

    def tag(self, body):
        return f"{{%{self.rng.choice(['', '', '-', '+'])} {body} {self.rng.choice(['', '', '-', '+'])}%}}"

    def output(self, depth):
        return f"{{{{{self.rng.choice(['', '', '-'])} {self.any(depth)} {self.rng.choice(['', '', '-'])}}}}}"

    def loop_part(self):
        return self.rng.choice([
            "{{ loop.index }}", "{{ loop.index0 }}{{ loop.revindex }}", "{{ loop.first }}", "{% if not loop.last %},{% endif %}", "{{ loop.length }}", "{{ loop.previtem }}",
            "{{ loop.nextitem }}", "{{ loop.cycle('p', 'q') }}", "{{ loop.changed(i) }}", "{{ loop.depth }}", "{% if loop.index == 2 %}{% break %}{% endif %}",
            "{% if loop.first %}{% continue %}{% endif %}", "{{ i }}", "{{ x }}", "{% set x = i %}", "{% set ns.v = i %}"])

    def statement(self, depth):
        r, gap, tag = self.rng.random(), self.gap, self.tag
        body = "".join(self.statement(depth - 1) if depth > 0 and self.rng.random() < 0.6 else gap() for _ in range(self.rng.randint(1, 3)))
        if r < 0.3:
            return gap() + self.output(2) + gap()
        if r < 0.42:
            middle = self.rng.choice(["", tag("else") + gap(), tag(f"elif {self.any(1)}") + gap() + tag("else") + gap()])
            return tag(f"if {self.any(1)}") + body + middle + tag("endif")
        if r < 0.6:
            condition = self.rng.choice(["", "", f" if {self.truth(1)}", " if i", " if loop.index"])
            target, source = self.rng.choice([("i", self.sequence(1)), ("i", self.text(1)), ("i", self.mapping(1)), ("i, j", f"({self.mapping(1)}).items()"), ("i", "people"), ("(i, j)", "[(1, 2), [3, 4]]")])
            end = self.rng.choice(["", tag("else") + gap()])
            return tag(f"for {target} in {source}{condition}") + body + "".join(self.loop_part() for _ in range(self.rng.randint(0, 3))) + end + tag("endfor")
        if r < 0.68:
            target = self.rng.choice(["x", "x", "ns.v", "x, ns.w"])
            value = self.any(2) if "," not in target else f"{self.any(1)}, {self.any(1)}"
            return tag(f"set {target} = {value}") + self.rng.choice(["", "{{ x }}", "{{ ns.v }}", "{{ s }}"])
        if r < 0.73:
            return tag(f"set x{self.rng.choice(['', ' | upper', ' | trim | length'])}") + body + tag("endset") + "[{{ x }}]"
        if r < 0.8:
            signature = self.rng.choice(["", "a", "a, b=2", "a=s, b=a"])
            inner = self.rng.choice(["", "{{ a }}", "{{ b }}", "{{ varargs }}", "{{ kwargs }}", "{{ caller() }}", "{{ x }}", "{{ caller is defined }}"])
            arguments = self.rng.choice(["", self.any(1), f"{self.any(0)}, {self.any(0)}", "b=1", "a=1, c=2", "*l", "**d", "1, 2, 3"])
            call = self.rng.choice([f"{{{{ m({arguments}) }}}}", "{% call m(" + arguments + ") %}c{{ x }}{% endcall %}", f"{{{{ [m({arguments})] }}}}", "{{ m }}", "{{ m.name }}"])
            return tag(f"macro m({signature})") + body + inner + tag("endmacro") + call
        if r < 0.84:
            return tag(f"filter {self.rng.choice(['upper', 'trim', 'indent(2, true)', 'replace(chr, x)', 'length'])}") + body + tag("endfilter")
        if r < 0.88:
            return tag(f"with x = {self.any(1)}, y = x") + "{{ y }}{{ x }}" + body + tag("endwith")
        if r < 0.91:
            return tag("generation") + body + "{{ x }}" + tag("endgeneration")
        if r < 0.94:
            return self.rng.choice(["{#- c -#}", "{# c #}", "{#+ c +#}", "{#--#}", "{% raw %} {{ x }} {% endraw %}", "{%- raw -%} \n{% x %}\n{%- endraw -%}\n", "{# a\n #}\n"])
        if r < 0.96:
            return "{% for i in [[1, [2, []]]] recursive %}{{ i }}{{ loop.depth }}{% if i is sequence %}{{ loop(i) }}{% endif %}{% endfor %}"
        return gap()

    def template(self):
        if self.rng.random() < 0.5:
            return f"{{{{ {self.any(self.rng.randint(1, 4))} }}}}"
        return "{% set ns = namespace(v=1) %}{% set x = 'X' %}" + "".join(self.gap() + self.statement(2) + self.gap() for _ in range(self.rng.randint(1, 4)))


class Timeout(Exception):
    pass


def raise_timeout(*_):
    raise Timeout


def expected(env, template):
    signal.setitimer(signal.ITIMER_REAL, SECONDS_PER_TEMPLATE)
    try:
        return template_oracle.render(env, template, VARIABLES)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


# What is not equal and is documented in src/comet/text/template/README.md: addresses in Python's texts
# of functions and generators, integers beyond 64 bits, complex numbers; and constant expressions that
# jinja2 folds by other rules than it runs (a slice of a number is undefined there).
INCOMPARABLE = re.compile(r"0x[0-9a-f]{6,}|<built-in|<bound method|<function|<Namespace|<LoopContext|<class |[0-9]j", re.IGNORECASE)


def is_beyond(text, error):
    return error is not None and re.search("64 bits|has no slices|never the key|no real number", error) or text is not None and any(len(d) > 19 or int(d) > MAX_INTEGER for d in re.findall(r"\d{19,}", text))


def compile_probe(build, folder):
    probe = folder / "probe"
    subprocess.run(["g++", "-std=c++20", "-O2", "-DFMT_HEADER_ONLY", f"-I{ROOT}/src", str(ROOT / "tools/template_probe.cpp"), "-o", str(probe),
                    str(build / "libcomet_text.a"), str(build / "libcomet_base.a"), "-lpthread"], check=True)
    return probe


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--random", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=20)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, raise_timeout)
    rng, env = random.Random(args.seed), template_oracle.environment()
    counts = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        probe = compile_probe(args.build, pathlib.Path(name))
        templates = [Generator(rng).template() for _ in range(args.random)]
        requests = "".join(json.dumps({"template": t, "variables": VARIABLES}) + "\n" for t in templates)
        answers = subprocess.run([str(probe)], input=requests.encode(), stdout=subprocess.PIPE, check=True).stdout.decode().splitlines()
    for template, line in zip(templates, answers, strict=True):
        got = json.loads(line)
        try:
            text, error = expected(env, template)
        except Timeout:
            counts["timeout in Python"] += 1
            continue
        if INCOMPARABLE.search(text or "") or is_beyond(text, got.get("error")):
            counts["incomparable"] += 1
        elif error is None and got.get("text") == text:
            counts["equal texts"] += 1
        elif error is not None and "error" in got:
            counts["errors in both"] += 1
        else:
            counts["DIFFERENT"] += 1
            if counts["DIFFERENT"] <= args.show:
                print(f"template {template!r}\n  want {error or text!r}\n  got  {got.get('error') or got.get('text')!r}\n")
    print(dict(counts))
    return 1 if counts["DIFFERENT"] else 0


if __name__ == "__main__":
    sys.exit(main())

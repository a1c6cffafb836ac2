#!/usr/bin/env python3
"""Writes expressions.json: what Python's Jinja2, configured as transformers configures it, renders for the templates in
expressions.txt (one a line, \\n as in a Python string). Needs jinja2 3.1.

Usage: expected.py < expressions.txt > expressions.json
"""
import datetime
import json
import sys

import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2024, 7, 5, 9, 8, 7)
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo", "tool_calls": [1]}]


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError("raised: " + str(message))


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation])
    env.filters["tojson"] = tojson
    env.globals.update(raise_exception=raise_exception, strftime_now=NOW.strftime)
    return env


def rendered(env, template, **variables):
    """Returns the text and the error, of which one is empty."""
    try:
        return env.from_string(template).render(**variables), ""
    except Exception as e:  # every failure counts, whatever its type
        return "", type(e).__name__ + ": " + str(e).split("\n")[0]


def main():
    env = environment()
    out = []
    for line in sys.stdin:
        template = line.rstrip("\n").replace("\\n", "\n")
        if not template:
            continue
        text, error = rendered(env, template, messages=MESSAGES, bos_token="<s>", eos_token="</s>", tools=None)
        out.append({"template": template, "error": error} if error else {"template": template, "text": text})
    json.dump(out, sys.stdout, indent=0, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()

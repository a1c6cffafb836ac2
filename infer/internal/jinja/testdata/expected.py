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
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError("raised: " + message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation])
env.filters["tojson"] = tojson
env.globals.update(raise_exception=raise_exception, strftime_now=NOW.strftime)
out = []
for line in sys.stdin:
    template = line.rstrip("\n").replace("\\n", "\n")
    if not template:
        continue
    row = {"template": template}
    try:
        row["text"] = env.from_string(template).render(messages=MESSAGES, bos_token="<s>", eos_token="</s>", tools=None)
    except Exception as e:  # every failure counts, whatever its type
        row["error"] = type(e).__name__ + ": " + str(e).split("\n")[0]
    out.append(row)
json.dump(out, sys.stdout, indent=0, ensure_ascii=False)
print()

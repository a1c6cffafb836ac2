#!/usr/bin/env python3
"""Facts about real chat templates: what Python's Jinja2 makes of them, for TestTemplates of infer/internal/jinja.

The templates themselves are not in this repository. To check all of them, gather those of the sources in templates.json and name
their folder in LATHE_TEMPLATES.

  templates.py gather FOLDER [OWNER/NAME=GITDIR ...] [OWNER/NAME@FILE.json ...]
      writes each template as FOLDER/SHA256.jinja, from the *.jinja files of git repositories and from JSON files of objects
      with a field template or chatTemplate, and where they are from to FOLDER/sources.json
  templates.py record FOLDER > infer/internal/jinja/testdata/templates.json
      renders each with each conversation of conversations.json, and those that name tools or documents with each of tools.json; a result is the first 16 digits of the text's SHA-256,
      "raised: " with a template's own reason, or "error"

Needs jinja2 3.1.
"""
import hashlib
import json
import pathlib
import re
import subprocess
import sys

TESTDATA = pathlib.Path(__file__).resolve().parent.parent / "infer/internal/jinja/testdata"
sys.path.insert(0, str(TESTDATA))

# Not templates of conversations.
OTHER = re.compile(r"snippets|Dockerfile|rerank|score|embed|/mock|capabilit|vlm2vec", re.I)


def gather(folder, sources):
    folder.mkdir(parents=True, exist_ok=True)
    known = {}

    def add(text, source):
        digest = hashlib.sha256(text).hexdigest()
        (folder / (digest + ".jinja")).write_bytes(text)
        known.setdefault(digest, source)

    for s in sources:
        if "@" in s:
            name, path = s.split("@", 1)
            for row in json.load(open(path)):
                text = row.get("template") or row.get("chatTemplate")
                if text:
                    add(text.encode(), name + "#" + row.get("name", ""))
            continue
        name, git = s.split("=", 1)
        run = lambda *a: subprocess.run(["git", "-C", git, *a], capture_output=True, check=True).stdout
        for path in run("ls-tree", "-r", "-z", "--name-only", "HEAD").decode().split("\0"):
            if path.endswith(".jinja") and not OTHER.search(path):
                add(run("show", "HEAD:" + path), name + ":" + path)
    json.dump(known, open(folder / "sources.json", "w"), indent=0, sort_keys=True)


def record(folder):
    from expected import environment, rendered

    env = environment()
    conversations = json.load(open(TESTDATA / "conversations.json"))
    with_tools = json.load(open(TESTDATA / "tools.json"))

    def result(text, **variables):
        out, error = rendered(env, text, bos_token="<s>", eos_token="</s>", add_generation_prompt=True, **variables)
        if error.startswith("TemplateError: raised: "):
            return error.removeprefix("TemplateError: ")
        return "error" if error else hashlib.sha256(out.encode()).hexdigest()[:16]

    rows = []
    for digest, source in sorted(json.load(open(folder / "sources.json")).items(), key=lambda p: p[1]):
        text = (folder / (digest + ".jinja")).read_bytes().decode()
        results = [result(text, messages=messages, tools=None, documents=None) for messages in conversations]
        if any(r != "error" and not r.startswith("raised") for r in results):  # others are not for such conversations
            row = {"source": source, "sha256": digest, "results": results}
            if re.search("tool|documents", text):
                row["tools"] = [result(text, **c) for c in with_tools]
            rows.append(row)
    json.dump(rows, sys.stdout, indent=0, ensure_ascii=False)
    print()


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ("gather", "record"):
        sys.exit(__doc__)
    if sys.argv[1] == "gather":
        gather(pathlib.Path(sys.argv[2]), sys.argv[3:])
    else:
        record(pathlib.Path(sys.argv[2]))

#!/usr/bin/env python3
"""Makes the archive of a release: the program, XLA's plug-in, the default texts, manual pages, completions, licences, checksums.

The archive is unpacked anywhere and runs from there: the program finds share/lathe beside its own folder, whose layout is that of
the cache. Two runs on the same input write the same bytes.

Usage: dist.py CACHE PROGRAM FOLDER [--model]
"""
import glob
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile

EPOCH = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))


def fail(text):
    print("lathe dist: " + text, file=sys.stderr)
    sys.exit(1)


def output(*command):
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, check=True, env=dict(os.environ, TERM="dumb")).stdout
    except (OSError, subprocess.CalledProcessError) as err:
        fail("%s: %s" % (" ".join(command), err))


def manual(program, temporary):
    """Returns the manual pages by name."""
    output(program, "man", "-o", temporary)
    return {os.path.basename(path): open(path, "rb").read() for path in sorted(glob.glob(os.path.join(temporary, "*.1")))}


def licences(program):
    """Returns the licences of the Go modules that the program is built from, by path."""
    found = {}
    try:
        lines = subprocess.run(["go", "version", "-m", program], stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
        cache = subprocess.run(["go", "env", "GOMODCACHE"], stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
        root = subprocess.run(["go", "env", "GOROOT"], stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as err:
        fail("go is needed to list the modules of the program: %s" % err)
    for name in glob.glob(os.path.join(root, "LICENSE")):
        found["go/LICENSE"] = open(name, "rb").read()
    for line in lines:
        fields = line.split()
        if len(fields) < 3 or fields[0] != "dep":
            continue
        module, version = fields[1], fields[2]
        escaped = "".join("!" + c.lower() if c.isupper() else c for c in module)
        folder = os.path.join(cache, "%s@%s" % (escaped, version))
        texts = [path for kind in ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*") for path in sorted(glob.glob(os.path.join(folder, kind)))]
        if not texts:
            fail("%s has no licence in %s" % (module, folder))
        for path in texts:
            if os.path.isfile(path):
                found["%s/%s" % (module, os.path.basename(path))] = open(path, "rb").read()
    return found


def main():
    arguments = [a for a in sys.argv[1:] if a != "--model"]
    if len(arguments) != 3:
        fail("usage: dist.py CACHE PROGRAM FOLDER [--model]")
    cache, program, folder = (os.path.abspath(a) for a in arguments)
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    versions = json.loads(output(program, "version", "--json"))
    name = "lathe-%s-%s" % (versions["version"], versions["platform"].replace("/", "-"))
    temporary = os.path.join(folder, "man")

    files = {"bin/lathe": (open(program, "rb").read(), 0o755)}

    def add(path, data):
        files[path] = (data, 0o644)

    def copy(source, path, needed=True):
        if os.path.exists(source):
            add(path, open(source, "rb").read())
        elif needed:
            fail("%s is missing: run make setup" % source)
        else:
            print("lathe dist: without %s" % source, file=sys.stderr)

    copy(os.path.join(cache, "xla", "pjrt_c_api_cpu_plugin.so"), "share/lathe/xla/pjrt_c_api_cpu_plugin.so", needed=versions["platform"] == "linux/amd64")
    for stamp in sorted(glob.glob(os.path.join(cache, "stamps", "*pjrt-cpu-*"))):
        copy(stamp, "share/lathe/stamps/" + os.path.basename(stamp))
    for text in ("wiki.utf8", "c4.utf8", "code.utf8"):
        copy(os.path.join(cache, "text", text), "share/lathe/text/" + text)
    if "--model" in sys.argv[1:]:
        model = "SmolLM2-135M-Instruct.Q4_1.gguf"
        copy(os.path.join(cache, "models", model), "share/lathe/models/" + model)
    for page, data in manual(program, temporary).items():
        add("share/man/man1/" + page, data)
    for shell, path in (("bash", "bash-completion/completions/lathe"), ("zsh", "zsh/site-functions/_lathe"), ("fish", "fish/vendor_completions.d/lathe.fish")):
        add("share/" + path, output(program, "completion", shell))
    for doc in ("README.md", "CHANGELOG.md", "LICENSE"):
        copy(os.path.join(here, doc), "share/doc/lathe/" + doc)
    copy(os.path.join(here, "LICENSE"), "LICENSE")
    for path, data in licences(program).items():
        add("share/doc/lathe/licenses/" + path, data)
    sums = "".join("%s  %s\n" % (hashlib.sha256(data).hexdigest(), path) for path, (data, _) in sorted(files.items()))
    add("SHA256SUMS", sums.encode())

    os.makedirs(folder, exist_ok=True)
    archive = os.path.join(folder, name + ".tar.gz")
    partial = archive + ".part"
    with open(partial, "wb") as raw, gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=EPOCH) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path, (data, mode) in sorted(files.items()):
                entry = tarfile.TarInfo(name + "/" + path)
                entry.size, entry.mode, entry.mtime = len(data), mode, EPOCH
                tar.addfile(entry, io.BytesIO(data))
    os.replace(partial, archive)
    digest = hashlib.sha256()
    with open(archive, "rb") as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    with open(archive + ".sha256", "w") as f:
        f.write("%s  %s\n" % (digest.hexdigest(), os.path.basename(archive)))
    for page in glob.glob(os.path.join(temporary, "*.1")):
        os.unlink(page)
    os.rmdir(temporary)
    print(archive)


main()

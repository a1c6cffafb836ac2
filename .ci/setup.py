#!/usr/bin/env python3
"""Fetches what lathe needs to build and to open on its default model.

Reads assets.json beside this file: PyPI wheels by name, version and SHA-256, and one Go module of which two headers are
used. Everything lands in the cache folder given as the first argument. A file that is there is not fetched again; each
file is written under a temporary name and renamed, so an interrupted run leaves nothing half made.

Usage: setup.py CACHE [headers] [model] [text] [xla] [cmake] [cuda] [xla-cuda] [stock]   (default: the first four)
"""
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile


def say(text):
    print("lathe setup: " + text, file=sys.stderr, flush=True)


def fail(text):
    say(text)
    sys.exit(1)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while chunk := f.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def stamp(cache, package):
    return os.path.join(cache, "stamps", "%s-%s" % (package["name"], package["version"]))


def have(cache, package):
    if not os.path.exists(stamp(cache, package)):
        return False
    return all(os.path.exists(os.path.join(cache, dst)) for dst in package["unpack"].values())


def install(src, dst, mode=0o644):
    """Copies an open file to dst under a temporary name, then renames it there."""
    os.makedirs(os.path.dirname(dst), exist_ok=True)
    fd, tmp = tempfile.mkstemp(dir=os.path.dirname(dst), prefix=".setup-")
    try:
        with os.fdopen(fd, "wb") as out:
            shutil.copyfileobj(src, out, 1 << 20)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(tmp, mode)
        os.replace(tmp, dst)
    except BaseException:
        os.unlink(tmp)
        raise


def fetch(cache, package):
    want = "%s==%s" % (package["name"], package["version"])
    say("fetching %s" % want)
    with tempfile.TemporaryDirectory(dir=cache) as tmp:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--only-binary=:all:", "--dest", tmp, want]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        except OSError as err:
            return "cannot run pip: %s" % err
        wheels = [os.path.join(tmp, name) for name in os.listdir(tmp) if name.endswith(".whl")]
        if done.returncode != 0 or len(wheels) != 1:
            if "No module named pip" in done.stdout:
                return "this Python has no pip: install it (Debian: apt install python3-pip) and run make again"
            last = (done.stdout.strip().splitlines() or ["no output"])[-1]
            return "pip could not fetch %s (%s): check the network or pip's index setting and run make again" % (want, last)
        if sha256(wheels[0]) != package["sha256"]:
            return "%s does not match its pinned SHA-256: refusing to use it" % os.path.basename(wheels[0])
        with zipfile.ZipFile(wheels[0]) as wheel:
            names = wheel.namelist()
            for src, dst in package["unpack"].items():
                if src.endswith("/"):
                    for name in names:
                        if name.startswith(src) and not name.endswith("/") and ".." not in name:
                            programs = wheel.getinfo(name).external_attr >> 16 & 0o111
                            with wheel.open(name) as f:
                                install(f, os.path.join(cache, dst, name[len(src):]), 0o755 if programs else 0o644)
                else:
                    with wheel.open(src) as f:
                        install(f, os.path.join(cache, dst))
    os.makedirs(os.path.dirname(stamp(cache, package)), exist_ok=True)
    with open(stamp(cache, package), "w") as f:
        f.write(package["sha256"] + "\n")
    return None


def go_headers(cache, spec):
    if all(os.path.exists(os.path.join(cache, dst)) for dst in spec["link"].values()):
        return
    want = "%s@%s" % (spec["module"], spec["version"])
    say("fetching headers of %s" % want)
    env = dict(os.environ, GOFLAGS="-mod=mod")
    with tempfile.TemporaryDirectory() as empty:  # outside the module, so that go.mod stays as it is
        try:
            done = subprocess.run(["go", "mod", "download", "-json", want], cwd=empty, env=env,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        except OSError:
            fail("go was not found: install Go 1.26 or later and run make again")
    try:
        folder = json.loads(done.stdout)["Dir"]
    except (ValueError, KeyError):
        fail("go could not fetch %s: check GOPROXY and the network\n%s" % (want, done.stdout.strip()))
    for src, dst in spec["link"].items():
        with open(os.path.join(folder, src), "rb") as f:
            install(f, os.path.join(cache, dst))


def main():
    if sys.version_info < (3, 8):
        fail("Python 3.8 or later is needed")
    if len(sys.argv) < 2:
        fail("usage: setup.py CACHE [headers] [model] [text] [xla] [cmake] [cuda] [xla-cuda] [stock]")
    cache, wanted = os.path.abspath(sys.argv[1]), sys.argv[2:] or ["headers", "model", "text", "xla"]
    try:
        os.makedirs(cache, exist_ok=True)
    except OSError as err:
        fail("cannot make the cache folder %s: %s (set LATHE_CACHE to a folder that can be written)" % (cache, err.strerror))
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "assets.json")) as f:
        assets = json.load(f)
    here = "%s/%s" % (platform.system().lower(), platform.machine())
    for package in assets["packages"]:
        if package["for"] not in wanted or have(cache, package):
            continue
        if package.get("platform", here) != here:
            say("%s is not made for %s: going on without it" % (package["name"], here))
            continue
        try:
            problem = fetch(cache, package)
        except OSError as err:
            problem = "cannot write %s to %s: %s" % (package["name"], cache, err.strerror)
        if problem and package.get("optional"):
            say(problem)
            say("going on without %s (%s)" % (package["name"], package.get("without", "slower maths")))
        elif problem:
            fail(problem)
    if "headers" in wanted:
        go_headers(cache, assets["go_module_headers"])


main()

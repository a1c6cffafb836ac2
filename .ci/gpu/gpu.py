#!/usr/bin/env python3
"""Builds ggml's GPU library from the sources of the Go module that lathe's llama.cpp is of.

Usage: gpu.py CACHE build [vulkan|cuda]   chooses where nothing is named, prints why, and builds into
                                          CACHE/gpu/ollama-VERSION/<vulkan|cuda-smNN>/lib/ollama
       gpu.py CACHE test                  builds Vulkan, finds a software device, and writes the environment that uses both;
                                          exits with 77, and a line that says why, where one of the two cannot be had
       gpu.py CACHE check                 compiles two files of the CUDA library for compute capability 9.0

A library that is there and of the same sources, patches and headers is not built again, and a build that was interrupted continues.
Nothing here needs root: packages of the distribution that are not installed are unpacked into the cache where apt-get can download them.
"""
import ctypes.util
import fcntl
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MODULE = "github.com/ollama/ollama"
GGML = "ml/backend/ggml/ggml"
PACKAGES = {  # what to install by the command that does it
    "apt-get": "apt-get install --no-install-recommends glslc libvulkan-dev",
    "dnf": "dnf install glslc vulkan-headers vulkan-loader-devel",
    "pacman": "pacman -S shaderc vulkan-headers vulkan-icd-loader",
    "zypper": "zypper install shaderc vulkan-headers vulkan-devel",
    "apk": "apk add shaderc vulkan-headers vulkan-loader-dev",
}
SKIPPED = 77
RECIPE = 1  # grows with every change of how libraries are built: those in the cache are then built again


def say(text):
    print("lathe gpu: " + text, file=sys.stderr, flush=True)


def fail(text):
    say(text)
    sys.exit(1)


class Unavailable(Exception):
    """What is missing, and what provides it."""


def module():
    """Returns the version and the folder of the module."""
    done = subprocess.run(["go", "list", "-m", "-f", "{{.Version}} {{.Dir}}", MODULE], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    fields = done.stdout.split(maxsplit=1)
    if done.returncode != 0 or len(fields) < 2:  # not downloaded
        subprocess.run(["go", "mod", "download", MODULE], cwd=ROOT)
        done = subprocess.run(["go", "list", "-m", "-f", "{{.Version}} {{.Dir}}", MODULE], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        fields = done.stdout.split(maxsplit=1)
    if len(fields) < 2:
        fail("go has no %s: check GOPROXY and the network" % MODULE)
    return fields[0], fields[1].strip()


def digest():
    """Returns a hash of patches, headers and recipe."""
    h = hashlib.sha256(b"%d" % RECIPE)
    for path in sorted(glob.glob(os.path.join(HERE, "patches", "*")) + glob.glob(os.path.join(HERE, "include", "*", "*"))):
        h.update(os.path.relpath(path, HERE).encode() + b"\0")
        with open(path, "rb") as f:
            h.update(f.read() + b"\0")
    return h.hexdigest()[:16]


def patch(tree, path):
    """Applies a unified diff exactly: every hunk must be found once, near no other place and with no line changed."""
    with open(path) as f:
        lines = f.read().split("\n")
    name, hunks = None, {}
    for line in lines:
        if line.startswith("--- "):
            continue
        if line.startswith("+++ b/"):
            name = line[6:]
            hunks[name] = []
        elif line.startswith("@@") and name:
            hunks[name].append(([], []))
        elif name and hunks[name] and line[:1] in (" ", "+", "-"):
            old, new = hunks[name][-1]
            if line[0] != "+":
                old.append(line[1:])
            if line[0] != "-":
                new.append(line[1:])
    if not hunks:
        fail("%s has no hunk" % path)
    for name, changes in hunks.items():
        target = os.path.join(tree, name)
        text = ""
        if all(not old for old, _ in changes):
            if os.path.exists(target):
                fail("%s does not apply: %s is there already" % (os.path.basename(path), name))
            os.makedirs(os.path.dirname(target), exist_ok=True)
        else:
            with open(target) as f:
                text = f.read()
        for old, new in changes:
            before, after = "".join(x + "\n" for x in old), "".join(x + "\n" for x in new)
            if old and text.count(before) != 1:
                fail("%s does not apply: %s has this %d times:\n%s" % (os.path.basename(path), name, text.count(before), before))
            text = text.replace(before, after) if old else text + after
        with open(target, "w") as f:
            f.write(text)


def sources(folder, tree):
    """Copies what the libraries are built from, patched."""
    shutil.rmtree(tree, ignore_errors=True)
    os.makedirs(os.path.join(tree, os.path.dirname(GGML)))
    shutil.copy(os.path.join(folder, "CMakeLists.txt"), tree)
    shutil.copytree(os.path.join(folder, GGML), os.path.join(tree, GGML))
    subprocess.run(["chmod", "-R", "u+w", tree], check=True)
    for path in sorted(glob.glob(os.path.join(HERE, "patches", "*.patch"))):
        patch(tree, path)


INTERVAL = 30  # seconds between two lines of progress
STEPS = re.compile(r"\[ *(\d+(?:/\d+|%))\]")  # as Ninja and make write them


def run(command, env=None, log=None):
    """Runs a command; its output goes to a log, whose end is printed if it fails. The progress of a build is printed."""
    with open(log, "a", buffering=1) as out:  # so that it can be followed
        out.write("$ %s\n" % " ".join(command))
        began = shown = time.time()
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        try:
            for line in process.stdout:
                out.write(line)
                step = STEPS.match(line)
                if step and time.time() - shown >= INTERVAL:
                    shown = time.time()
                    say("%s after %d minutes" % (step.group(1).replace("/", " of ") + (" files" if "/" in step.group(1) else ""), (shown - began) / 60))
            status = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if status != 0:
        with open(log, errors="replace") as f:
            say("".join(f.readlines()[-25:]).rstrip())
        fail("%s failed (log: %s)" % (os.path.basename(command[0]), log))


def download(wanted, options, debs):
    """Downloads packages, installed or not, with what they depend on and is not installed, into a folder, and returns their files."""
    needed = subprocess.run(["apt-get", *options, "-s", "--no-install-recommends", "install", *wanted], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if needed.returncode != 0:
        raise Unavailable("apt-get finds no %s (%s)" % (", ".join(wanted), (needed.stderr.strip().splitlines() or ["no reason"])[-1]))
    names = re.findall(r"^Inst (\S+)(?: \[[^\]]*\])? \((\S+)", needed.stdout, re.M)
    have = subprocess.run(["dpkg-query", "-W", "-f", "${Package}\n"], stdout=subprocess.PIPE, text=True).stdout.split()
    # An installed package is used as it is, in another version too, unless it was asked for: then the prefix has all of them.
    fetch = ["%s=%s" % (n, v) for n, v in names if n in wanted or n.split(":")[0] not in have]
    fetch += sorted(set(wanted) - {n for n, _ in names})
    say("fetching %d packages without installing them: %s" % (len(fetch), " ".join(fetch)))
    got = subprocess.run(["apt-get", *options, "-qq", "download", *fetch], cwd=debs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    found = glob.glob(os.path.join(debs, "*.deb"))
    if got.returncode != 0 or not found:
        raise Unavailable("apt-get could not download %s: %s" % (", ".join(wanted), (got.stdout.strip().splitlines() or ["no reason"])[-1]))
    return found


def packages(cache, wanted):
    """Unpacks packages of the distribution, with what they depend on and is not installed, into the cache. Returns the prefix."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise Unavailable("there is no apt-get to fetch them without root")
    release = "unknown"
    for line in open("/etc/os-release"):
        if line.startswith(("ID=", "VERSION_ID=")):
            release += "-" + line.split("=", 1)[1].strip().strip('"')
    folder = os.path.join(cache, "gpu", "packages", release.replace("unknown-", ""))
    done = os.path.join(folder, "stamp-" + hashlib.sha256(" ".join(["all", *wanted]).encode()).hexdigest()[:12])
    prefix = os.path.join(folder, "usr")
    if os.path.exists(done):
        return prefix
    debs, lists = os.path.join(folder, "debs"), os.path.join(folder, "lists")
    os.makedirs(debs, exist_ok=True)
    found = None
    if glob.glob("/var/lib/apt/lists/*_Packages*"):
        try:
            found = download(wanted, [], debs)
        except Unavailable:
            pass  # old lists name versions that are no longer offered
    if not found:
        os.makedirs(os.path.join(lists, "partial"), exist_ok=True)
        options = ["-oDir::State::Lists=" + lists]
        say("fetching the distribution's lists of packages")
        subprocess.run(["apt-get", *options, "-qq", "update"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            found = download(wanted, options, debs)
        finally:
            shutil.rmtree(lists, ignore_errors=True)  # three times as large as the packages
    for deb in found:
        subprocess.run(["dpkg-deb", "-x", deb, folder], check=True)
    shutil.rmtree(debs)
    open(done, "w").close()
    return prefix


def library_folder(prefix):
    for folder in sorted(glob.glob(os.path.join(prefix, "lib", "*-linux-gnu*"))) + [os.path.join(prefix, "lib64"), os.path.join(prefix, "lib")]:
        if os.path.exists(os.path.join(folder, "libvulkan.so")):
            return folder
    return None


def vulkan_tools(cache):
    """Returns the prefix that has glslc, the headers and the loader of Vulkan."""
    for prefix in (os.environ.get("VULKAN_SDK"), "/usr", "/usr/local"):
        if prefix and library_folder(prefix) and os.path.exists(os.path.join(prefix, "include", "vulkan", "vulkan.hpp")) and \
                os.path.exists(os.path.join(prefix, "bin", "glslc")):
            return prefix
    try:
        return packages(cache, ["glslc", "libshaderc1", "libvulkan1", "libvulkan-dev"])
    except Unavailable as missing:
        install = [command for tool, command in PACKAGES.items() if shutil.which(tool)] or list(PACKAGES.values())
        raise Unavailable("Vulkan's shader compiler and headers are not installed, and %s. Install them: %s" % (missing, " or ".join(install)))


def cmake(cache):
    """Returns the path of cmake, from pip where the system has none."""
    if shutil.which("cmake"):
        return "cmake"
    subprocess.run([sys.executable, os.path.join(ROOT, ".ci", "setup.py"), cache, "cmake"], check=False)
    path = os.path.join(cache, "cmake", "bin", "cmake")
    if not os.path.exists(path):
        raise Unavailable("cmake was not found and pip has none for this machine: install cmake (Debian: apt install cmake)")
    return path


def generator():
    return ["-G", "Ninja"] if shutil.which("ninja") else ["-G", "Unix Makefiles"]


def ready(folder, wanted, name="lathe.json"):
    try:
        with open(os.path.join(folder, name)) as f:
            have = json.load(f)
    except (OSError, ValueError):
        return False
    return all(have.get(k) == v for k, v in wanted.items())


def lock(place):
    """Waits until no other process builds in a folder. The lock ends with the file that is returned, or with the process."""
    held = open(os.path.join(place, "lock"), "w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another process builds in %s: waiting for its end" % place)
        fcntl.flock(held, fcntl.LOCK_EX)
    return held


def cores():
    try:
        return len(os.sched_getaffinity(0))
    except OSError:
        return os.cpu_count() or 1


def choose(place, name):
    path = os.path.join(place, "use")
    with open(path + ".new", "w") as f:
        f.write(name + "\n")
    os.replace(path + ".new", path)


def build(cache, name, target, patterns, prepare, use=True):
    """Builds a target and installs its libraries. prepare returns options for cmake and the environment."""
    version, folder = module()
    place = os.path.join(cache, "gpu", "ollama-" + version)
    out = os.path.join(place, name, "lib", "ollama")
    wanted = {"bindings": version, "backend": name, "build": digest()}
    os.makedirs(place, exist_ok=True)
    held = lock(place)
    if ready(out, wanted):
        say("%s is built: %s" % (name, out))
        if use:
            choose(place, name)
        held.close()
        return out
    work = os.path.join(place, name + "-build")
    tree, objects, log = os.path.join(work, "src"), os.path.join(work, "objects"), os.path.join(place, name + ".log")
    options, env = prepare(work)
    tool = cmake(cache)
    configure = [tool, "-S", tree, "-B", objects, *generator(), "-Wno-dev", "-DGGML_CCACHE=OFF", "-DCMAKE_BUILD_WITH_INSTALL_RPATH=ON", *options]
    state = dict(wanted, configure=configure, compilers=[os.environ.get(v, "") for v in ("CC", "CXX")])
    began = time.time()
    if ready(work, state, "state.json"):
        say("continuing the build of %s that was interrupted (log: %s)" % (name, log))
    else:
        say("building %s of ggml as in ollama %s (log: %s)" % (name, version, log))
        if os.path.exists(log):
            os.unlink(log)
        shutil.rmtree(work, ignore_errors=True)
        sources(folder, tree)
        run(configure, env, log)
        with open(os.path.join(work, "state.json"), "w") as f:  # from here on the build can continue
            json.dump(state, f)
    run([tool, "--build", objects, "--target", target, "-j", os.environ.get("JOBS", str(cores()))], env, log)
    new = out + ".new"
    shutil.rmtree(new, ignore_errors=True)
    os.makedirs(new)
    built = os.path.join(objects, "lib", "ollama")
    for pattern in patterns:
        found = glob.glob(os.path.join(built, pattern))
        if not found:
            fail("%s was not built (log: %s)" % (pattern, log))
        target_path = os.path.join(new, os.path.basename(found[0]))
        shutil.copy(os.path.realpath(found[0]), target_path)
        if shutil.which("strip"):
            subprocess.run(["strip", "--strip-unneeded", target_path], check=False)
    for extra in wanted_extra(name, cache):
        shutil.copy(os.path.realpath(extra), os.path.join(new, os.path.basename(extra)))
    with open(os.path.join(new, "lathe.json"), "w") as f:
        json.dump(wanted, f)
        f.write("\n")
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(os.path.dirname(out), exist_ok=True)
    os.replace(new, out)
    shutil.rmtree(work, ignore_errors=True)
    size = sum(os.path.getsize(os.path.join(out, f)) for f in os.listdir(out))
    say("%s: %d s, %.1f MB in %s" % (name, time.time() - began, size / 1e6, out))
    if use:
        choose(place, name)
    held.close()
    return out


def wanted_extra(name, cache):
    """Lists libraries that the built one needs and the system does not have: Vulkan's loader."""
    if name == "vulkan" and not ctypes.util.find_library("vulkan"):
        folder = library_folder(vulkan_tools(cache))
        return glob.glob(os.path.join(folder, "libvulkan.so.1"))
    return []


def build_vulkan(cache, use=True):
    def prepare(work):
        prefix = vulkan_tools(cache)
        folder = library_folder(prefix)
        env = dict(os.environ)
        env["CPATH"] = os.path.join(HERE, "include") + (":" + env["CPATH"] if env.get("CPATH") else "")
        env["LD_LIBRARY_PATH"] = folder + (":" + env["LD_LIBRARY_PATH"] if env.get("LD_LIBRARY_PATH") else "")  # for glslc
        for name in ("CFLAGS", "CXXFLAGS", "GOFLAGS"):
            env.pop(name, None)
        return ["-DCMAKE_INSTALL_RPATH=$ORIGIN", "-DCMAKE_CUDA_COMPILER=NOTFOUND", "-DCMAKE_HIP_COMPILER=NOTFOUND",
                "-DVulkan_INCLUDE_DIR=" + os.path.join(prefix, "include"), "-DVulkan_LIBRARY=" + os.path.join(folder, "libvulkan.so"),
                "-DVulkan_GLSLC_EXECUTABLE=" + os.path.join(prefix, "bin", "glslc")], env
    return build(cache, "vulkan", "ggml-vulkan", ["libggml-vulkan.so", "libggml-base.so.0"], prepare, use)


def capability():
    """Returns the compute capability of the first NVIDIA GPU, such as "90"; "" without one."""
    if not shutil.which("nvidia-smi"):
        return ""
    done = subprocess.run(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found = re.match(r"(\d+)\.(\d+)", done.stdout.strip())
    return found.group(1) + found.group(2) if done.returncode == 0 and found else ""


def toolkit(cache):
    """Returns the folder of a CUDA toolkit: the system's, or NVIDIA's wheels in the cache, made to look like one."""
    nvcc = shutil.which("nvcc") or next(iter(glob.glob(os.path.join(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin", "nvcc"))), None)
    if nvcc:
        return os.path.dirname(os.path.dirname(os.path.realpath(nvcc))), False
    if platform.machine() != "x86_64":
        raise Unavailable("there is no nvcc, and its wheels are pinned for x86_64 only: install NVIDIA's CUDA toolkit")
    say("there is no nvcc: using NVIDIA's wheels (525 MB, once)")
    done = subprocess.run([sys.executable, os.path.join(ROOT, ".ci", "setup.py"), cache, "cuda"])
    home = os.path.join(cache, "cuda", "nvidia", "cu13")
    if done.returncode != 0 or not os.path.exists(os.path.join(home, "bin", "nvcc")):
        raise Unavailable("NVIDIA's wheels could not be fetched: install the CUDA toolkit, or build with GPU=vulkan")
    if not os.path.lexists(os.path.join(home, "lib64")):
        os.symlink("lib", os.path.join(home, "lib64"))
    for name in ("cudart", "cublas", "cublasLt"):
        link = os.path.join(home, "lib", "lib%s.so" % name)
        if not os.path.lexists(link):
            os.symlink("lib%s.so.13" % name, link)
    return home, True


# Functions of the driver's library that ggml calls. The library is in no wheel, and on machines with a driver only.
DRIVER = ("cuDeviceGet cuDeviceGetAttribute cuGetErrorString cuMemAddressReserve cuMemAddressFree cuMemCreate cuMemMap cuMemUnmap "
          "cuMemRelease cuMemSetAccess cuMemGetAllocationGranularity").split()


def driver_stub(home):
    """Makes a library to link against where the driver's is not installed."""
    path = os.path.join(home, "lib", "stubs", "libcuda.so")
    if os.path.exists(path):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    code = "".join("void %s(void) {}\n" % name for name in DRIVER)
    subprocess.run([os.environ.get("CC", "gcc").split()[0], "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-x", "c", "-", "-o", path], input=code, text=True, check=True)


def build_cuda(cache):
    sm = capability()
    if not sm:
        raise Unavailable("nvidia-smi finds no NVIDIA GPU: CUDA needs its driver (580 or later), and is built for the machine's compute capability")
    if int(sm) < 75:
        raise Unavailable("compute capability %s.%s is older than CUDA 13's oldest, 7.5: use GPU=vulkan" % (sm[:-1], sm[-1]))

    def prepare(work):
        home, wheels = toolkit(cache)
        if wheels:
            driver_stub(home)
        env = dict(os.environ, PATH=os.path.join(home, "bin") + ":" + os.environ["PATH"])
        for name in ("CFLAGS", "CXXFLAGS", "CPATH"):
            env.pop(name, None)
        return ["-DCMAKE_INSTALL_RPATH=$ORIGIN:" + os.path.join(home, "lib") + ":" + os.path.join(home, "lib64"), "-DCMAKE_CUDA_ARCHITECTURES=%s-real" % sm,
                "-DCMAKE_DISABLE_FIND_PACKAGE_Vulkan=ON", "-DCUDAToolkit_ROOT=" + home], env
    return build(cache, "cuda-sm" + sm, "ggml-cuda", ["libggml-cuda.so", "libggml-base.so.0"], prepare)


def check_cuda(cache):
    """Compiles two files of the CUDA library, one plain and one with tensor cores."""
    _, folder = module()
    home, _ = toolkit(cache)
    work = os.path.join(cache, "gpu", "check")
    sources(folder, work)
    source = os.path.join(work, GGML, "src")
    files = ["scale.cu", "template-instances/fattn-vec-instance-f16-f16.cu"]
    for name in files:
        began = time.time()
        out = os.path.join(work, os.path.basename(name) + ".o")
        run([os.path.join(home, "bin", "nvcc"), "-O3", "-DNDEBUG", "-std=c++17", "-arch=sm_90", "-use_fast_math", "-extended-lambda", "-DGGML_SCHED_MAX_COPIES=4",
             "-DGGML_VERSION=\"0x0\"", "-DGGML_COMMIT=\"0x0\"", "-I" + os.path.join(source, "ggml-cuda"), "-I" + source, "-I" + os.path.join(work, GGML, "include"), "-I" + os.path.join(home, "include", "cccl"), "-Xcompiler", "-fPIC",
             "-c", os.path.join(source, "ggml-cuda", name), "-o", out], log=os.path.join(cache, "gpu", "check.log"))
        say("%s compiles for compute capability 9.0: %.1f s, %.2f MB" % (name, time.time() - began, os.path.getsize(out) / 1e6))
    shutil.rmtree(work)


def cards():
    """Lists graphics cards as the kernel does, without the displays of virtual machines."""
    vendors = {"0x1002": "AMD", "0x10de": "NVIDIA", "0x8086": "Intel"}
    found = []
    for path in sorted(glob.glob("/sys/class/drm/card[0-9]*/device/vendor")):
        with open(path) as f:
            vendor = f.read().strip()
        if vendor in vendors:
            found.append(vendors[vendor])
    if glob.glob("/dev/nvidia[0-9]*") and "NVIDIA" not in found:
        found.append("NVIDIA")
    return found


def main_build(cache, asked):
    if asked not in ("", "vulkan", "cuda"):
        fail("GPU=%s: not vulkan or cuda" % asked)
    found = cards()
    if asked == "cuda":
        say("CUDA, because GPU=cuda")
        return build_cuda(cache)
    if asked == "vulkan":
        say("Vulkan, because GPU=vulkan")
    elif found:
        say("Vulkan, because there is a GPU (%s), and it runs on those of every vendor; GPU=cuda builds NVIDIA's instead" % ", ".join(found))
    else:
        say("nothing to do: no GPU was found in /sys/class/drm or /dev (GPU=vulkan or GPU=cuda builds a library all the same)")
        return None
    return build_vulkan(cache)


def main_test(cache):
    """Writes the environment in which tests use Vulkan on a software device."""
    try:
        found = glob.glob("/usr/share/vulkan/icd.d/lvp_icd*.json")
        prefix = "/usr" if found else packages(cache, ["mesa-vulkan-drivers"])
        found = found or glob.glob(os.path.join(prefix, "share", "vulkan", "icd.d", "lvp_icd*.json"))
        if not found:
            raise Unavailable("the package of Mesa's Vulkan drivers has no lavapipe")
        out = build_vulkan(cache, use=False)
    except Unavailable as missing:
        say("NOT TESTED ON A GPU: %s" % missing)
        sys.exit(SKIPPED)
    with open(found[0]) as f:
        icd = json.load(f)
    folder = os.path.dirname(found[0])
    paths = [f for f in glob.glob(os.path.join(prefix, "lib", "*-linux-gnu*")) + [os.path.join(prefix, "lib64")] if os.path.isdir(f)]
    if prefix != "/usr":
        name = os.path.basename(icd["ICD"]["library_path"])
        icd["ICD"]["library_path"] = next(os.path.join(f, name) for f in paths if os.path.exists(os.path.join(f, name)))
        folder = os.path.join(cache, "gpu")
        with open(os.path.join(folder, "lavapipe.json"), "w") as f:
            json.dump(icd, f)
        icd_path = os.path.join(folder, "lavapipe.json")
        tools = vulkan_tools(cache)
        paths.append(library_folder(tools))
        print("export LD_LIBRARY_PATH=%s${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" % ":".join(dict.fromkeys(paths)))
    else:
        icd_path = found[0]
    print("export VK_DRIVER_FILES=%s VK_ICD_FILENAMES=%s GGML_VK_VISIBLE_DEVICES=0 LATHE_TEST_GPU=%s" % (icd_path, icd_path, out))


def main():
    if len(sys.argv) < 3 or sys.argv[2] not in ("build", "test", "check"):
        fail("usage: gpu.py CACHE build [vulkan|cuda] | test | check")
    if platform.system() != "Linux":
        say("GPU libraries are built on Linux only; macOS has Metal without one")
        sys.exit(SKIPPED if sys.argv[2] == "test" else 0)
    cache = os.path.abspath(sys.argv[1])
    try:
        os.makedirs(os.path.join(cache, "gpu"), exist_ok=True)
        if sys.argv[2] == "build":
            main_build(cache, sys.argv[3] if len(sys.argv) > 3 else "")
        elif sys.argv[2] == "test":
            main_test(cache)
        else:
            check_cuda(cache)
    except Unavailable as missing:
        fail(str(missing))
    except OSError as err:
        fail("%s (LATHE_CACHE names a folder that can be written)" % err)
    except KeyboardInterrupt:
        say("interrupted: run it again, and the build continues")
        sys.exit(130)


main()

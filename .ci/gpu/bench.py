#!/usr/bin/env python3
"""Measures models and search on a machine with a GPU, which needs neither Go nor a network.

Usage: bench.py pack FOLDER            copies the program, the libraries of `make gpu`, the default model and a text into FOLDER
       bench.py run [--minutes 10]     measures what is beside this file, and writes results.json there
                    [--toy]            with a tiny random model instead of one shaped like a model of 7B parameters

For the default model and a random model of the shape of LLaMA-7B, dense and cut to 0.8 and 0.5: tokens per second of prompts and
generation, and memory on the GPU. For both: candidates per minute of the paper's search, on 5 x 2048 tokens, and from that the
hours of its schedule. For the second, with two layers: seconds of one layer's re-fit, exact and by ADMM, on the processor and on the GPU, there with the
linear algebra on either. A step that
the time is too short for is named in the results, as is one that fails. The models' weights are random: only speed is measured.
"""
import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SCHEDULE = 100 + 50 * 100  # candidates of the paper's search: a start and 50 epochs of 100
SHAPES = {  # layers, hidden, heads, MLP
    "7b": (32, 4096, 32, 11008),
    "7b-two-layers": (2, 4096, 32, 11008),
    "toy": (2, 64, 4, 512),
}
Q4_0, F32 = 2, 0


def read_metadata(path):
    """Returns the metadata of a GGUF file as (name, type, raw bytes)."""
    with open(path, "rb") as f:
        magic, version, _, count = struct.unpack("<4sIQQ", f.read(24))
        if magic != b"GGUF" or version != 3:
            sys.exit("%s is not a GGUF file of version 3" % path)

        def text():
            n, = struct.unpack("<Q", f.read(8))
            return f.read(n)

        sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

        def skip(kind):
            if kind == 8:
                text()
            elif kind == 9:
                inner, n = struct.unpack("<IQ", f.read(12))
                if inner == 8:
                    for _ in range(n):
                        text()
                else:
                    f.seek(n * sizes[inner], 1)
            else:
                f.seek(sizes[kind], 1)

        values = []
        for _ in range(count):
            name = text().decode()
            kind, = struct.unpack("<I", f.read(4))
            begin = f.tell()
            skip(kind)
            end = f.tell()
            f.seek(begin)
            values.append((name, kind, f.read(end - begin)))
        return values


def write_model(path, shape, donor, toy):
    """Writes a random Llama model with the vocabulary of another model's file."""
    layers, hidden, heads, mlp = shape
    values = [v for v in read_metadata(donor) if v[0].startswith("tokenizer.")]
    tokens = next(raw for name, _, raw in values if name == "tokenizer.ggml.tokens")
    vocab, = struct.unpack("<Q", tokens[4:12])

    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()

    def number(name, n):
        values.append((name, 4, struct.pack("<I", n)))

    values.insert(0, ("general.architecture", 8, text("llama")))
    values.append(("general.name", 8, text("random-" + os.path.basename(path).split(".")[0])))
    for key, n in (("block_count", layers), ("embedding_length", hidden), ("feed_forward_length", mlp), ("attention.head_count", heads),
                   ("attention.head_count_kv", heads), ("context_length", 4096), ("rope.dimension_count", hidden // heads), ("vocab_size", vocab)):
        number("llama." + key, n)
    values.append(("llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)))
    values.append(("llama.rope.freq_base", 6, struct.pack("<f", 10000.0)))
    number("general.alignment", 32)
    matrix = F32 if toy else Q4_0
    tensors = [("token_embd.weight", (hidden, vocab), matrix), ("output_norm.weight", (hidden,), F32), ("output.weight", (hidden, vocab), matrix)]
    for i in range(layers):
        for name, dims in (("attn_q", (hidden, hidden)), ("attn_k", (hidden, hidden)), ("attn_v", (hidden, hidden)), ("attn_output", (hidden, hidden)),
                           ("ffn_gate", (hidden, mlp)), ("ffn_up", (hidden, mlp)), ("ffn_down", (mlp, hidden))):
            tensors.append(("blk.%d.%s.weight" % (i, name), dims, matrix))
        for name in ("attn_norm", "ffn_norm"):
            tensors.append(("blk.%d.%s.weight" % (i, name), (hidden,), F32))

    def size(dims, kind):
        n = dims[0] * (dims[1] if len(dims) > 1 else 1)
        return n * 4 if kind == F32 else n // 32 * 18

    import random
    r = random.Random(1)
    scale = (1 / hidden) ** 0.5
    unit = {  # random values, repeated
        Q4_0: b"".join(struct.pack("<e", scale / 4) + bytes(r.getrandbits(8) for _ in range(16)) for _ in range(8191)),
        F32: b"".join(struct.pack("<f", r.gauss(0, scale)) for _ in range(8191)),
    }
    with open(path + ".part", "wb") as f:
        f.write(struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(values)))
        for name, kind, raw in values:
            f.write(text(name) + struct.pack("<I", kind) + raw)
        offset = 0
        for name, dims, kind in tensors:
            f.write(text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims) + struct.pack("<IQ", kind, offset))
            offset += (size(dims, kind) + 31) // 32 * 32
        f.write(b"\0" * (-f.tell() % 32))
        for name, dims, kind in tensors:
            n = size(dims, kind)
            if len(dims) == 1:
                f.write(struct.pack("<f", 1.0) * dims[0])
            else:
                whole = unit[kind]
                for _ in range(n // len(whole)):
                    f.write(whole)
                f.write(whole[:n % len(whole)])
            f.write(b"\0" * (-n % 32))
    os.replace(path + ".part", path)


class Bench:
    def __init__(self, o):
        self.o, self.began = o, time.time()
        self.results = {"steps": [], "candidates_in_schedule": SCHEDULE}
        self.work = os.path.join(o.folder, "work")
        os.makedirs(self.work, exist_ok=True)
        self.lathe = o.lathe or os.path.join(o.folder, "lathe")
        self.env = dict(os.environ, LATHE_WORKSPACES=os.path.join(self.work, "workspaces"), LATHE_CACHE=os.path.join(self.work, "cache"))
        libraries = os.path.join(o.folder, "lib", "ollama")
        if os.path.exists(libraries) and "LATHE_GPU_LIBRARIES" not in os.environ:
            self.env["LATHE_GPU_LIBRARIES"] = libraries
        if o.compute:
            self.env["LATHE_BACKEND"] = o.compute

    def left(self):
        return self.o.minutes * 60 - (time.time() - self.began)

    def step(self, name, share, use):
        """Runs a step within a share of the time that is left. What it returns, or why it failed, goes into the results."""
        limit = self.left() * share
        r = {"name": name}
        if limit < (0.5 if self.o.toy else 10):
            r["skipped"] = "no time is left"
        else:
            begin = time.time()
            try:
                r.update(use(limit) or {})
            except subprocess.TimeoutExpired:
                r["failed"] = "took longer than %.0f s" % limit
            except (subprocess.CalledProcessError, OSError, ValueError, KeyError, StopIteration) as err:
                r["failed"] = (getattr(err, "stderr", None) or str(err)).strip().splitlines()[-1]
            r["seconds"] = round(time.time() - begin, 2)
        self.results["steps"].append(r)
        print(json.dumps(r), flush=True)
        with open(os.path.join(self.o.folder, "results.json.new"), "w") as f:
            json.dump(self.results, f, indent=1)
        os.replace(os.path.join(self.o.folder, "results.json.new"), os.path.join(self.o.folder, "results.json"))
        return r

    def run(self, limit, *args):
        done = subprocess.run([self.lathe, *args], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=limit)
        if done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, args, done.stdout, done.stderr)
        return done.stdout

    def speed(self, name, model):
        """Measures the dense model and two cuts, whose units are random: only their number matters for speed."""
        for ratio in (1, 0.8, 0.5):
            path = model if ratio == 1 else os.path.join(self.work, "%s-%s.gguf" % (name, ratio))

            def use(limit):
                if ratio != 1:
                    self.run(limit, "cut", model, "--ratio", str(ratio), "--method", "random", "--reform", "none", "--windows", "1", "--seq", "64",
                             "--text", self.o.text, "-o", path, "--force")
                prompt, generate, repeats = ("16", "4", "1") if self.o.toy else ("512", "64", "3")
                out = json.loads(self.run(limit, "bench", path, "--prompt", prompt, "--generate", generate, "--repeats", repeats, "--json"))
                if ratio != 1:
                    os.unlink(path)
                rows = {r["test"][:2]: r for r in out["rows"]}
                return {"prompt_tokens_per_second": rows["pp"]["tokens_per_second"], "generation_tokens_per_second": rows["tg"]["tokens_per_second"],
                        "gpu_memory_bytes": rows["tg"]["gpu_memory_bytes"], "memory_bytes": rows["tg"]["memory_bytes"], "placement": rows["tg"].get("placement", "")}
            self.step("speed of %s at %s" % (name, ratio), 0.2, use)

    def candidates(self, name, model):
        """Times candidates between the generations of a short search of the paper's."""
        def use(limit):
            small = self.o.toy
            strategy = "population=4,mutations=2,crossovers=1,parents=2,epochs=6,refit=none,tokens=" + ("128" if small else "10240")
            args = [self.lathe, "search", model, "--target", "0.8", "--strategy", "paper", "--set", strategy, "--budget", "evals=" + ("20" if small else "28"),
                    "--seq", "64" if small else "2048", "--windows", "2", "--text", self.o.text, "--json"]
            child = subprocess.Popen(args, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            timer = threading.Timer(limit, child.kill)
            timer.start()
            seen = []
            for line in child.stdout:
                event = json.loads(line)
                if event["event"] == "generation" and event["evaluated"] > 0:
                    seen.append((time.time(), event["evaluated"]))
            why = child.stderr.read()
            timer.cancel()
            child.wait()
            if len(seen) < 2 or seen[-1][1] == seen[0][1]:
                raise ValueError("fewer than two generations in %.0f s: %s" % (limit, why.strip().splitlines()[-1] if why.strip() else "no message"))
            rate = 60 * (seen[-1][1] - seen[0][1]) / max(seen[-1][0] - seen[0][0], 1e-9)
            return {"candidates_per_minute": rate, "candidates": seen[-1][1] - seen[0][1], "tokens": 128 if small else 10240, "schedule_hours": SCHEDULE / rate / 60}
        self.step("candidates of %s" % name, 0.3, use)

    def refit(self, name, model, layers, device, algebra, method):
        """Times one layer's re-fit: what a cut with a re-fit takes longer than one without, by layer."""
        def use(limit):
            seconds, made = [], {}
            for reform in ("none", method):
                path = os.path.join(self.work, "refit.gguf")
                out = self.run(limit / 2, "cut", model, "--ratio", "0.8", "--method", "random", "--reform", reform, "--windows", "1" if self.o.toy else "2",
                               "--seq", "64" if self.o.toy else "2048", "--text", self.o.text, "-o", path, "--force", "--json", "--compute", device,
                               "--linear-algebra", algebra)
                made = json.loads(out)
                seconds.append(made["seconds"])
                os.unlink(path)
            return {"seconds_per_layer": (seconds[1] - seconds[0]) / layers, "device": device, "method": method, "linear_algebra": made["method"]["linear_algebra"]}
        self.step("%s re-fit of a layer of %s on %s, linear algebra by %s" % (method, name, device, algebra), 0.2, use)

    def all(self):
        def about(limit):
            found = {c["name"]: c.get("found", "") for c in self.checks(limit)}
            return {"machine": found.get("machine", ""), "engine": found.get("engine", ""), "gpu": found.get("GPU", ""), "compute": found.get("compute", "")}
        self.step("machine", 0.2, about)
        toy = self.o.toy
        self.speed("default", self.o.model)
        self.candidates("default", self.o.model)
        big, two = os.path.join(self.work, "7b.gguf"), os.path.join(self.work, "7b-two-layers.gguf")
        if toy:
            self.step("toy model", 0.5, lambda _: write_model(big, SHAPES["toy"], self.o.model, True))
            two, layers = big, SHAPES["toy"][0]
        else:
            self.step("two layers of the shape of 7B", 0.3, lambda _: write_model(two, SHAPES["7b-two-layers"], self.o.model, False))
            layers = 2
        if toy:
            refits = [("go", "go", "exact"), ("go", "go", "admm")]
            if os.environ.get("PJRT_PLUGIN_LIBRARY_PATH"):  # XLA stands for the GPU
                refits += [("xla", "xla", "exact"), ("xla", "xla", "admm")]
        else:
            processor = "xla" if os.path.exists(os.path.join(self.work, "cache", "xla")) else "go"
            refits = [(processor, "go", "exact"), ("cuda", "go", "exact"), ("cuda", "xla", "exact"), ("cuda", "xla", "admm")]
        for device, algebra, method in refits:
            self.refit("7B shape", two, layers, device, algebra, method)
        if not toy:
            self.step("the shape of 7B", 0.5, lambda _: write_model(big, SHAPES["7b"], self.o.model, False))
        self.speed("7B shape", big)
        self.candidates("7B shape", big)
        self.results["minutes"] = (time.time() - self.began) / 60
        self.step("end", 1, lambda _: {})
        shutil.rmtree(self.work, ignore_errors=True)
        failed = [s["name"] for s in self.results["steps"] if "failed" in s]
        print("%d steps, %.1f minutes%s: %s" % (len(self.results["steps"]), self.results["minutes"], ", failed: " + "; ".join(failed) if failed else "",
                                                 os.path.join(self.o.folder, "results.json")))
        return 1 if failed else 0

    def checks(self, limit):
        done = subprocess.run([self.lathe, "doctor", "--json"], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=limit)
        return json.loads(done.stdout)["checks"]  # the status is 1 where a component is broken


def pack(folder):
    """Copies what `run` needs into a folder, from the repository and the cache."""
    root = os.path.dirname(os.path.dirname(HERE))
    cache = os.environ.get("LATHE_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "lathe")
    os.makedirs(os.path.join(folder, "lib"), exist_ok=True)
    shutil.copy(os.path.join(root, "bin", "lathe"), folder)
    shutil.copy(os.path.abspath(__file__), folder)
    shutil.copy(os.path.join(cache, "models", "SmolLM2-135M-Instruct.Q4_1.gguf"), os.path.join(folder, "model.gguf"))
    shutil.copy(os.path.join(cache, "text", "wiki.utf8"), os.path.join(folder, "text.txt"))
    version = subprocess.run(["go", "list", "-m", "-f", "{{.Version}}", "github.com/ollama/ollama"], cwd=root, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    place = os.path.join(cache, "gpu", "ollama-" + version)
    if os.path.exists(os.path.join(place, "use")):
        with open(os.path.join(place, "use")) as f:
            name = f.read().strip()
        shutil.copytree(os.path.join(place, name, "lib", "ollama"), os.path.join(folder, "lib", "ollama"), dirs_exist_ok=True)
    else:
        print("no GPU library: `make gpu` builds one (GPU=vulkan without a GPU)", file=sys.stderr)
    plugin = os.path.join(cache, "xla", "pjrt_c_api_cpu_plugin.so")
    if os.path.exists(plugin):
        os.makedirs(os.path.join(folder, "work", "cache", "xla"), exist_ok=True)
        shutil.copy(plugin, os.path.join(folder, "work", "cache", "xla"))
    print("run there: python3 %s run" % os.path.join(os.path.basename(folder), "bench.py"))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(dest="command", required=True)
    sub.add_parser("pack").add_argument("folder")
    r = sub.add_parser("run")
    r.add_argument("--minutes", type=float, default=10)
    r.add_argument("--toy", action="store_true")
    r.add_argument("--lathe", default="", help="program (default: beside this file)")
    r.add_argument("--folder", default=HERE, help="folder of the files, and of the results")
    r.add_argument("--model", default="", help="model file (default: model.gguf in the folder)")
    r.add_argument("--text", default="", help="text (default: text.txt in the folder)")
    r.add_argument("--compute", default="", help="device of search and re-fit, as LATHE_BACKEND has it")
    o = p.parse_args()
    if o.command == "pack":
        return pack(os.path.abspath(o.folder))
    o.folder = os.path.abspath(o.folder)
    o.model = os.path.abspath(o.model or os.path.join(o.folder, "model.gguf"))
    o.text = os.path.abspath(o.text or os.path.join(o.folder, "text.txt"))
    return Bench(o).all()


sys.exit(main())

"""Runs model files in the llama.cpp of PyPI package xllamacpp.

Reads a JSON list of {"model": path, "tokens": [ids], "from": i, "generate": n} from standard input; for each writes one line
{"logprobs": [log-probability of every token from "from" on], "greedy": [up to n ids that follow all tokens]} to standard output. The server
of llama.cpp is silent about an end of text and tokens that are not whole characters: their log-probability is null, and the greedy ids end before one.
"""

import json
import sys

import xllamacpp


def follow(server, prompt, bias):
    """Returns the token that follows and its log-probability before the bias, or None for one that has no text of its own."""
    answer = server.handle_completions(
        {"prompt": prompt, "n_predict": 1, "temperature": 0, "n_probs": 1, "cache_prompt": True, "ignore_eos": bool(bias), "logit_bias": bias}
    )
    if "choices" not in answer:
        raise SystemExit(json.dumps(answer))
    content = (answer["choices"][0]["logprobs"] or {"content": []})["content"]
    return content[0] if content else None


def run(job):
    params = xllamacpp.CommonParams()
    params.model.path = job["model"]
    params.n_ctx, params.n_parallel, params.n_gpu_layers = 512, 1, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = params.fit_params = False
    server = xllamacpp.Server(params)
    tokens, logprobs = job["tokens"], []
    for i in range(job["from"], len(tokens)):
        got = follow(server, tokens[:i], [[tokens[i], 1000.0]])
        logprobs.append(got["logprob"] if got and got["id"] == tokens[i] else None)
    greedy = []
    while len(greedy) < job["generate"]:
        got = follow(server, tokens + greedy, [])
        if not got:
            break
        greedy.append(got["id"])
    print(json.dumps({"logprobs": logprobs, "greedy": greedy}), flush=True)


for job in json.load(sys.stdin):
    run(job)

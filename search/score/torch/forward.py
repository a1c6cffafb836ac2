"""The forward pass that scoring does, in PyTorch, as the yardstick of the scoring benchmark.

A decoder of the given geometry with random weights scores windows of text: RMSNorm, rotary attention through
scaled_dot_product_attention (fused and causal), SwiGLU, and the log-likelihood of every next token. One untimed pass comes
first; then each line read from standard input runs one timed pass over one window and answers with its seconds, so that
the caller can take turns with its own measurement.

Usage: forward.py '{"hidden":576,"heads":9,"kv_heads":3,"head_dim":64,"ffn":1536,"layers":30,"vocab":49152,
                    "tokens":2048,"threads":2}'
"""
import json
import sys
import time

import torch
import torch.nn.functional as F


class Decoder:
    def __init__(self, g):
        self.g = g
        torch.manual_seed(1)
        d, dh = g["hidden"], g["head_dim"]

        def weight(rows, columns):
            return torch.randn(rows, columns) * columns ** -0.5

        self.embedding = weight(g["vocab"], d)
        self.layers = [{
            "q": weight(g["heads"] * dh, d), "k": weight(g["kv_heads"] * dh, d), "v": weight(g["kv_heads"] * dh, d),
            "o": weight(d, g["heads"] * dh),
            "gate": weight(g["ffn"], d), "up": weight(g["ffn"], d), "down": weight(d, g["ffn"]),
        } for _ in range(g["layers"])]
        angles = torch.outer(torch.arange(g["tokens"]).float(), 1e4 ** (-torch.arange(0, dh, 2).float() / dh))
        self.cos, self.sin = angles.cos(), angles.sin()

    def rotate(self, x):  # [heads, tokens, head_dim], half-split pairs
        a, b = x.chunk(2, -1)
        return torch.cat((a * self.cos - b * self.sin, a * self.sin + b * self.cos), -1)

    def norm(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)

    def split(self, x, heads):  # [tokens, heads * head_dim] -> [heads, tokens, head_dim]
        return x.view(x.shape[0], heads, self.g["head_dim"]).transpose(0, 1)

    def score(self, tokens):
        """Sum of the negative log-likelihoods of tokens[1:], in nats."""
        g, x = self.g, self.embedding[tokens]
        share = g["heads"] // g["kv_heads"]
        for w in self.layers:
            h = self.norm(x)
            q = self.rotate(self.split(F.linear(h, w["q"]), g["heads"]))
            k = self.rotate(self.split(F.linear(h, w["k"]), g["kv_heads"])).repeat_interleave(share, 0)
            v = self.split(F.linear(h, w["v"]), g["kv_heads"]).repeat_interleave(share, 0)
            a = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
            x = x + F.linear(a.transpose(0, 1).reshape(x.shape[0], -1), w["o"])
            h = self.norm(x)
            x = x + F.linear(F.silu(F.linear(h, w["gate"])) * F.linear(h, w["up"]), w["down"])
        h, total = self.norm(x)[:-1], 0.0
        for start in range(0, h.shape[0], 512):  # the logits of 512 positions at a time
            logits = F.linear(h[start:start + 512], self.embedding)
            total += F.cross_entropy(logits, tokens[1 + start:1 + start + logits.shape[0]], reduction="sum").item()
        return total


def main():
    geometry = json.loads(sys.argv[1])
    torch.set_num_threads(geometry["threads"])
    model = Decoder(geometry)
    tokens = torch.randint(geometry["vocab"], (geometry["tokens"],))
    with torch.inference_mode():
        model.score(tokens)
        print("ready", torch.__version__, flush=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            model.score(tokens)
            print(time.perf_counter() - start, flush=True)


main()

#!/usr/bin/env python3
"""Computes the reference log-likelihoods that the decoder and the llama.cpp engine are tested against.

An independent program: PyTorch in 32-bit floats on the weights of the default model, dequantised by the gguf package.
It shares no code with lathe. Needs the Python packages torch, gguf and tokenizers.

Usage: reference.py MODEL.gguf TEXT > infer/decoder/testdata/reference.json
with the default model and text/wiki.utf8 of the cache folder.
"""
import hashlib
import json
import sys

import gguf
import torch
from gguf.quants import dequantize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

WINDOW = 2048  # tokens
SOURCE = "first tokens of wiki.utf8 (Wikipedia, CC BY-SA 3.0)"
HEAD = 16384  # characters of the text that are tokenised: more than a window


def field(reader, name):
    value = reader.fields[name]
    return value.contents()


def tokenizer(reader):
    """Byte-level BPE as SmolLM2 defines it: single digits, then the splitting pattern of GPT-2."""
    vocabulary = {token: i for i, token in enumerate(field(reader, "tokenizer.ggml.tokens"))}
    merges = [tuple(merge.split(" ")) for merge in field(reader, "tokenizer.ggml.merges")]
    t = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    t.decoder = decoders.ByteLevel()
    return t


def main():
    path, text_path = sys.argv[1:]
    reader = gguf.GGUFReader(path)
    weights = {t.name: torch.tensor(dequantize(t.data, t.tensor_type).copy()).float() for t in reader.tensors}
    layers = field(reader, "llama.block_count")
    heads = field(reader, "llama.attention.head_count")
    groups = field(reader, "llama.attention.head_count_kv")
    epsilon = field(reader, "llama.attention.layer_norm_rms_epsilon")
    base = field(reader, "llama.rope.freq_base")
    with open(text_path, encoding="utf-8") as f:
        text = f.read(HEAD)
    ids = tokenizer(reader).encode(text).ids[:WINDOW]
    embedding = weights["token_embd.weight"]
    dim = embedding.shape[1] // heads

    def norm(x, weight):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * weight

    n = len(ids)
    angle = torch.outer(torch.arange(n).float(), base ** (-torch.arange(0, dim, 2).float() / dim))
    cos, sin = angle.cos(), angle.sin()

    def rotate(x):  # [tokens, heads, dim]; llama.cpp's order for this family: neighbouring pairs
        even, odd = x[..., 0::2], x[..., 1::2]
        out = torch.empty_like(x)
        out[..., 0::2] = even * cos[:, None] - odd * sin[:, None]
        out[..., 1::2] = even * sin[:, None] + odd * cos[:, None]
        return out

    mask = torch.full((n, n), float("-inf")).triu(1)
    x = embedding[torch.tensor(ids)]
    for i in range(layers):
        w = lambda name: weights["blk.%d.%s.weight" % (i, name)]
        h = norm(x, w("attn_norm"))
        q = rotate((h @ w("attn_q").T).view(n, heads, dim))
        k = rotate((h @ w("attn_k").T).view(n, groups, dim)).repeat_interleave(heads // groups, 1)
        v = (h @ w("attn_v").T).view(n, groups, dim).repeat_interleave(heads // groups, 1)
        scores = torch.einsum("qhd,khd->hqk", q, k) / dim ** 0.5 + mask
        mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).reshape(n, heads * dim)
        x = x + mixed @ w("attn_output").T
        h = norm(x, w("ffn_norm"))
        x = x + (torch.nn.functional.silu(h @ w("ffn_gate").T) * (h @ w("ffn_up").T)) @ w("ffn_down").T
    logits = norm(x, weights["output_norm.weight"]) @ weights.get("output.weight", embedding).T
    nll = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none")
    with open(path, "rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()
    json.dump({"model_sha256": digest, "text": SOURCE, "tokens": ids, "nll": [round(v, 6) for v in nll.tolist()]}, sys.stdout)
    print()


main()

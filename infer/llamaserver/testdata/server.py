"""A llama-server out of the PyPI package xllamacpp, with the options that lathe starts one with.

The processor computes everything, and no matrix is stored in another order than the file's.
"""

import argparse
import os
import threading

import xllamacpp

options = argparse.ArgumentParser()
options.add_argument("-m", required=True)
options.add_argument("--host", required=True)
options.add_argument("--port", type=int, required=True)
options.add_argument("-np", type=int, default=1)
options.add_argument("-c", type=int, default=4096)
options.add_argument("-t", type=int, default=1)
options.add_argument("-b", type=int, default=512)
options.add_argument("-ngl")
o = options.parse_args()
params = xllamacpp.CommonParams()
params.model.path, params.port = o.m, o.port
params.hostnames, params.api_keys = [o.host], [os.environ["LLAMA_API_KEY"]]
params.n_ctx, params.n_parallel, params.n_batch, params.n_gpu_layers = o.c, o.np, o.b, 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = o.t
params.no_extra_bufts, params.warmup, params.fit_params = True, False, False
flash = xllamacpp.llama_flash_attn_type
params.flash_attn_type = flash.LLAMA_FLASH_ATTN_TYPE_ENABLED if os.environ["LLAMA_ARG_FLASH_ATTN"] == "on" else flash.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = xllamacpp.Server(params)
print("listening at", server.listening_address, flush=True)
threading.Event().wait()

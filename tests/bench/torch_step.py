# SPDX-License-Identifier: Apache-2.0
"""The step of bench_step in PyTorch, as people train today: diffusers' PRX
transformer in float32, gradients clipped, AdamW.

    python torch_step.py SIZE STEPS THREADS [compile]

Prints the median in milliseconds and the process's peak memory in MiB.
"""
import resource
import statistics
import sys
import time

import torch
from diffusers import PRXTransformer2DModel

SIZES = {  # hidden, depth, heads, text width, batch, side of the latent, text tokens
    "nano": (192, 6, 6, 256, 16, 16, 64),
    "mid": (384, 8, 12, 256, 8, 32, 128),
    "small2": (1792, 2, 28, 2304, 4, 32, 256),
}


def main():
    hidden, depth, heads, width, batch, side, tokens = SIZES[sys.argv[1]]
    n_steps = int(sys.argv[2])
    torch.set_num_threads(int(sys.argv[3]))
    torch.manual_seed(0)
    axis = hidden // heads // 2
    model = PRXTransformer2DModel(
        in_channels=16, patch_size=2, context_in_dim=width, hidden_size=hidden,
        mlp_ratio=3.5, num_heads=heads, depth=depth, axes_dim=[axis, axis])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95),
                                  eps=1e-15, weight_decay=0)
    forward = torch.compile(model) if "compile" in sys.argv[4:] else model
    latent = torch.randn(batch, 16, side, side)
    text = torch.randn(batch, tokens, width)
    mask = torch.ones(batch, tokens, dtype=torch.bool)

    def step():
        noise = torch.randn_like(latent)
        t = torch.sigmoid(torch.randn(batch))
        mix = t.view(-1, 1, 1, 1)
        noised, velocity = (1 - mix) * latent + mix * noise, noise - latent
        optimizer.zero_grad()
        got = forward(hidden_states=noised, timestep=t, encoder_hidden_states=text,
                      attention_mask=mask, return_dict=False)[0]
        torch.nn.functional.mse_loss(got, velocity).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.2)
        optimizer.step()

    for _ in range(2):
        step()
    times = []
    for _ in range(n_steps):
        start = time.monotonic()
        step()
        times.append(time.monotonic() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{statistics.median(times) * 1e3:.1f} {peak:.0f}")


main()

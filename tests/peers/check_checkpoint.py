# SPDX-License-Identifier: Apache-2.0
"""Checkpoints by safetensors and diffusers, which must compute what we compute."""

import json
import subprocess
from pathlib import Path

import numpy
import safetensors.torch
import torch
from diffusers import PRXTransformer2DModel
from diffusers.utils import logging
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from peers import GOLDEN, check

CHECKPOINT = sorted(Path("trained").glob("ckpt-*"))[-1]
TRANSFORMER = CHECKPOINT / "transformer"
WEIGHTS = TRANSFORMER / "diffusion_pytorch_model.safetensors"
logging.set_verbosity_error()


@check
def weights():
    """safetensors reads the weights: finite, float32"""
    tensors = load_file(WEIGHTS)
    assert len(tensors) > 50
    for name, tensor in tensors.items():
        assert tensor.dtype == numpy.float32 and numpy.isfinite(tensor).all(), name
    with safe_open(WEIGHTS, "np") as file:
        assert (file.metadata() or {}).get("format", "pt") == "pt"


@check
def moments():
    """safetensors reads the optimiser's moments, one for each weight"""
    names = set(load_file(WEIGHTS))
    for moment in ("moment1", "moment2"):
        tensors = load_file(CHECKPOINT / "trainer" / f"{moment}.safetensors")
        assert set(tensors) == names, moment


@check
def exported():
    """safetensors and torch read an exported model: bfloat16, rounded to the nearest"""
    subprocess.run(["prx-export", "-q", "trained", "-o", "exported", "--dtype", "bf16",
                    "--overwrite"], check=True)
    kept = safetensors.torch.load_file(WEIGHTS)
    given = safetensors.torch.load_file(Path("exported/transformer") / WEIGHTS.name)
    assert set(kept) == set(given)
    for name, tensor in kept.items():
        assert torch.equal(tensor.to(torch.bfloat16), given[name]), name


def model():
    model, info = PRXTransformer2DModel.from_pretrained(
        TRANSFORMER, output_loading_info=True, low_cpu_mem_usage=False)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[problem], f"{problem}: {info[problem]}"
    return model.eval()


@check
def opened():
    """diffusers opens the transformer, every weight in its place"""
    count = sum(p.numel() for p in model().parameters())
    assert count == sum(tensor.size for tensor in load_file(WEIGHTS).values())


def draw(config):
    """An input of two samples, the second with a shorter text."""
    rng = torch.Generator().manual_seed(7)
    mask = torch.ones(2, 24, dtype=torch.bool)
    mask[1, 15:] = False
    return {
        "latent": torch.randn(2, config["in_channels"], 12, 16, generator=rng),
        "timestep": torch.tensor([0.25, 0.9]),
        "text": torch.randn(2, 24, config["context_in_dim"], generator=rng),
        "text_mask": mask,
    }


def predict(model, drawn, dtype):
    with torch.no_grad():
        return model.to(dtype)(
            hidden_states=drawn["latent"].to(dtype),
            timestep=drawn["timestep"].to(dtype),
            encoder_hidden_states=drawn["text"].to(dtype),
            attention_mask=drawn["text_mask"],
        ).sample.double()


@check
def same_output():
    """diffusers gives the same output as our denoiser on the same input"""
    config = json.loads((TRANSFORMER / "config.json").read_text())
    drawn = draw(config)
    single = predict(model(), drawn, torch.float32)
    rounding = (single - predict(model(), drawn, torch.float64)).abs().max().item()
    largest = single.abs().max().item()
    assert largest > 0.01, "the model was not trained at all"

    # A golden case that diffusers has written, for our own runner.
    case = Path("peers/denoiser_forward_diffusers")
    case.mkdir(parents=True)
    tensors = {"w." + name: tensor for name, tensor in load_file(WEIGHTS).items()}
    for name, tensor in drawn.items():
        tensor = tensor.int() if tensor.dtype == torch.bool else tensor
        tensors["in." + name] = tensor.numpy()
    inputs = sorted(tensors)
    tensors["out.prediction"] = single.float().numpy()
    save_file(tensors, case / "case.safetensors")
    keys = ("in_channels", "patch_size", "context_in_dim", "hidden_size", "mlp_ratio",
            "num_heads", "depth", "axes_dim", "theta", "time_factor",
            "time_max_period", "bottleneck_size")
    atol = max(20 * rounding, 2e-6 * largest, 1e-9)
    tolerance = {"atol": atol, "fp32_vs_fp64": rounding, "max_abs": largest}
    case.joinpath("case.json").write_text(json.dumps({
        "name": case.name,
        "op": "denoiser_forward",
        "config": {
            "model": {key: config.get(key) for key in keys},
            "naming": "diffusers",
            "resolution_mode": None,
        },
        "inputs": inputs,
        "expect": ["out.prediction"],
        "rtol": 1e-5,
        "atol": atol,
        "tol": {"out.prediction": tolerance},
        "debug": [],
        "note": "",
    }))
    result = subprocess.run([GOLDEN, "peers"], capture_output=True, text=True)
    said = result.stdout + result.stderr
    assert result.returncode == 0 and "ok denoiser_forward" in said, said

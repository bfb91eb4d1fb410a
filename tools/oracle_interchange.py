#!/usr/bin/env python3
"""Make the goldens of tests/data/interchange: checkpoints between Comet and the ecosystem, both ways (./dev oracle).

Needs torch, transformers (>= 5) and compressed-tensors (>= 0.15); the CPU suffices.
  foreign  (default) tiny checkpoints written by the compressed-tensors package itself -> tests/data/interchange/ct_*;
           weight_g_idx by the last release that wrote it: pip install --no-deps --target DIR compressed-tensors==0.12.2,
           then --old-package DIR
  base     the dense models that Comet quantizes for --read -> DIR
  read     checkpoints written by Comet, loaded by transformers: comet quantize DIR/base -o comet_w4a16 --format w4a16
           --calib DIR/base/calibration.txt; of DIR/base-small: comet_w8a8_int, comet_w8a8_fp8
  compare  what `comet export --format compressed-tensors` made of gptq_* and awq_*, read back by the package
Each folder gets golden.json: prompt, FP32 logits of some positions, and the CRC-32 of every dequantized linear in FP32.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import zlib

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "tests/data/interchange"
PROMPT = [1, 7, 33, 50, 12, 5, 61, 40, 28, 19, 3, 44]
LOGIT_ROWS = [0, 1, 5, 11]
SMALL = dict(hidden=64, ffn=96)


def tiny_model(seed, dtype, hidden=128, ffn=128):
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=64, hidden_size=hidden, intermediate_size=ffn, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64, bos_token_id=1,
                         eos_token_id=2, initializer_range=0.1, tie_word_embeddings=True)
    return LlamaForCausalLM(config).to(dtype).eval()


def linears(model):
    return [(name, module) for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and name != "lm_head"]


@torch.no_grad()
def logits_of(model, **kwargs):
    return model(torch.tensor([PROMPT]), **kwargs).logits[0].float()


@torch.no_grad()
def logits_of_127(model):
    """The same weights, INT8 inputs scaled by absmax/127 as Comet and vLLM do (the package: 127.5)."""
    def rounded(module, inputs):
        scale = inputs[0].abs().amax(-1, keepdim=True) / 127
        return ((inputs[0] / scale).round().clamp(-127, 127) * scale,)

    hooks = []
    for _, module in linears(model):
        scheme = getattr(module, "quantization_scheme", None)
        if scheme is None or scheme.input_activations is None or scheme.input_activations.type != "int":
            continue
        module.quantization_enabled = False
        hooks.append(module.register_forward_pre_hook(rounded))
    logits = logits_of(model) if hooks else None
    for hook in hooks:
        hook.remove()
    return logits


def write_golden(folder, model, logits, logits_127=None):
    weights = {name: zlib.crc32(module.weight.detach().float().contiguous().numpy().tobytes())
               for name, module in linears(model)}
    golden = {"prompt": PROMPT, "weights": weights, "logit_rows": LOGIT_ROWS}
    for key, values in (("logits", logits), ("logits_127", logits_127)):
        if values is not None:
            golden[key] = [[float(f"{x:.7g}") for x in row] for row in values[LOGIT_ROWS].tolist()]
    (folder / "golden.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


@torch.no_grad()
def decompressed(folder):
    """A dense model with the weights that the package's decompressor makes of a folder of one weight-only group."""
    from compressed_tensors.compressors import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationConfig
    from safetensors.torch import load_file
    tensors = {k: v for shard in folder.glob("*.safetensors") for k, v in load_file(shard).items()}
    raw = json.loads((folder / "config.json").read_text())
    scheme = QuantizationConfig.model_validate(raw.pop("quantization_config")).config_groups["group_0"]
    model = LlamaForCausalLM(LlamaConfig(**raw)).float().eval()
    for name, module in linears(model):
        if f"{name}.weight_packed" in tensors:
            part = {k.removeprefix(name + "."): v for k, v in tensors.items() if k.startswith(name + ".")}
            part["weight_scale"] = part["weight_scale"].float()
            module.weight.data = PackedQuantizationCompressor.decompress(part, scheme)["weight"]
    dense = {k: v.float() for k, v in tensors.items() if not k.rsplit(".", 1)[-1].startswith("weight_")}
    unexpected = model.load_state_dict(dense, strict=False).unexpected_keys
    assert not unexpected, unexpected
    return model


@torch.no_grad()
def read_back(folder):
    """What transformers with compressed-tensors computes from a folder, in FP32."""
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    except RuntimeError:  # transformers 5.24 gives packed zero points the shape of unpacked ones
        model = decompressed(folder)
    quantize_cache(model, folder)
    logits = logits_of(model)  # the first pass decompresses
    write_golden(folder, model, logits, logits_of_127(model))


def quantize_cache(model, folder):
    """What kv_cache_scheme asks for: the package's hooks do not know the attention of transformers 5.24."""
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize
    from safetensors import safe_open
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    scheme = json.loads((folder / "config.json").read_text())["quantization_config"].get("kv_cache_scheme")
    if scheme is None:
        return
    scheme = QuantizationArgs.model_validate(scheme)
    scales = {}
    for shard in folder.glob("*.safetensors"):
        with safe_open(shard, "pt") as file:
            scales.update({key: file.get_tensor(key).float() for key in file.keys() if key.endswith(("k_scale", "v_scale"))})

    def attention(module, query, key, value, *rest, **more):
        name = f"model.layers.{module.layer_idx}.self_attn."
        key = fake_quantize(key, scales[name + "k_scale"], None, scheme)
        value = fake_quantize(value, scales[name + "v_scale"], None, scheme)
        return sdpa_attention_forward(module, query, key, value, *rest, **more)

    AttentionInterface.register("coded_cache", attention)
    AttentionMaskInterface.register("coded_cache", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model.set_attn_implementation("coded_cache")


def weight_range(weight, args):
    """Smallest and largest weight of each scale's span."""
    if args.strategy == "tensor":
        spans = weight.reshape(1, 1, -1)
    elif args.strategy == "channel":
        spans = weight[:, None, :]
    else:
        spans = weight.unflatten(-1, (-1, args.group_size))
    return spans.amin(-1), spans.amax(-1)


@torch.no_grad()
def calibrate(model):
    """Scales of weights, static inputs and the cache, by the package's own formula from what a pass sees."""
    from compressed_tensors.quantization.utils import calculate_qparams
    seen = {}
    hooks = [module.register_forward_pre_hook(
        lambda m, args, name=name: seen.__setitem__(name, args[0].abs().max().float()))
        for name, module in linears(model)]
    for _, module in linears(model):
        module.quantization_enabled = False
    cache = model(torch.tensor([PROMPT]), use_cache=True).past_key_values
    for hook in hooks:
        hook.remove()
    for name, module in linears(model):
        module.quantization_enabled = True
        scheme = getattr(module, "quantization_scheme", None)
        if scheme is None:
            continue
        low, high = weight_range(module.weight, scheme.weights)
        scale, zero = calculate_qparams(low, high, scheme.weights)
        module.weight_scale.copy_(scale.reshape(module.weight_scale.shape))
        if getattr(module, "weight_zero_point", None) is not None:
            module.weight_zero_point.copy_(zero.float().round().reshape(module.weight_zero_point.shape))
        if getattr(module, "input_scale", None) is not None:
            module.input_scale.fill_(seen[name] / (448 if scheme.input_activations.type == "float" else 127.5))
    return {f"model.layers.{i}.self_attn.{key}": (values.abs().max().float() / 448).to(values.dtype).reshape(1)
            for i, layer in enumerate(cache.layers) for key, values in (("k_scale", layer.keys), ("v_scale", layer.values))}


def add_cache_scales(folder, scales, scheme):
    """kv_cache_scheme and its scales, as llm-compressor leaves them for vLLM."""
    from safetensors.torch import load_file, save_file
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, **scales}, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"]["kv_cache_scheme"] = json.loads(scheme.model_dump_json())
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write_foreign(name, config, seed, dtype=torch.bfloat16, shard="1GB", **sizes):
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
    model = tiny_model(seed, dtype, **sizes)
    quantization = QuantizationConfig.model_validate(config)
    apply_quantization_config(model, quantization)
    cache_scales = calibrate(model)
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    compressor.remove_decompression_hook(model)
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, max_shard_size=shard)
    compressor.update_config(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if quantization.kv_cache_scheme is not None:
        add_cache_scales(folder, cache_scales, quantization.kv_cache_scheme)
    read_back(folder)


def args(num_bits, kind="int", **more):
    return dict(num_bits=num_bits, type=kind, **more)


def group(targets, weights, inputs=None):
    return dict(targets=targets, weights=weights, input_activations=inputs)


def write_all_foreign():
    linear = ["Linear"]
    token8 = args(8, strategy="token", dynamic=True)
    write_foreign("ct_asym_g64", seed=1, config=dict(
        config_groups={"group_0": group(linear, args(4, symmetric=False, strategy="group", group_size=64))},
        ignore=["lm_head", "re:.*down_proj"]))
    write_foreign("ct_mixed", seed=2, **SMALL, dtype=torch.float16, config=dict(
        config_groups={"attention": group(["re:.*self_attn\\..*_proj$"], args(4, strategy="channel")),
                       "rest": group(linear, args(8, strategy="channel"), token8)}, ignore=["lm_head"]))
    write_foreign("ct_g32", seed=3, dtype=torch.float32, ffn=96, config=dict(
        config_groups={"group_0": group(linear, args(4, symmetric=False, strategy="group", group_size=32))},
        ignore=["lm_head"]))
    # FP32: inputs that come of BF16 embeddings fall on ties, where x / s and x * (1 / s) part.
    write_foreign("ct_int8", seed=4, **SMALL, dtype=torch.float32, config=dict(
        config_groups={"group_0": group(linear, args(8, strategy="channel"), token8)}, ignore=["lm_head"]))
    write_foreign("ct_fp8", seed=5, **SMALL, dtype=torch.float32, shard="20KB", config=dict(
        config_groups={"group_0": group(linear, args(8, "float", strategy="channel"),
                                        args(8, "float", strategy="token", dynamic=True))}, ignore=["lm_head"]))
    write_foreign("ct_fp8_static", seed=6, **SMALL, config=dict(
        config_groups={"group_0": group(linear, args(8, "float", strategy="tensor"),
                                        args(8, "float", strategy="tensor", dynamic=False))}, ignore=["lm_head"],
        kv_cache_scheme=args(8, "float", strategy="tensor", dynamic=False)))


@torch.no_grad()
def write_g_idx():
    """In a process that imports the old package: codes, scales and weight_g_idx as its compressor wrote them."""
    import compressed_tensors
    from compressed_tensors.compressors.quantized_compressors.pack_quantized import PackedQuantizationCompressor
    from compressed_tensors.quantization import QuantizationArgs
    from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
    from compressed_tensors.quantization.utils import calculate_qparams
    from safetensors.torch import save_file
    quantization = QuantizationArgs(num_bits=4, type="int", symmetric=True, strategy="group", group_size=32,
                                    actorder="group")
    model = tiny_model(7, torch.bfloat16, ffn=96)
    folder = OUT / "ct_g_idx"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tensors = {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}
    compressor = PackedQuantizationCompressor()
    orders = {}
    for name, module in linears(model):
        weight = tensors.pop(name + ".weight")
        columns = weight.shape[1]
        site = (name.rsplit(".", 1)[0], name.endswith(("o_proj", "down_proj")))
        order = orders.setdefault(site, torch.randperm(columns))
        g_idx = torch.empty(columns, dtype=torch.int32)
        g_idx[order] = (torch.arange(columns) // 32).to(torch.int32)
        low, high = weight_range(weight[:, order], quantization)
        scale, zero = calculate_qparams(low, high, quantization)
        packed = compressor.compress_weight(weight=weight, scale=scale, zero_point=zero.to(torch.int8), g_idx=g_idx,
                                            quantization_args=quantization)
        packed["weight_scale"] = scale
        packed["weight_g_idx"] = g_idx
        codes = quantize(weight, scale, zero.to(torch.int8), quantization, dtype=torch.int8, g_idx=g_idx)
        module.weight.data = dequantize(codes.float(), scale.float(), zero.float(), quantization,
                                        dtype=torch.float32, g_idx=g_idx)
        for key, value in packed.items():
            tensors[f"{name}.{key}"] = value.contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
        "version": compressed_tensors.__version__, "ignore": ["lm_head"], "kv_cache_scheme": None,
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": json.loads(quantization.model_dump_json()),
                                      "input_activations": None, "output_activations": None}}}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    whole = LlamaForCausalLM(model.config).float().eval()  # model's own rotary frequencies are BF16
    whole.load_state_dict({key: value.float() for key, value in model.state_dict().items()})
    write_golden(folder, whole, logits_of(whole))


def keep_written(folder):
    """Reads what Comet wrote, as it is, then keeps it without the room that its header reserves."""
    from safetensors.torch import load_file, save_file
    read_back(folder)
    out = OUT / folder.name
    out.mkdir(parents=True, exist_ok=True)
    save_file(load_file(folder / "model.safetensors"), out / "model.safetensors", metadata={"format": "pt"})
    for name in ("config.json", "golden.json"):
        shutil.copy(folder / name, out / name)


def compare(folder):
    """What the package makes of a folder that `comet export --format compressed-tensors` wrote, against its source."""
    read_back(folder)
    got, want = (json.loads((place / "golden.json").read_text()) for place in (folder, OUT / folder.name))
    logits, wanted = torch.tensor(got["logits"]), torch.tensor(want["logits"])
    error = ((logits - wanted).abs().max() / wanted.abs().max()).item()
    print(folder.name, "weights equal" if got["weights"] == want["weights"] else "WEIGHTS DIFFER", f"logits {error:.1e}")


@torch.no_grad()
def perplexity(folder, text, num_tokens=511):
    """Of the text's first tokens behind BOS: what `comet eval --tasks text:TEXT --num-tokens 511` measures."""
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text[:64 * num_tokens], add_special_tokens=False).input_ids[:num_tokens]
    tokens = torch.tensor([[tokenizer.bos_token_id, *ids]])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return torch.nn.functional.cross_entropy(model(tokens).logits[0, :-1], tokens[0, 1:]).exp().item()


def write_base(folder, model):
    """A model to quantize, with a tokenizer of single letters and a text to calibrate on."""
    model.save_pretrained(folder)
    # The text's letters come first: the model knows 64 tokens, a byte-level vocabulary has 256.
    bytes_of = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spelled = [chr(b) for b in bytes_of] + [chr(256 + i) for i in range(256 - len(bytes_of))]
    first = "\u0120\u010aabcdefghijklmnopqrstuvwxyz"
    letters = {letter: i for i, letter in enumerate([*first, *(s for s in spelled if s not in first)])}
    tokenizer = {"version": "1.0", "added_tokens": [], "normalizer": None, "post_processor": None,
                 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                                   "use_regex": True},
                 "decoder": {"type": "ByteLevel"},
                 "model": {"type": "BPE", "dropout": None, "unk_token": None, "ignore_merges": False,
                           "vocab": letters, "merges": []}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(0, 27, (20000,), generator=generator).tolist()
    (folder / "calibration.txt").write_text("".join(" abcdefghijklmnopqrstuvwxyz"[c] for c in codes) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old-package", type=pathlib.Path, help="folder with compressed-tensors 0.12.2")
    parser.add_argument("--base", type=pathlib.Path, help="write the dense models base and base-small, and stop")
    parser.add_argument("--read", type=pathlib.Path, nargs="*", help="folders that Comet wrote, to be read and kept")
    parser.add_argument("--compare", type=pathlib.Path, nargs="*", help="exported folders of the same names")
    parser.add_argument("--perplexity", type=pathlib.Path, nargs="+", metavar=("TEXT", "FOLDER"))
    parser.add_argument("--g-idx", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.g_idx:
        write_g_idx()
    elif options.base:
        write_base(options.base / "base", tiny_model(8, torch.bfloat16))
        write_base(options.base / "base-small", tiny_model(9, torch.float32, **SMALL))
    elif options.read:
        for folder in options.read:
            keep_written(folder)
    elif options.perplexity:
        text = options.perplexity[0].read_text()
        for folder in options.perplexity[1:]:
            print(folder, f"{perplexity(folder, text):.4f}")
    elif options.compare:
        for folder in options.compare:
            compare(folder)
    else:
        write_all_foreign()
        if options.old_package:
            subprocess.run([sys.executable, __file__, "--g-idx"], check=True,
                           env={"PYTHONPATH": str(options.old_package), "PATH": "/usr/bin:/bin"})
    import transformers
    print("torch", torch.__version__, "transformers", transformers.__version__)


if __name__ == "__main__":
    main()

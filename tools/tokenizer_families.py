"""Small tokenizers with the normalizer, pre-tokenizer, decoder and post-processor of well-known
model families, trained here because the real files cannot be shipped. For make_tokenizer_cases.py
and compare_tokenizers.py. A family is a row in FAMILIES."""

import json
import pathlib

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORPUS_BYTES = 150_000
MARK = "\u2581"

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
          r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK3 = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
             r"|\s*[\r\n]+|\s+(?!\S)|\s+")
WORDS = r"\w+|[^\w\s]+|\d|\D\W|\p{Han}+"


def split(regex, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def byte_level(use_regex=False, add_prefix_space=False):
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


def sequence(field, *stages):
    return {"type": "Sequence", field: list(stages)}


def stages(*list_of):
    return sequence("pretokenizers", *list_of)


def replace(before, after):
    return {"type": "Replace", "pattern": {"String": before}, "content": after}


def metaspace(scheme, split_words):
    return {"type": "Metaspace", "replacement": MARK, "prepend_scheme": scheme, "split": split_words}


PREPEND = {"type": "Prepend", "prepend": MARK}
BYTE_LEVEL_DECODER = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
TO_BLANK, BYTES, FUSE = replace(MARK, " "), {"type": "ByteFallback"}, {"type": "Fuse"}
STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
LLAMA2_DECODER = sequence("decoders", TO_BLANK, BYTES, FUSE, STRIP)
DIGITS = {"type": "Digits", "individual_digits": True}


def special(content, **flags):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} | flags


UNK_BOS_EOS = [special("<unk>"), special("<s>"), special("</s>")]
SENTENCE = {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}

# name: what stands in its tokenizer.json; "bos" is put before every text. Model options at the end.
FAMILIES = {
    "gpt2": dict(pre=byte_level(True), added=[special("<|endoftext|>")]),
    "roberta": dict(pre=byte_level(True, True), added=[special("<mask>", lstrip=True)]),
    "llama3": dict(pre=stages(split(LLAMA3), byte_level()), added=[special("<|bos|>"), special("<|eot_id|>")], bos="<|bos|>", ignore_merges=True),
    "cl100k": dict(pre=stages(split(CL100K), byte_level()), added=[special("<|endoftext|>")]),
    "qwen": dict(norm={"type": "NFC"}, pre=stages(split(QWEN2), byte_level()),
                 added=[special("<|endoftext|>"), special("<|im_start|>"), special("<|im_end|>"), special("<tool_call>", special=False),
                        special("<think>", special=False)]),
    "tekken": dict(pre=stages(split(TEKKEN), byte_level()), added=[special("<unk>"), special("<s>"), special("[INST]"), special("[/INST]")],
                   bos="<s>", ignore_merges=True),
    "o200k": dict(pre=stages(split(O200K), byte_level()), added=[special("<|start|>"), special("<|end|>")]),
    "deepseek3": dict(pre=stages(split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK3), byte_level()),
                      added=[special("<｜begin▁of▁sentence｜>"), special("<｜User｜>")], bos="<｜begin▁of▁sentence｜>"),
    "deepseek": dict(pre=stages(split(r"[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"), DIGITS, byte_level()),
                     added=[special("<｜begin▁of▁sentence｜>")], bos="<｜begin▁of▁sentence｜>"),
    "starcoder": dict(pre=stages(DIGITS, byte_level(True)), added=[special("<|endoftext|>"), special("<fim_prefix>")]),
    "falcon": dict(pre=stages({"type": "Punctuation", "behavior": "Contiguous"}, byte_level(True), {"type": "Digits", "individual_digits": False},
                              split("[0-9][0-9][0-9]")), added=[special(">>TITLE<<"), special("<|endoftext|>")]),
    "behaviors": dict(pre=stages(split(r"[aeiou]+", "MergedWithPrevious"), split(r"\d", "MergedWithNext"), split(r"\s+", "Removed"),
                                 split(r"[.!?]", "Contiguous"), split(WORDS, "Isolated", True), byte_level()), added=[]),
    "odd_regex": dict(pre=stages(split(r"(?<=\p{P})x?|^-+|[^\S\n]+$|(?i:straße|k)|\u00e9\x{e8}|\S\s\S|(?>a+)b*?c{1,2}"), byte_level()), added=[]),
    "llama2": dict(norm=sequence("normalizers", PREPEND, replace(" ", MARK)), decoder=LLAMA2_DECODER, added=UNK_BOS_EOS, bos="<s>", **SENTENCE),
    "mistral": dict(pre=metaspace("first", False), decoder=LLAMA2_DECODER,
                    added=UNK_BOS_EOS + [special("[INST]"), special("[/INST]")], bos="<s>", **SENTENCE),
    "gemma": dict(norm=replace(" ", MARK), pre={"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
                  decoder=sequence("decoders", TO_BLANK, BYTES, FUSE),
                  added=[special("<pad>"), special("<eos>"), special("<bos>"), special("<unk>"), special("<start_of_turn>"), special("<end_of_turn>"),
                         special("\n\n", special=False), special("▁▁▁", special=False)], bos="<bos>", **SENTENCE),
    "phi3": dict(norm=sequence("normalizers", PREPEND, replace(" ", MARK)), decoder=LLAMA2_DECODER,
                 added=[special("<unk>"), special("<s>"), special("</s>", rstrip=True, special=False), special("<|end|>", rstrip=True),
                        special("<|user|>", rstrip=True), special("<|assistant|>", rstrip=True)], **SENTENCE),
    "metaspace": dict(pre=metaspace("always", True), decoder=metaspace("always", True),
                      added=UNK_BOS_EOS + [special("a b", normalized=True)], unk_token="<unk>", fuse_unk=False),
    "unknown": dict(pre=stages(metaspace("never", True), {"type": "Punctuation", "behavior": "Isolated"}), decoder=sequence("decoders", TO_BLANK, BYTES),
                    added=UNK_BOS_EOS, unk_token="<unk>", fuse_unk=True, byte_fallback=True, missing_bytes=True),
}


def corpus():
    text = (ROOT / "models/demo/calibration.txt").read_text()[:CORPUS_BYTES]
    return text.splitlines(keepends=True)


def train(pre, alphabet, num_tokens):
    """(tokens, merges) of a BPE trained on the demo's text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre
    trainer = trainers.BpeTrainer(vocab_size=num_tokens, initial_alphabet=alphabet, limit_alphabet=max(256, len(alphabet)), show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), model["merges"]


def add_tokens(family, tokens, merges):
    """Model vocabulary and added tokens: added ones first where the model is SentencePiece's."""
    added = [dict(token) for token in family["added"]]
    if "unk_token" not in family:
        vocab = {token: i for i, token in enumerate(tokens)}
        for i, token in enumerate(added):
            token["id"] = len(vocab) + i
        return vocab, added, merges
    names = [token["content"] for token in added]
    if family.get("byte_fallback"):
        names += [f"<0x{b:02X}>" for b in range(256) if not family.get("missing_bytes") or b % 16 != 10]
    pairs = [(MARK, MARK), (MARK * 2, MARK * 2), (MARK * 2, MARK), ("\n", "\n")]
    tokens = tokens + ["\n", "\t"] + [a + b for a, b in pairs]
    vocab = {}
    for token in names + tokens:
        vocab.setdefault(token, len(vocab))
    for token in added:
        token["id"] = vocab[token["content"]]
    seen = {tuple(m) for m in merges}
    return vocab, added, merges + [list(p) for p in pairs if p not in seen]


def make(name, num_tokens):
    """The tokenizer.json of a family with about `num_tokens` trained tokens, as a dict."""
    family = FAMILIES[name]
    if "unk_token" in family:
        tokens, merges = train(pre_tokenizers.Metaspace(), [], num_tokens)
    else:
        tokens, merges = train(pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.ByteLevel.alphabet(), num_tokens)
    vocab, added, merges = add_tokens(family, tokens, merges)
    single = [{"Sequence": {"id": "A", "type_id": 0}}]
    template = {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": {}}
    bos = family.get("bos")
    if bos:
        single.insert(0, {"SpecialToken": {"id": bos, "type_id": 0}})
        bos_id = next(t["id"] for t in added if t["content"] == bos)
        template["special_tokens"][bos] = {"id": bos, "ids": [bos_id], "tokens": [bos]}
    template["pair"] = single + [{"Sequence": {"id": "B", "type_id": 1}}]
    order = ["id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"]
    model = {"type": "BPE", "dropout": None, "unk_token": family.get("unk_token"), "continuing_subword_prefix": None, "end_of_word_suffix": None,
             "fuse_unk": family.get("fuse_unk", False), "byte_fallback": family.get("byte_fallback", False),
             "ignore_merges": family.get("ignore_merges", False), "vocab": vocab, "merges": merges}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [{k: t[k] for k in order} for t in sorted(added, key=lambda t: t["id"])],
            "normalizer": family.get("norm"), "pre_tokenizer": family.get("pre"), "post_processor": template,
            "decoder": family.get("decoder", BYTE_LEVEL_DECODER), "model": model}


def special_texts(spec):
    return [t["content"] for t in spec["added_tokens"]]

"""Random and hand-picked texts that are hard for a tokenizer, for make_tokenizer_goldens.py and
compare_tokenizers.py. Everything is a function of the seed."""

import json
import random

SPACES = [" ", "  ", "\t", "\n", "\r", "\r\n", "\n\n", "\x0b", "\x0c", "\x85", "\xa0", "\u1680",
          "\u2003", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\u200b", "\ufeff", "\x1c", "\x1f"]
CONTRACTIONS = ["'s", "'S", "'t", "'T", "'re", "'RE", "'rE", "'ve", "'Ve", "'m", "'M", "'ll", "'lL", "'d", "'D",
                "'\u017f", "'\u017ft", "'K", "'\u212a", "'r", "'v", "'l", "'l l", "''s", "'\u2019s", "\u2019s",
                "'\ufb05", "'\ufb06", "'\u1e9e", "'rE\u0301", "'se", "'\u0131"]
EMOJI = ["😀", "👩‍👩‍👧‍👦", "👍🏽", "🏳️‍🌈", "🇩🇪", "❤️", "1️⃣", "🧑🏿‍🚀", "‍", "️", "☃", "🫠"]
PUNCTUATION = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["…", "—", "«", "»", "。", "、", "؟", "€", "±", "...", "!!\n", "?\r\n\r\n"]
CONTROL = ["\x00", "\x01", "\x07", "\x1b", "\x7f", "\x80", "\x9f", "\xad", "\u200e", "\u2060", "\ufffe", "\uffff", "\U0010ffff"]
DIGITS = ["0", "12", "345", "6789", "٣٤٥٦", "१२३४", "９８７６", "𝟘𝟙𝟚𝟛", "½", "²³", "Ⅷ", "①②③④", "๑๒", "〇", "㊿", "𐄇", "3.14", "1,000,000"]
WORDS = ["the", "The", " the", "hello", " world", "don", "I", "it", " language", "antidisestablishmentarianism", "naïve", "Straße",
         "İstanbul", "ǅ", "ﬁ", "ſ", "café", "cafe\u0301", "Ünïcödé", "Привет", "мир", "γλώσσα", "ᾳ", "שלום", "עולם", "العَرَبِيَّة",
         "हिन्दी", "विश्व", "বাংলা", "தமிழ்", "ภาษาไทย", "ລາວ", "မြန်မာ", "ខ្មែរ", "ქართული", "հայերեն", "አማርኛ", "日本語", "ひらがな", "カタカナ",
         "中文字符", "한국어", "ᏣᎳᎩ", "ᚠᚢᚦ", "𐍈", "𝕳𝖊𝖑𝖑𝖔", "𠜎𠜱", "ⵜⴰⵎⴰⵣⵉⵖⵜ", "Tiếng", "Việt", "ʻokina", "\u02bc", "ª", "º", "々", "ー"]
COMMON_SPECIALS = ["<|eot_id", "|>", "<|", "<<|eot_id|>>", "<|EOT_ID|>", "\u2581", "\u2581\u2581", "<0x41>", "<unk>"]
SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|pad|>", "<|reserved_0|>", "<|eot_id", "|>", "<|", "<<|eot_id|>>",
            "<|EOT_ID|>"]  # of the demo; compare_tokenizers.py puts another tokenizer's here
GROUPS = [SPACES, SPACES, CONTRACTIONS, EMOJI, PUNCTUATION, CONTROL, DIGITS, WORDS, WORDS, WORDS, SPECIALS]

FIXED = [
    "", " ", "  ", "\n", "a", "Hello, world!", "I'm sure they'll say we've done what you'd do; it's John's.",
    "  leading and trailing  ", "tabs\tand\nnewlines\r\n\r\nmixed \t \n x", "a  b   c    d", "x\n\n\n  y\n \n z", "'", "''''", "don'",
    "'s's's", "1234567890", "a1b22c333d4444", "<|begin_of_text|>Hi<|eot_id|>\n <|end_of_text|> there", "<|eot_id|><|eot_id|>",
    "x" * 300, "ab" * 150, " " * 70 + "x", "\n" * 40, "." * 100, "é" * 100, "漢" * 64, "the " * 60, "Donaudampfschifffahrtsgesellschaft" * 4,
    "def f(x):\n    if x:\n        return x**2  # comment\n\n\nprint(f(3))\n", "https://example.org/a?b=c&d=%20#frag", "a\u0301\u0302b", "\ufeffBOM",
]

STRIPPERS = [  # content, single_word, lstrip, rstrip, normalized, special
    ("<w>", True, False, False, False, True),
    ("<l>", False, True, False, False, True),
    ("<r>", False, False, True, False, False),
    ("<lr>", False, True, True, True, False),
    ("<lrw>", True, True, True, True, True),
    ("the", True, False, False, True, False),
    ("hello<", False, False, False, True, False),
    ("naïve", False, False, False, False, False),
]


def random_code_point(rng):
    top = rng.choice([0x80, 0x250, 0x800, 0x3000, 0x10000, 0x20000, 0x110000])
    while True:
        c = rng.randrange(top)
        if not 0xD800 <= c <= 0xDFFF:
            return chr(c)


def random_text(rng, max_parts=12):
    parts = []
    for _ in range(rng.randint(1, max_parts)):
        kind = rng.random()
        if kind < 0.78:
            parts.append(rng.choice(rng.choice(GROUPS)))
        elif kind < 0.88:
            parts.append(rng.choice(rng.choice(GROUPS)) * rng.randint(2, 6))
        elif kind < 0.95:
            parts.append("".join(random_code_point(rng) for _ in range(rng.randint(1, 4))))
        else:
            parts.append("".join(rng.choice("abcdefghijklmnopqrstuvwxyzABC") for _ in range(rng.randint(1, 30))))
    return "".join(parts)


def random_bytes(rng, max_len=24):
    """Bytes that are mostly almost UTF-8: valid text with some bytes changed, dropped or added."""
    if rng.random() < 0.3:
        return bytes(rng.randrange(256) for _ in range(rng.randint(1, max_len)))
    data = bytearray(random_text(rng, 4).encode())
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        edit = rng.random()
        if edit < 0.4:
            data[at:at] = bytes([rng.choice([0x80, 0xBF, 0xC0, 0xC2, 0xE0, 0xED, 0xA0, 0xEF, 0xF0, 0xF4, 0x90, 0xF5, 0xFF])])
        elif edit < 0.8:
            del data[at : at + 1]
        else:
            del data[at:]
    return bytes(data)


def random_ids(rng, vocab_size, max_len=12):
    return [rng.randrange(vocab_size) for _ in range(rng.randint(1, max_len))]


def spiced(rng, text):
    """The text with the contents of a few STRIPPERS thrown in."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(STRIPPERS)[0] + text[at:]
    return text


def with_strippers(tokenizer_json):
    """The tokenizer with the tokens of STRIPPERS added and merges ignored for whole words."""
    spec = json.loads(tokenizer_json)
    vocab, added = spec["model"]["vocab"], spec["added_tokens"]
    next_id = 1 + max(list(vocab.values()) + [t["id"] for t in added])
    for content, single_word, lstrip, rstrip, normalized, special in STRIPPERS:
        if any(token["content"] == content for token in added):
            continue
        token_id = vocab.get(content, next_id)
        next_id += token_id == next_id
        added.append({"id": token_id, "content": content, "single_word": single_word, "lstrip": lstrip,
                      "rstrip": rstrip, "normalized": normalized, "special": special})
    spec["model"]["ignore_merges"] = True
    return json.dumps(spec)

#!/usr/bin/env python3
"""Writes tests/data/templates/goldens/<name>.json for every <name>.jinja there: what Python's jinja2
makes of it as transformers calls it, for each conversation of conversations.json. To add a model:
put its template there and run this.

usage: pip install jinja2; tools/make_template_goldens.py
"""

import json
import pathlib

import jinja2

import template_oracle

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests/data/templates"
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def final_text(messages):
    """The text that transformers' continue_final_message looks for."""
    content = messages[-1]["content"]
    if isinstance(content, (list, tuple)):
        content = next(block["text"] for block in reversed(content) if "text" in block)
    return content


def cut(text, final):
    at = text.rindex(final.strip())
    if text[at : at + len(final.lstrip())] == final:
        return text[: at + len(final.lstrip())]
    return text[: at + len(final.strip())]


def expected(env, template, case, tools):
    variables = {
        "messages": case["messages"], "tools": tools.get(case.get("tools")), "documents": None,
        "add_generation_prompt": case.get("add_generation_prompt", True), **SPECIAL_TOKENS, **case.get("variables", {}),
    }
    text, error = template_oracle.render(env, template, variables)
    if error is None and case.get("continue_final_message"):
        text = cut(text, final_text(case["messages"]))
    return {"error": error} if error else {"text": text}


def main():
    env = template_oracle.environment()
    conversations = json.loads((FOLDER / "conversations.json").read_text())
    tools = json.loads((FOLDER / "tools.json").read_text())
    num_texts = num_errors = 0
    (FOLDER / "goldens").mkdir(exist_ok=True)
    for path in sorted(FOLDER.glob("*.jinja")):
        rows = {name: expected(env, path.read_text(), case, tools) for name, case in conversations.items()}
        num_texts += sum("text" in row for row in rows.values())
        num_errors += sum("error" in row for row in rows.values())
        body = ",\n".join(f"{json.dumps(name)}: {json.dumps(row, ensure_ascii=False)}" for name, row in rows.items())
        made_by = f"tools/make_template_goldens.py with jinja2 {jinja2.__version__}"
        (FOLDER / "goldens" / f"{path.stem}.json").write_text(f'{{"made_by": "{made_by}",\n{body}}}\n')
    print(f"{num_texts} texts and {num_errors} errors")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""schemathesis makes requests from /openapi.json, good ones and bad ones: no 5xx, and answers as documented.

Runs in the virtual environment that `./dev deps` makes from tests/requirements.txt. COMET_LONG=1 tries more.
"""
import json
import os
import pathlib
import subprocess
import sys

import serving

LONG = os.environ.get("COMET_LONG") == "1"
EXAMPLES = "200" if LONG else "12"
# Second names of routes, which lead to the same endpoints.
ALIASES = "^/v1/(tokenize|detokenize|tokenizer_info)$|^/(completions|chat/completions|models)|^/v1/health$"


class Schema(serving.Case):
    FLAGS = ("--no-access-log", "--max-model-len", "128", "--max-n", "4", "--queue", "4096")

    def test_the_document_names_every_route(self):
        document = json.loads(self.server.get("/openapi.json")[2])
        self.assertEqual(document["openapi"], "3.1.0")
        for path, operations in document["paths"].items():
            for method in operations:
                if "{" in path:
                    continue
                status = self.server.request(method.upper(), path, {} if method == "post" else None)[0]
                self.assertEqual(status, 400 if method == "post" else 200, path)

    def test_schemathesis_finds_no_fault(self):
        tool = pathlib.Path(sys.executable).with_name("schemathesis")
        if not tool.exists():
            self.fail("the Python package schemathesis is missing: run ./dev deps")
        done = subprocess.run(
            [tool, "run", self.server.url + "/openapi.json", "--checks",
             "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
             "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES, "--seed", "1", "--no-color",
             *(() if LONG else ("--exclude-path-regex", ALIASES)),
             "--request-timeout", "60", "--suppress-health-check", "all"],
            capture_output=True, text=True, timeout=1500, cwd="/tmp",
            env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/comet-hypothesis"})
        self.assertEqual(done.returncode, 0, done.stdout[-6000:] + done.stderr[-2000:])
        print(done.stdout[-800:], flush=True)


if __name__ == "__main__":
    serving.main()

#!/usr/bin/env python3
"""The real openai Python package against `comet serve`: typed answers, streams, n, log-probabilities, stop, errors.

Runs in the virtual environment that `./dev deps` makes from tests/requirements.txt.
"""
import asyncio
import math
import os
import sys
import tempfile
import unittest

import serving

try:
    import openai
except ImportError:
    sys.exit("the Python package openai is missing: run ./dev deps")

GREEDY = {"temperature": 0, "extra_body": {"ignore_eos": True}}
HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tell me of rivers."}]


class Completions(serving.Case):
    FLAGS = ("--api-key", "secret-key")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.client = openai.OpenAI(base_url=cls.server.url + "/v1", api_key="secret-key", max_retries=0)
        key = {"Authorization": "Bearer secret-key"}
        plain = cls.server.request
        cls.server.request = lambda *a, headers=None, **k: plain(*a, headers={**key, **(headers or {})}, **k)

    def create(self, prompt="The history of", **fields):
        return self.client.completions.create(model=serving.MODEL, prompt=prompt, **{"max_tokens": 12, **GREEDY, **fields})

    def test_whole(self):
        answer = self.create()
        self.assertEqual(answer.object, "text_completion")
        self.assertEqual(answer.model, serving.MODEL)
        self.assertEqual(len(answer.choices), 1)
        self.assertEqual(answer.choices[0].finish_reason, "length")
        self.assertEqual(answer.usage.completion_tokens, 12)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + 12)
        self.assertTrue(answer.choices[0].text)
        self.assertIsNone(answer.choices[0].logprobs)

    def test_stream_says_the_same(self):
        whole = self.create(max_tokens=40)
        chunks = list(self.create(max_tokens=40, stream=True, stream_options={"include_usage": True}))
        self.assertEqual("".join(c.choices[0].text for c in chunks[:-1]), whole.choices[0].text)
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage, whole.usage)
        self.assertEqual({c.id for c in chunks}, {chunks[0].id})
        self.assertEqual([c.choices[0].finish_reason for c in chunks[:-1] if c.choices[0].finish_reason], ["length"])
        self.assertGreater(len(chunks), 10)

    def test_continuous_usage(self):
        chunks = list(self.create(stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True}))
        counts = [c.usage.completion_tokens for c in chunks]
        self.assertEqual((counts, counts[-1]), (sorted(counts), 12))

    def test_every_form_of_prompt(self):
        text = "The history of"
        ids = self.server.post("/tokenize", {"prompt": text})[1]["tokens"]
        expected = self.create(text).choices[0].text
        self.assertEqual(self.create(ids).choices[0].text, expected)
        for prompts in ([text, "A river"], [ids, ids[:2]]):
            answer = self.create(prompts)
            self.assertEqual([c.index for c in answer.choices], [0, 1])
            self.assertEqual(answer.choices[0].text, expected)
        self.assertEqual(self.server.post("/detokenize", {"tokens": ids[1:]})[1]["prompt"], text)

    def test_n_choices_of_a_seed(self):
        fields = {"temperature": 1, "seed": 7, "n": 4}
        answer = self.create(**fields)
        texts = [c.text for c in answer.choices]
        self.assertEqual([c.index for c in answer.choices], [0, 1, 2, 3])
        self.assertGreater(len(set(texts)), 1)
        self.assertEqual(answer.usage.completion_tokens, 48)
        self.assertEqual([c.text for c in self.create(**fields).choices], texts)
        self.assertEqual(self.create(**{**fields, "n": 1}).choices[0].text, texts[0])
        streamed = [""] * 4
        for chunk in self.create(**fields, stream=True):
            streamed[chunk.choices[0].index] += chunk.choices[0].text
        self.assertEqual(streamed, texts)

    def test_stop(self):
        whole = self.create(max_tokens=60).choices[0].text
        stop = whole[20:25]
        answer = self.create(max_tokens=60, stop=[stop, "never in there"])
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertEqual(answer.choices[0].text, whole[: whole.index(stop)])
        streamed = "".join(c.choices[0].text for c in self.create(max_tokens=60, stop=stop, stream=True))
        self.assertEqual(streamed, answer.choices[0].text)

    def test_logprobs_and_echo_as_lm_eval_asks(self):
        ids = self.server.post("/tokenize", {"prompt": "The history of the world"})[1]["tokens"]
        answer = self.create([ids, ids[:4]], echo=True, logprobs=1, max_tokens=1, seed=1234)
        for choice, length in zip(answer.choices, (len(ids), 4)):
            logprobs = choice.logprobs
            self.assertEqual(len(logprobs.tokens), length + 1)
            self.assertIsNone(logprobs.token_logprobs[0])
            self.assertTrue(all(x <= 0 and math.isfinite(x) for x in logprobs.token_logprobs[1:]))
            for token, logprob, top in zip(logprobs.tokens[1:], logprobs.token_logprobs[1:], logprobs.top_logprobs[1:]):
                self.assertLessEqual(logprob, max(top.values()))
                self.assertIn(token, top)
            self.assertEqual(logprobs.text_offset, sorted(logprobs.text_offset))
            self.assertTrue(choice.text.startswith("The"))
        only = self.create(ids, echo=True, logprobs=1, max_tokens=0).choices[0]
        self.assertEqual(only.logprobs.token_logprobs, answer.choices[0].logprobs.token_logprobs[:-1])

    def test_chat(self):
        fields = {"model": serving.MODEL, "messages": HELLO, "max_tokens": 20, "logprobs": True, "top_logprobs": 3, **GREEDY}
        answer = self.client.chat.completions.create(**fields)
        message = answer.choices[0].message
        self.assertEqual((answer.object, message.role), ("chat.completion", "assistant"))
        content = answer.choices[0].logprobs.content
        self.assertEqual(len(content), 20)
        self.assertEqual(b"".join(bytes(t.bytes) for t in content).decode(errors="replace"), message.content)
        for token in content:
            self.assertEqual(len(token.top_logprobs), 3)
            self.assertAlmostEqual(token.top_logprobs[0].logprob, token.logprob, places=4)  # greedy
        chunks = list(self.client.chat.completions.create(**fields, stream=True))
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertTrue(all(c.choices[0].delta.role is None for c in chunks[1:]))
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks), message.content)
        self.assertEqual(chunks[-1].choices[0].finish_reason, "length")
        self.assertIsNone(chunks[-1].choices[0].delta.content)

    def test_chat_stream_accumulator_of_the_package(self):
        with self.client.chat.completions.stream(model=serving.MODEL, messages=HELLO, max_tokens=10, **GREEDY) as stream:
            for _ in stream:
                final = stream.current_completion_snapshot
        whole = self.client.chat.completions.create(model=serving.MODEL, messages=HELLO, max_tokens=10, **GREEDY)
        self.assertEqual(final.choices[0].message.content, whole.choices[0].message.content)

    def test_chat_is_the_template_of_the_model(self):
        text = ("<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
                "<|start_header_id|>user<|end_header_id|>\n\nTell me of rivers.<|eot_id|>"
                "<|start_header_id|>assistant<|end_header_id|>\n\n")
        by_template = self.server.post("/tokenize", {"messages": HELLO})[1]["tokens"]
        by_hand = self.server.post("/tokenize", {"prompt": text, "add_special_tokens": False})[1]["tokens"]
        self.assertEqual(by_template, by_hand)

    def test_models(self):
        models = self.client.models.list().data
        self.assertEqual([m.id for m in models], [serving.MODEL])
        self.assertEqual(self.client.models.retrieve(serving.MODEL).object, "model")

    def test_typed_errors(self):
        for fields, kind in (({"max_tokens": -1}, openai.BadRequestError), ({"prompt": [5] * 2000}, openai.BadRequestError)):
            with self.assertRaises(kind) as caught:
                self.create(**fields)
            self.assertEqual(caught.exception.type, "invalid_request_error")
            self.assertTrue(caught.exception.param)
            self.assertTrue(caught.exception.request_id)
        with self.assertRaises(openai.NotFoundError) as caught:
            self.client.completions.create(model="other", prompt="x")
        self.assertEqual(caught.exception.code, "model_not_found")
        with self.assertRaises(openai.AuthenticationError):
            openai.OpenAI(base_url=self.server.url + "/v1", api_key="wrong", max_retries=0).models.list()

    def test_sixteen_async_streams_share_the_batch(self):
        before = self.server.metrics()

        async def one(client, i):
            stream = await client.completions.create(model=serving.MODEL, prompt=f"Number {i} is", max_tokens=64,
                                                     stream=True, **GREEDY)
            return "".join([chunk.choices[0].text async for chunk in stream])

        async def all_of_them():
            async with openai.AsyncOpenAI(base_url=self.server.url + "/v1", api_key="secret-key") as client:
                return await asyncio.gather(*(one(client, i) for i in range(16)))

        texts = asyncio.run(all_of_them())
        after = self.server.metrics()
        tokens = after["comet:generation_tokens_total"] - before["comet:generation_tokens_total"]
        steps = after["comet:engine_steps_total"] - before["comet:engine_steps_total"]
        self.assertEqual(tokens, 16 * 64)
        self.assertGreater(tokens / steps, 4, "tokens a step: the mean batch")
        # The batch changes nothing: each alone says the same.
        for i in (0, 15):
            self.assertEqual(self.create(f"Number {i} is", max_tokens=64).choices[0].text, texts[i])


class EndOfTurn(unittest.TestCase):
    """A model whose configuration does not count the template's end of turn among its ends of text."""

    def test_ends_a_chat(self):
        with tempfile.TemporaryDirectory() as folder:
            for file in serving.DEMO.iterdir():
                os.symlink(file, f"{folder}/{file.name}")
            os.remove(f"{folder}/generation_config.json")
            server = serving.Server(model=(folder,))
            self.addCleanup(server.stop)
            [turn_end] = server.post("/tokenize", {"prompt": "<|eot_id|>", "add_special_tokens": False})[1]["tokens"]
            client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
            fields = {"model": client.models.list().data[0].id, "max_tokens": 5, "temperature": 0,
                      "logit_bias": {str(turn_end): 100}}
            answer = client.chat.completions.create(messages=HELLO, **fields)
            self.assertEqual((answer.choices[0].finish_reason, answer.choices[0].message.content), ("stop", ""))
            for goes_on in (client.chat.completions.create(messages=HELLO, extra_body={"ignore_eos": True}, **fields),
                            client.completions.create(prompt="The", **fields)):
                self.assertEqual(goes_on.choices[0].finish_reason, "length")


if __name__ == "__main__":
    serving.main()

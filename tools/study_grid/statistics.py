"""Paired statistics over windows: the same tokens scored by two models."""
import math


def t_quantile(df):
    """The two-sided 95 % point of Student's t: expansion in 1/df, good to 0.1 % from df = 4."""
    z = 1.959964
    terms = [z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
             (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160]
    return sum(term / df**i for i, term in enumerate(terms))


def mean_interval(sums, counts):
    """Mean of Σ sums / Σ counts and its 95 % interval; the units (windows) are of unequal size (ratio estimator)."""
    n, total = len(sums), sum(counts)
    mean = sum(sums) / total
    if n < 2:
        return mean, -math.inf, math.inf
    squares = sum((s - mean * c) ** 2 for s, c in zip(sums, counts))
    half = t_quantile(n - 1) * math.sqrt(squares * n / (n - 1)) / total
    return mean, mean - half, mean + half


def percent(log_ratio):
    """A difference of mean log-perplexities as percent of perplexity."""
    return 100 * math.expm1(min(log_ratio, 700))


def loss(windows, base):
    """Percent of perplexity that `windows` lies above `base`, with its paired 95 % interval."""
    if windows["num_tokens"] != base["num_tokens"]:
        raise SystemExit("two rows were scored on different windows: run both with the same --num-tokens")
    sums = [b - a for a, b in zip(windows["log_prob_sum"], base["log_prob_sum"])]
    return [percent(x) for x in mean_interval(sums, windows["num_tokens"])]


def self_test():
    assert abs(t_quantile(4) - 2.7764) < 0.003 and abs(t_quantile(5) - 2.5706) < 0.001 and abs(t_quantile(75) - 1.9921) < 1e-4
    mean, low, high = mean_interval([1.0, 2.0, 3.0, 4.0] * 5, [1] * 20)
    assert abs(mean - 2.5) < 1e-12 and abs((high - low) / 2 - 2.0930 * 1.14708 / math.sqrt(20)) < 1e-3
    base = {"log_prob_sum": [-10.0, -20.0], "num_tokens": [5, 10]}
    same = loss(base, base)
    worse = loss({"log_prob_sum": [-11.0, -22.0], "num_tokens": [5, 10]}, base)
    assert same == [0, 0, 0] and abs(worse[0] - percent(0.2)) < 1e-9 and worse[1] <= worse[0] <= worse[2]

#!/usr/bin/env bash
# ./dev demo: quantizes the bundled model to W8A8-FP, W8A8-INT, W4A16 and with three recipes of
# W4AxKV4, compares them with BF16 in one table, and lets the 4-bit model write a few lines.
# Everything it makes is under build/demo.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly COMET=build/bin/comet
readonly MODEL=models/demo
readonly HELDOUT=$MODEL/heldout.txt
readonly OUT=build/demo
readonly NUM_EVAL_TOKENS=16384
readonly FORMATS=(w8a8-fp8 w8a8-int w4a16)
readonly RECIPES=(fmpq w4a8 naive)
readonly PROMPT="The history of astronomy began"

step() { printf '\n== %s\n' "$*"; }

quantize() {  # name and the flags of a format
  "$COMET" quantize "$MODEL" -o "$OUT/$1" "${@:2}" \
    --calib "$MODEL/calibration.txt" --calib-samples 32 --calib-length 512 --force \
    >"$OUT/$1.quantize.txt"
}

measure() {  # name model: perplexity, and the decode speed of one request, three times
  step "measuring $1: $NUM_EVAL_TOKENS held-out tokens, then three short generations"
  "$COMET" eval "$2" --tasks "text:$HELDOUT" --num-tokens "$NUM_EVAL_TOKENS" \
    --json "$OUT/$1.eval.json" >/dev/null
  local run
  for run in 1 2 3; do
    "$COMET" generate "$2" -p "$PROMPT" -n 256 --temperature 0 --ignore-eos \
      --json "$OUT/$1.speed$run.json" --quiet >/dev/null
  done
}

main() {
  [[ -x $COMET ]] || { echo "demo: $COMET is missing; run ./dev demo" >&2; exit 1; }
  mkdir -p "$OUT"
  local format recipe
  for format in "${FORMATS[@]}"; do
    step "quantizing to $format"
    quantize "$format" --format "$format"
  done
  for recipe in "${RECIPES[@]}"; do
    step "quantizing to W4AxKV4, recipe $recipe (32 x 512 calibration tokens)"
    quantize "$recipe" --format w4ax --recipe "$recipe" --kv kv4
  done
  measure bf16 "$MODEL"
  for format in "${FORMATS[@]}" "${RECIPES[@]}"; do measure "$format" "$OUT/$format"; done
  echo
  python3 tools/demo_table.py "$OUT" "$MODEL"
  step "the 4-bit model (w4a8) continues a text"
  printf '%s' "$PROMPT"
  "$COMET" generate "$OUT/w4a8" -p "$PROMPT" -n 60 --temperature 0.7 --seed 7 --log-level warning
  say_next
}

say_next() {
  step "next"
  if "$COMET" --help | grep -qE "^ +serve "; then
    echo "  $COMET serve $OUT/w4a8                            serve it to any OpenAI client"
  fi
  cat <<TEXT
  $COMET generate $OUT/w4a8 -p "Once upon a time"   let it write
  $COMET info $OUT/w4a8                             what it is made of, and what runs it
  $COMET quantize MODEL -o OUT --format w4ax              a model of yours
TEXT
}

main

#!/usr/bin/env bash
# ./dev bench: kernels and throughput on this machine; one dated JSON file each under
# bench/results/<machine>/, to be committed with the claim that they support.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly COMET=build/bin/comet

machine_name() {  # "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", 2 cores -> xeon-platinum-8481c-x2
  local name
  name=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
  name=$(sed -E 's/\((R|TM)\)//g; s/ CPU.*| Processor.*| @.*//; s/^(Intel|AMD) //' <<<"$name")
  echo "${name:-cpu}-x$(nproc)" | tr 'A-Z ' 'a-z-' | tr -s '-'
}

available_isas() {  # the two that docs/kernels speaks of, where this machine has them
  local isa
  for isa in avx512vnni avx2; do
    if COMET_CPU=$isa "$COMET" info models/demo --quiet 2>/dev/null; then echo "$isa"; fi
  done
}

throughput() {  # isa name flags...: one stream's decode, then the time of a 512-token prompt
  local shape=(--synthetic llama3.2-1b --requests 1)
  COMET_CPU=$1 "$COMET" bench throughput "${shape[@]}" "${@:3}" --input-len 16 --output-len 32 --json "$2.json"
  COMET_CPU=$1 "$COMET" bench throughput "${shape[@]}" "${@:3}" --input-len 512 --output-len 1 --json "$2-prefill.json"
}

main() {
  local out prefix
  out=bench/results/$(machine_name)
  prefix=$out/$(date -u +%F)
  mkdir -p "$out"
  echo "== CPU GEMM kernels -> $prefix-gemm.json"
  "$COMET" bench gemm --json "$prefix-gemm.json" "$@"
  echo "== throughput of the LLaMA-3.2-1B shape -> $prefix-throughput.json"
  local runs isa
  runs=$(mktemp -d)
  for isa in $(available_isas); do
    throughput "$isa" "$runs/$isa-bf16" --format bf16
    throughput "$isa" "$runs/$isa-w4a8" --format w4ax --recipe w4a8
    throughput "$isa" "$runs/$isa-w4a8-int8head" --format w4ax --recipe w4a8 --lm-head int8
    throughput "$isa" "$runs/$isa-fmpq" --format w4ax --recipe fmpq
  done
  python3 -c 'import json, sys
print(json.dumps([json.load(open(path)) for path in sys.argv[1:]], indent=1))' "$runs"/*.json >"$prefix-throughput.json"
  rm -rf "$runs"
}

main "$@"

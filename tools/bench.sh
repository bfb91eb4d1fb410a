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

main() {
  local out prefix
  out=bench/results/$(machine_name)
  prefix=$out/$(date -u +%F)
  mkdir -p "$out"
  echo "== CPU GEMM kernels -> $prefix-gemm.json"
  "$COMET" bench gemm --json "$prefix-gemm.json" "$@"
  echo "== throughput of the bundled model -> $prefix-throughput.json"
  "$COMET" bench throughput models/demo --requests 8 --input-len 128 --output-len 128 \
    --json "$prefix-throughput.json"
}

main "$@"

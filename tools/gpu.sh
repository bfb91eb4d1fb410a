#!/usr/bin/env bash
# ./dev gpu pack|test|sanitize|bench: what runs on a GPU machine that has a driver and little else.
#   pack [FOLDER]      here: from the programs in FOLDER (default build/bin), build/gpu/comet-gpu.tar.xz:
#                      stripped programs and the tests' data, at most 18 MiB
#   test [FILTER]      there: comet_gpu_test, its tests by name (gtest's filter)
#   sanitize [FILTER]  there: the same under compute-sanitizer's memcheck and racecheck, small shapes;
#                      COMPUTE_SANITIZER names another one than PATH's (docs/kernels/sanitizers.md says why)
#   bench [NAME...]    there: ops, gemm, attention, throughput (all without a name), perplexity (CPU against
#                      GPU), sdpa (PyTorch's attention beside ours)
# There means: in the checkout after ./dev build, or in the unpacked bundle. Each takes less than 9 minutes
# and leaves JSON in bench/results/<card>/ (or in the folder that GPU_RESULTS names).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly MAX_PACK_BYTES=$((18 * 1024 * 1024))
readonly LIMIT_S=530
# racecheck is 100 times slower: tests called Small have each kernel of their family with few CTAs; the others
# here are small by themselves. No wished failure, and no test without a kernel: the tool takes it for a failure.
readonly SANITIZE_FILTER="*Small*:CudaDevice.Memory*:CudaDevice.AGraph*:FillCuda.*:OpTableCuda.*:OpsCuda.*:\
ProducerCuda.*:DenseCuda.*:W4a16CudaBackend.*:W4a16Cuda.Blocks*:W4a16Cuda.Gather*:W4a16Cuda.Extremes:\
AppendCuda.*:AppendDecodeCuda.Bits*:KvBackendCuda.S*:DecodeCuda.Empty*:DeviceSamplerTest.Extremes*:\
Shapes/MixerCuda.*"
# Kernels of cuBLAS, by parts of their names: not ours to check.
readonly LIBRARY_KERNELS=nvjet,cublas,cutlass,xmma,gemvx,gemv2
readonly PACKED_DATA=(models/demo/config.json models/demo/generation_config.json models/demo/heldout.txt
  models/demo/tokenizer.json models/demo/tokenizer_config.json models/demo/calibration.txt tests/data/llama
  tools/gpu tools/gpu.sh)

fail() { printf 'gpu: %s\n' "$*" >&2; exit 1; }
say() { printf '\n== %s\n' "$*"; }

program() {  # name: its path in the bundle or the build
  local path
  for path in "bin/$1" "build/bin/$1"; do
    if [[ -x $path ]]; then echo "$path"; return; fi
  done
  fail "no $1 in bin/ or build/bin/; ./dev build, or unpack comet-gpu.tar.xz here"
}

card() {  # "NVIDIA H200" -> h200
  local name
  name=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1) || true
  [[ -n $name ]] || fail "nvidia-smi names no GPU: this needs a machine with one"
  sed 's/^NVIDIA //' <<<"$name" | tr 'A-Z ' 'a-z-'
}

results() {  # the prefix of result files
  local folder
  folder=${GPU_RESULTS:-bench/results/$(card)}
  mkdir -p "$folder"
  echo "$folder/$(date -u +%F)"
}

# Tests name their data by the path of the checkout that they were built in.
link_source_folder() {
  local built_in
  built_in=$(strings -a "$(program comet_gpu_test)" | sed -n 's|^\(/.*\)/models/demo$|\1|p' | head -n 1) || true
  if [[ -n $built_in && ! -e $built_in ]]; then
    mkdir -p "$(dirname "$built_in")" && ln -s "$PWD" "$built_in" || true
  fi
}

pack() {
  local from=${1:-build/bin} folder=build/gpu/bundle archive=build/gpu/comet-gpu.tar.xz name path bytes
  rm -rf "$folder"
  mkdir -p "$folder/bin"
  for name in comet comet_gpu_test; do
    [[ -x $from/$name ]] || fail "no $from/$name: ./dev build with nvcc first"
    strip -o "$folder/bin/$name" "$from/$name"
  done
  for path in "${PACKED_DATA[@]}"; do
    mkdir -p "$folder/$(dirname "$path")"
    cp -r "$path" "$folder/$path"
  done
  tar -C "$folder" -cf - . | xz -T0 -9 >"$archive"
  bytes=$(stat -c %s "$archive")
  say "$archive: $((bytes / 1024)) KiB; unpack it in an empty folder there, add models/demo/model.safetensors"
  [[ $bytes -le $MAX_PACK_BYTES ]] || fail "$archive has $bytes bytes, more than $MAX_PACK_BYTES"
}

run_tests() {
  local prefix status=0
  prefix=$(results)
  link_source_folder
  say "GPU tests -> $prefix-gpu-test.json"
  timeout -k 5 "$LIMIT_S" "$(program comet_gpu_test)" --gtest_brief=1 --gtest_filter="${1:-*}" \
    --gtest_output="json:$prefix-gpu-test.json" || status=$?
  [[ $status -eq 0 ]] || fail "comet_gpu_test ended with $status (124: out of time)"
}

sanitizer_path() {
  local path=${COMPUTE_SANITIZER:-$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)}
  [[ -x $path ]] || fail "no compute-sanitizer in COMPUTE_SANITIZER, on PATH or in /usr/local/cuda/bin"
  echo "$path"
}

sanitize() {
  local prefix tool failed=0 filter=${1:-$SANITIZE_FILTER} sanitizer
  prefix=$(results)
  link_source_folder
  sanitizer=$(sanitizer_path)
  for tool in memcheck racecheck; do
    say "$tool -> $prefix-sanitize-$tool.json"
    timeout -k 5 $((LIMIT_S / 2)) python3 tools/gpu/sanitize.py --sanitizer "$sanitizer" --tool "$tool" \
      --program "$(program comet_gpu_test)" --filter "$filter" --exclude-kernels "$LIBRARY_KERNELS" \
      --json "$prefix-sanitize-$tool.json" || failed=1
  done
  [[ $failed -eq 0 ]] || fail "findings, or out of time: see $prefix-sanitize-*.json"
}

one_bench() {  # name seconds arguments...
  local prefix=$PREFIX
  say "bench $1 -> $prefix-$1.json"
  timeout -k 5 "$2" "$(program comet)" bench "${@:3}" --device cuda --json "$prefix-$1.json" ||
    echo "gpu: bench $1 ended with $?" >&2
}

bench() {
  local names=("$@") name
  [[ ${#names[@]} -gt 0 ]] || names=(ops gemm attention throughput)
  PREFIX=$(results)
  for name in "${names[@]}"; do
    case $name in
      ops) one_bench ops 60 ops ;;
      gemm) one_bench gemm 180 gemm --shapes llama3-8b --m 1,16,64,256,1024,4096 \
        --format dense,w8a8-fp8,w8a8-int,w4a16,w4ax ;;
      attention) one_bench attention 90 attention ;;
      throughput)
        one_bench throughput-bf16 100 throughput --synthetic llama3-8b --requests 256 --input-len 1024 --output-len 512
        one_bench throughput-fp8 100 throughput --synthetic llama3-8b --format w8a8-fp8 --requests 256 \
          --input-len 1024 --output-len 512
        ;;
      perplexity | sdpa)
        say "bench $name -> $PREFIX-$name.json"
        timeout -k 5 300 python3 "tools/gpu/$name.py" --comet "$(program comet)" --json "$PREFIX-$name.json" ||
          fail "bench $name ended with $?"
        ;;
      *) fail "bench $name: expected ops, gemm, attention, throughput, perplexity or sdpa" ;;
    esac
  done
}

case ${1:-} in
  pack) pack "${@:2}" ;;
  test) run_tests "${@:2}" ;;
  sanitize) sanitize "${@:2}" ;;
  bench) bench "${@:2}" ;;
  *) fail "usage: ./dev gpu pack [FOLDER] | test [FILTER] | sanitize [FILTER] | bench [NAME...]" ;;
esac

#!/usr/bin/env bash
# Installs Comet, builds examples/outside_project against the installed package, and runs it.
# usage: outside_project_test.sh SOURCE_DIR BUILD_DIR
set -euo pipefail
source_dir=$1 build_dir=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build_dir" --prefix "$work/prefix" >/dev/null
for file in bin/comet share/comet/calibration.txt include/comet/base/result.h; do
  [[ -f $work/prefix/$file ]] || { echo "not installed: $file"; exit 1; }
done
cmake -G Ninja -S "$source_dir/examples/outside_project" -B "$work/build" \
  -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
cmake --build "$work/build"
output=$("$work/build/tokenize" "$source_dir/models/demo" "Hello, world")
echo "$output"
[[ $output == "LlamaForCausalLM: 7 layers, hidden 384"*"<|begin_of_text|>"*" world'" ]]

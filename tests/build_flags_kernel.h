// One product and sum, compiled with the flags of the AVX2 files, where g++ could contract it to an
// FMA instruction. Called by build_flags_test.cpp on machines that have it.
#pragma once

namespace comet {

float multiply_add_avx2(float a, float b, float c);

}  // namespace comet

#include "comet/ops/training_rows_simd.h"

namespace comet {

const TrainingRows kTrainingRowsAvx512 = kTrainingRowsOfThisFile;

}  // namespace comet

#include "comet/ops/training_rows_simd.h"

namespace comet {

const TrainingRows kTrainingRowsAvx2 = kTrainingRowsOfThisFile;

}  // namespace comet

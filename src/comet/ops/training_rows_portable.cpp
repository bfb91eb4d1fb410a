#include "comet/ops/training_rows_simd.h"

namespace comet {

const TrainingRows kTrainingRowsPortable = kTrainingRowsOfThisFile;

}  // namespace comet

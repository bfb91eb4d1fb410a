#include "comet/ops/training_rows.h"

#include "comet/device/device.h"

namespace comet {

const TrainingRows& training_rows(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kPortable:
      return kTrainingRowsPortable;
    case CpuIsa::kAvx2:
      return kTrainingRowsAvx2;
    case CpuIsa::kAvx512:
    case CpuIsa::kAvx512Vnni:  // adds integer products only
      return kTrainingRowsAvx512;
  }
  return kTrainingRowsPortable;
}

}  // namespace comet

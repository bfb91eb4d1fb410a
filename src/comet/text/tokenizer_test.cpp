#include "comet/text/tokenizer.h"
#include <gtest/gtest.h>
TEST(Tokenizer, Placeholder) {}

#include "comet/study/tasks/code/sandbox.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "comet/study/tasks/readers.h"
#include "support/temporary_folder.h"

namespace comet::study {
namespace {

class SandboxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = Sandbox::create(/*without_namespaces=*/false);
    if (!made) GTEST_SKIP() << made.error().message;
    sandbox_.emplace(*std::move(made));
  }
  ProgramOutcome run(std::string_view program) { return sandbox_->run(program).value(); }

  std::optional<Sandbox> sandbox_;
};

TEST_F(SandboxTest, PassesWhatReachesItsEnd) {
  EXPECT_EQ(run("def f(x):\n    return x + 1\n\nassert f(1) == 2"), ProgramOutcome::kPassed);
  EXPECT_EQ(run("print('x' * 1000000)\nimport math\nassert math.pi > 3"), ProgramOutcome::kPassed);
  EXPECT_EQ(run("s = 'caf\xC3\xA9'\nassert len(s) == 4"), ProgramOutcome::kPassed);
  EXPECT_EQ(run("open('own.txt', 'w').write('x')\nassert open('own.txt').read() == 'x'"),
            ProgramOutcome::kPassed);
}

TEST_F(SandboxTest, FailsEverythingElse) {
  for (const char* program : {"assert 1 == 2", "def f(:", "raise SystemExit(0)",
                              "import os; os._exit(0)", "import sys; sys.exit()", "x = '''",
                              "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"}) {
    EXPECT_EQ(run(program), ProgramOutcome::kFailed) << program;
  }
}

TEST_F(SandboxTest, ReachesNoNetworkNoFileAndNoProcess) {
  const testing::TemporaryFolder folder;
  const std::string path = folder.write("mine.txt", "mine");
  // Each of these must not succeed.
  const std::vector<std::string> programs{
      "import socket\nsocket.create_connection(('127.0.0.1', 22), 1)",
      "import socket\ns = socket.socket()\ns.connect(('1.1.1.1', 80))",
      fmt::format("open('{}', 'w')", path),
      fmt::format("import os\nos.remove('{}')", path),
      fmt::format("import os\nos.kill({}, 0)", ::getpid()),
      fmt::format("import os\nos.mkdir('{}/more')", folder.path()),
      "import ctypes\nassert ctypes.CDLL(None).umount2(b'/tmp', 2) == 0"};
  for (const std::string& program : programs) {
    EXPECT_EQ(run(program), ProgramOutcome::kFailed) << program;
  }
  EXPECT_EQ(folder.read("mine.txt"), "mine");
  EXPECT_FALSE(std::filesystem::exists(folder.file("more")));
}

TEST_F(SandboxTest, LimitsMemoryFilesProcessesAndTime) {
  EXPECT_EQ(run("x = bytearray(2 << 30)"), ProgramOutcome::kFailed);
  EXPECT_EQ(run("open('big', 'wb').write(bytes(4 << 20))"), ProgramOutcome::kFailed);
  const auto impatient =
      Sandbox::create(false, {.wall_s = 1.0, .cpu_s = 30, .num_processes = 4}).value();
  EXPECT_EQ(impatient.run("while True: pass").value(), ProgramOutcome::kTimedOut);
  EXPECT_EQ(impatient.run("import time\ntime.sleep(1000)").value(), ProgramOutcome::kTimedOut);
  EXPECT_EQ(
      impatient.run("import os\nif os.fork() == 0:\n    os.setsid()\nimport time\ntime.sleep(1000)")
          .value(),
      ProgramOutcome::kTimedOut);
}

TEST_F(SandboxTest, LeavesNothingBehind) {
  const testing::TemporaryFolder folder;  // of its own: other tests run programs at the same time
  setenv("TMPDIR", folder.path().c_str(), 1);
  // A process that leaves its session would hold the pipe open after its parent's end.
  EXPECT_EQ(run("import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\n    "
                "os._exit(0)\nopen('kept', 'w').write('x')"),
            ProgramOutcome::kPassed);
  unsetenv("TMPDIR");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST_F(SandboxTest, HumanevalsOwnSolutionsPass) {
  const std::string path = COMET_SOURCE_DIR "/../shared/data/eval/humaneval/HumanEval.jsonl.gz";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here";
  const auto rows = read_rows(path).value();
  ASSERT_EQ(rows.size(), 164U);
  for (size_t i = 0; i < rows.size(); i += 8) {  // all take twenty seconds
    const auto document = read_humaneval(rows[i]).value();
    const std::string solution = rows[i].text("canonical_solution").value();
    EXPECT_EQ(run(fmt::format("{}{}\n{}", document.text, solution, document.target)),
              ProgramOutcome::kPassed)
        << i;
    EXPECT_EQ(run(fmt::format("{}    pass\n{}", document.text, document.target)),
              ProgramOutcome::kFailed)
        << i;
  }
}

TEST(Sandbox, WithoutNamespacesTheLimitsStay) {
  // Where namespaces are permitted they are used even then; either way programs run.
  auto sandbox = Sandbox::create(/*without_namespaces=*/true);
  if (!sandbox) GTEST_SKIP() << sandbox.error().message;
  EXPECT_EQ(sandbox->run("assert True").value(), ProgramOutcome::kPassed);
  EXPECT_EQ(sandbox->run("assert False").value(), ProgramOutcome::kFailed);
}

}  // namespace
}  // namespace comet::study

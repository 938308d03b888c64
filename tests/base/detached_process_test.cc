// What a detached process has of the one that started it: by what the kernel says of a real one.
#include "server/base/detached_process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace orch {
namespace {

using ::testing::HasSubstr;

class DetachedProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "orchd-detached-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // What the program writes to its stdout and stderr, once it has ended well.
  std::string Said(DetachedProcess& process, const std::vector<std::string>& words,
                   const std::vector<std::string>* environment) {
    const std::string out = folder_ + "/out";
    process.Open(1, out, O_WRONLY | O_CREAT | O_TRUNC, 0600).Duplicate(1, 2).CloseFrom(3);
    pid_t pid = 0;
    EXPECT_EQ(process.Start(words, environment, &pid), 0);
    int status = -1;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
    pid_ = pid;
    std::stringstream text;
    text << std::ifstream(out).rdbuf();
    return text.str();
  }

  std::string folder_;
  pid_t pid_ = 0;
};

TEST_F(DetachedProcessTest, NoSignalIsBlockedOrIgnored) {
  sigset_t usr1, before;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &usr1, &before), 0);
  const auto ignored = signal(SIGUSR2, SIG_IGN);
  DetachedProcess process;
  const std::string said = Said(process, {"/bin/cat", "/proc/self/status"}, nullptr);
  signal(SIGUSR2, ignored);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  EXPECT_THAT(said, HasSubstr("SigBlk:\t0000000000000000\n"));
  const size_t mask = said.find("SigIgn:\t");
  ASSERT_NE(mask, std::string::npos);
  // 32 and 33 are the C library's own: it lets nobody set them.
  const uint64_t own = uint64_t{1} << 31 | uint64_t{1} << 32;
  EXPECT_EQ(std::stoull(said.substr(mask + 8, 16), nullptr, 16) & ~own, 0u);
}

TEST_F(DetachedProcessTest, ItLeadsASessionOfItsOwn) {
  DetachedProcess process;
  std::istringstream said(Said(process, {"/bin/cat", "/proc/self/stat"}, nullptr));
  std::string pid, name, state, parent, group, session;
  said >> pid >> name >> state >> parent >> group >> session;
  EXPECT_EQ(session, absl::StrCat(pid_));
  EXPECT_NE(session, absl::StrCat(getsid(0)));
}

TEST_F(DetachedProcessTest, OtherDescriptorsAreClosed) {
  const int open_fd = open("/dev/null", O_RDONLY);  // without O_CLOEXEC, as a library might
  ASSERT_GE(open_fd, 3);
  const int high = fcntl(open_fd, F_DUPFD, 400);
  DetachedProcess process;
  const std::string said = Said(process.Open(0, "/dev/null", O_RDONLY), {"/bin/ls", "/proc/self/fd"}, nullptr);
  close(high);
  close(open_fd);
  EXPECT_EQ(said, "0\n1\n2\n3\n");  // 3 is the folder that is listed
}

TEST_F(DetachedProcessTest, TheEnvironmentAndTheFolderAreThoseGiven) {
  const std::vector<std::string> environment = {"A=1", "B=two words"};
  DetachedProcess given;
  EXPECT_EQ(Said(given, {"/usr/bin/env"}, &environment), "A=1\nB=two words\n");
  const std::vector<std::string> none;
  DetachedProcess empty;
  EXPECT_EQ(Said(empty, {"/usr/bin/env"}, &none), "");
  ASSERT_EQ(setenv("ORCH_DETACHED_TEST", "mine", 1), 0);
  DetachedProcess same;
  EXPECT_THAT(Said(same, {"/usr/bin/env"}, nullptr), HasSubstr("ORCH_DETACHED_TEST=mine\n"));
  unsetenv("ORCH_DETACHED_TEST");
  DetachedProcess elsewhere;
  EXPECT_EQ(Said(elsewhere.ChangeFolder("/proc"), {"/bin/pwd"}, &none), "/proc\n");
}

TEST_F(DetachedProcessTest, AProgramThatIsNotThereIsAnError) {
  pid_t pid = 0;
  EXPECT_EQ(DetachedProcess().Start({folder_ + "/nobody"}, nullptr, &pid), ENOENT);
}

}  // namespace
}  // namespace orch

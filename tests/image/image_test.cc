// The pure parts of building images: the recipe's text, what is left out of a folder, an archive that follows from its
// files.
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "client/image/context.h"
#include "client/image/recipe.h"
#include "server/base/status.h"

namespace orch::image {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

TEST(RecipeTest, NoShellSeesAWordOfIt) {
  Recipe recipe;
  recipe.base = "python:3.11-slim";
  recipe.apt_packages = {"git", "libgomp1"};
  recipe.requirements = {"numpy==2.1.0", "scipy; python_version > \"3.8\""};
  recipe.env = {{"B", "say \"$HOME\" \\ twice"}, {"A", "1"}};
  recipe.source = true;
  EXPECT_TRUE(CheckRecipe(recipe).ok());
  EXPECT_EQ(Dockerfile(recipe),
            "FROM python:3.11-slim\n"
            "RUN [\"apt-get\",\"update\"]\n"
            "RUN [\"apt-get\",\"install\",\"-y\",\"--no-install-recommends\",\"git\",\"libgomp1\"]\n"
            "COPY .orch/requirements.txt /.orch/requirements.txt\n"
            "RUN [\"pip\",\"install\",\"--no-cache-dir\",\"-r\",\"/.orch/requirements.txt\"]\n"
            "ENV A=\"1\"\n"
            "ENV B=\"say \\\"\\$HOME\\\" \\\\ twice\"\n"
            "COPY .orch/bin/orch-launch /.orch/bin/orch-launch\n"
            "COPY source /orch/source\n"
            "WORKDIR /orch/source\n");
  EXPECT_EQ(RequirementsText(recipe), "numpy==2.1.0\nscipy; python_version > \"3.8\"\n");
}

TEST(RecipeTest, AllThatIsWrongIsSaid) {
  Recipe recipe;
  recipe.base = "x\nRUN evil";
  recipe.apt_packages = {"good", "-oEvil=1", "a b"};
  recipe.requirements = {"two\nlines"};
  recipe.env = {{"9", "x"}, {"GOOD", "two\nlines"}};
  recipe.platform = "linux amd64";
  EXPECT_THAT(ViolationsOf(CheckRecipe(recipe)), SizeIs(7));
  EXPECT_THAT(ViolationsOf(CheckRecipe(Recipe())), SizeIs(1));
}

TEST(IgnoreRulesTest, TheLastLineDecides) {
  const IgnoreRules rules("# words\n*.log\n/top\ndata/\nsrc/**/cache\n!keep.log\na/*.txt\n");
  for (const char* path : {"x.log", "a/b/x.log", "top", "a/x.txt", "src/cache", "src/a/b/cache"}) {
    EXPECT_TRUE(rules.Ignores(path, false)) << path;
  }
  for (const char* path : {"keep.log", "a/keep.log", "sub/top", "data", "a/b/x.txt", "logs", "cache"}) {
    EXPECT_FALSE(rules.Ignores(path, false)) << path;
  }
  EXPECT_TRUE(rules.Ignores("data", true));
  EXPECT_TRUE(rules.Ignores("a/data", true));
  EXPECT_FALSE(IgnoreRules("").Ignores("x", false));
}

class ContextTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_ / "sub");
    std::ofstream(dir_ / "a.py") << "a";
    std::ofstream(dir_ / "sub/run") << "b";
    chmod((dir_ / "sub/run").c_str(), 0755);
    std::ofstream(dir_ / "x.log") << "no";
    std::filesystem::create_symlink("a.py", dir_ / "link");
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  std::string Made(const std::string& rules = "*.log", int64_t limit = 1000) {
    Context context;
    context.AddFile("Dockerfile", "FROM x\n", false);
    const absl::Status status = context.AddFolder(dir_.string(), "source", IgnoreRules(rules), limit);
    return status.ok() ? context.Finish() : ReasonOf(status);
  }
  const std::filesystem::path dir_ =
      std::filesystem::path(::testing::TempDir()) / ("image-context-" + std::to_string(getpid()));
};

TEST_F(ContextTest, FollowsFromTheFilesAlone) {
  const std::string one = Made();
  EXPECT_EQ(one.size() % 512, 0u);
  EXPECT_THAT(one, HasSubstr("source/sub/run"));
  EXPECT_THAT(one, Not(HasSubstr("x.log")));
  std::filesystem::last_write_time(dir_ / "a.py", std::filesystem::file_time_type::min());
  EXPECT_EQ(Made(), one) << "not from their times";
  std::ofstream(dir_ / "x.log") << "other";
  EXPECT_EQ(Made(), one) << "nor from what is left out";
  chmod((dir_ / "a.py").c_str(), 0755);
  EXPECT_NE(Made(), one);
}

TEST_F(ContextTest, ALimitAtAndPastIt) {
  EXPECT_EQ(Made("*.log", 2).size() % 512, 0u);
  EXPECT_EQ(Made("*.log", 1), "CONTEXT_TOO_LARGE");
  mkfifo((dir_ / "pipe").c_str(), 0600);
  EXPECT_EQ(Made(), "CONTEXT_INVALID");
  std::filesystem::remove_all(dir_);
  EXPECT_EQ(Made(), "NO_SUCH_FOLDER");
}

TEST_F(ContextTest, LongNames) {
  const std::string deep = std::string(60, 'd') + "/" + std::string(60, 'e');
  std::filesystem::create_directories(dir_ / deep);
  std::ofstream(dir_ / deep / "f") << "x";
  EXPECT_THAT(Made(), HasSubstr("path=source/" + deep + "/f\n"));
}

}  // namespace
}  // namespace orch::image
